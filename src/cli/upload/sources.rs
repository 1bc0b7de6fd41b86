//! Where the images of an upload come from: files, standard input, web addresses, and the clipboard. What is no file is
//! read once, before anything is paid, and kept in a file without a name until the command ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use url::Url;

use super::UploadArgs;
use crate::client::clipboard::Clipboard;
use crate::client::fetch::{Bounds, fetch};
use crate::client::{Client, Failure};

/// The largest image that is read; no server accepts a larger one.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// An image to upload.
pub(super) struct Item {
    /// What the user called it, for messages.
    pub(super) name: String,
    content: Content,
}

/// Where the bytes of an image are.
enum Content {
    /// A file of the user.
    Path(PathBuf),
    /// A file without a name, which is gone when this process ends, and its size.
    Held(File, u64),
}

/// What a name on the command line means.
enum Source<'s> {
    Stdin,
    Address(Url),
    Path(&'s Path),
}

/// The images of a run, in the order of the command line; that of the clipboard comes last. Only files are left where
/// they are.
///
/// # Errors
/// [`Failure`] when a file can't be read, an address not fetched, or an image is too large.
pub(super) async fn collect(
    args: &UploadArgs,
    client: &Client<'_>,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Item>, Failure> {
    let sources: Vec<Source> = args.files.iter().map(|name| Source::of(name)).collect();
    let inputs = sources.iter().filter(|it| matches!(it, Source::Stdin));
    if inputs.count() > 1 {
        return Err(Failure::Usage(
            "- is named twice, and standard input holds one image. Name it once.".to_owned(),
        ));
    }
    for source in &sources {
        if let Source::Path(path) = source {
            check(path)?;
        }
    }
    let clipboard = if args.clipboard {
        Some(Clipboard::find(env)?)
    } else {
        None
    };
    let are_files = sources.iter().all(|it| matches!(it, Source::Path(_)));
    let limit = if are_files && clipboard.is_none() {
        MAX_FILE_BYTES
    } else {
        let tier = client.tier(&args.tier).await;
        tier.map_or(MAX_FILE_BYTES, |tier| tier.max_bytes.min(MAX_FILE_BYTES))
    };
    let set_by = format!("the limit of the tier {}", args.tier);
    let mut items = Vec::new();
    for (source, name) in sources.into_iter().zip(&args.files) {
        let name = name.display().to_string();
        items.push(match source {
            Source::Path(path) => Item {
                name,
                content: Content::Path(path.to_owned()),
            },
            Source::Stdin => Item::hold("standard input".to_owned(), &input(limit, &set_by)?)?,
            Source::Address(url) => {
                let bounds = Bounds {
                    most: limit,
                    set_by: &set_by,
                    local: true,
                };
                Item::hold(name, &fetch(&url, bounds, env).await?)?
            }
        });
    }
    if let Some(clipboard) = clipboard {
        let bytes = clipboard.image(limit).await?;
        items.push(Item::hold("the clipboard".to_owned(), &bytes)?);
    }
    Ok(items)
}

impl<'s> Source<'s> {
    fn of(name: &'s Path) -> Self {
        let text = name.to_str().unwrap_or_default();
        if text == "-" {
            return Self::Stdin;
        }
        let is_address = text.starts_with("http://") || text.starts_with("https://");
        match Url::parse(text) {
            Ok(url) if is_address => Self::Address(url),
            _ => Self::Path(name),
        }
    }
}

impl Item {
    fn hold(name: String, bytes: &[u8]) -> Result<Self, Failure> {
        let held = tempfile::tempfile().and_then(|mut file| {
            file.write_all(bytes)?;
            Ok(file)
        });
        let file = held.map_err(|error| {
            Failure::Unexpected(format!(
                "{name} could not be kept in a temporary file: {error}. Check the space in the folder for such files."
            ))
        })?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Self {
            name,
            content: Content::Held(file, size),
        })
    }

    /// Reads the image, of at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub(super) fn read(&self) -> Result<Bytes, Failure> {
        match &self.content {
            Content::Path(path) => read(path),
            Content::Held(file, size) => {
                let mut bytes = vec![0; usize::try_from(*size).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut bytes, 0)
                    .map_err(|error| unreadable(&self.name, &error))?;
                Ok(bytes.into())
            }
        }
    }

    /// The content type that a file's extension suggests. The server detects the format from the bytes; it only requires
    /// a type of the form `image/…`.
    pub(super) fn content_type(&self) -> &'static str {
        let Content::Path(path) = &self.content else {
            return "image/unknown";
        };
        let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        match extension.as_ref().and_then(|text| text.to_str()) {
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("gif") => "image/gif",
            Some("webp") => "image/webp",
            _ => "image/unknown",
        }
    }
}

/// Reads standard input to its end.
fn input(limit: u64, set_by: &str) -> Result<Bytes, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::Usage(
            "Standard input is a terminal, which delivers no image. Pipe an image into the command, or name a file."
                .to_owned(),
        ));
    }
    let mut bytes = Vec::new();
    let mut bounded = stdin.lock().take(limit + 1);
    bounded
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable("standard input", &error))?;
    if bytes.is_empty() {
        return Err(Failure::Usage(
            "Standard input is empty. Pipe an image into the command.".to_owned(),
        ));
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes.into())
    } else {
        Err(Failure::Usage(format!(
            "Standard input is larger than {limit} bytes, {set_by}. Use a smaller image, or a tier with a higher limit."
        )))
    }
}

/// Checks that a file exists, is no directory and is not too large.
fn check(file: &Path) -> Result<(), Failure> {
    let name = file.display().to_string();
    let metadata = file.metadata().map_err(|error| unreadable(&name, &error))?;
    if metadata.is_dir() {
        return Err(Failure::Usage(format!(
            "{name} is a directory; name the image files in it."
        )));
    }
    if metadata.len() > MAX_FILE_BYTES {
        Err(too_large(&name))
    } else {
        Ok(())
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`].
fn read(file: &Path) -> Result<Bytes, Failure> {
    let name = file.display().to_string();
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(&name, &error))?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_FILE_BYTES {
        Err(too_large(&name))
    } else {
        Ok(bytes.into())
    }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::Usage(format!("{name} can't be read: {error}."))
}

fn too_large(name: &str) -> Failure {
    Failure::Usage(format!(
        "{name} is larger than 64 MiB, the most that any server accepts. Make the image smaller."
    ))
}
