//! Reads the files that a tool call names: regular files below the allowed folders, and images alone, so that a model
//! that was talked into it sends nothing else away.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, open, openat};

use crate::client::Failure;
use crate::mcp::plain;

/// The most characters of a path in a message.
const MAX_PATH_CHARS: usize = 200;

/// The folders whose files may be read, without symbolic links in their paths.
#[derive(Debug, Clone)]
pub(super) struct Roots(Vec<PathBuf>);

impl Roots {
    /// These folders, or the working directory where none is given.
    ///
    /// # Errors
    /// If a folder doesn't exist or is none.
    pub(super) fn open(folders: &[PathBuf]) -> anyhow::Result<Self> {
        let here = [PathBuf::from(".")];
        let folders = if folders.is_empty() { &here } else { folders };
        let resolve = |folder: &PathBuf| {
            let name = folder.display();
            let real = folder
                .canonicalize()
                .with_context(|| format!("--root {name} can't be used: name an existing folder"))?;
            anyhow::ensure!(
                real.is_dir(),
                "--root {name} is no folder: name the folder that holds the files"
            );
            Ok(real)
        };
        folders
            .iter()
            .map(resolve)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Reads an image of at most `most` bytes. A relative path begins in the first folder.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the path leads out of the folders, is no regular file, or is larger; or if the file is no
    /// image. Nothing was sent then.
    pub(super) fn read(&self, path: &str, most: u64) -> Result<Bytes, Failure> {
        let shown = plain(path, MAX_PATH_CHARS);
        let wrong = |what: String| Failure::Usage(format!("The path \"{shown}\" {what}"));
        let unreadable = |error: &io::Error| {
            wrong(format!(
                "can't be read: {}. Name an existing file.",
                plain(&error.to_string(), MAX_PATH_CHARS)
            ))
        };
        let outside = || {
            let folders: Vec<String> = self
                .0
                .iter()
                .map(|root| plain(&root.display().to_string(), MAX_PATH_CHARS))
                .collect();
            wrong(format!(
                "is outside of the folders whose files may be uploaded: {}. Name a file in one of them, or ask the user to \
                 allow its folder with --root.",
                folders.join(", ")
            ))
        };
        let first = self.0.first().ok_or_else(outside)?;
        // Whether something exists outside of the folders is nobody's business either.
        let real = match first.join(path).canonicalize() {
            Ok(real) => real,
            Err(error) if self.holds_parent(&first.join(path)) => return Err(unreadable(&error)),
            Err(_) => return Err(outside()),
        };
        let root = self.0.iter().find(|root| real.starts_with(root));
        let root = root.ok_or_else(outside)?;
        let below = real.strip_prefix(root).map_err(|_| outside())?;
        if real.is_dir() {
            return Err(wrong("is a folder. Name an image file in it.".to_owned()));
        }
        let file = open_below(root, below).map_err(|error| unreadable(&error))?;
        let metadata = file.metadata().map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            return Err(wrong(
                "is no regular file, but a device, a pipe or a socket. Name an image file."
                    .to_owned(),
            ));
        }
        let mut bytes = Vec::new();
        let taken = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
        taken.map_err(|error| unreadable(&error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
            return Err(wrong(format!(
                "is larger than {most} bytes, the limit here. Make the image smaller, or name a tier that takes it: see \
                 list_tiers."
            )));
        }
        let bytes = Bytes::from(bytes);
        refuse_no_image(&bytes).map_err(wrong)?;
        Ok(bytes)
    }

    /// Whether the folder of a path is in one of the allowed folders.
    fn holds_parent(&self, path: &Path) -> bool {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        parent.is_some_and(|parent| self.0.iter().any(|root| parent.starts_with(root)))
    }
}

/// Opens a file below a folder without following a symbolic link: `below` had none when it was resolved, so one that is
/// there now was put there meanwhile.
fn open_below(root: &Path, below: &Path) -> io::Result<File> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let last = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut at: OwnedFd = open(root, folder, Mode::empty())?;
    let mut names = below.components().peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = if names.peek().is_some() { folder } else { last };
        at = openat(&at, name, flags, Mode::empty())?;
    }
    Ok(File::from(at))
}

/// Refuses bytes that don't begin as an image does. They are not sent: a text file may hold a secret.
pub(super) fn refuse_no_image(bytes: &[u8]) -> Result<(), String> {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let is_image = is_webp
        || bytes.starts_with(b"\x89PNG\r\n\x1a\n")
        || bytes.starts_with(b"\xff\xd8\xff")
        || bytes.starts_with(b"GIF8");
    if is_image {
        Ok(())
    } else {
        Err(
            "is not a PNG, JPEG, GIF or WebP image, so nothing was sent. Name an image file."
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n1234";

    struct Folders {
        dir: tempfile::TempDir,
        roots: Roots,
    }

    fn folders() -> Folders {
        let dir = tempfile::tempdir().unwrap();
        let allowed = dir.path().join("allowed");
        std::fs::create_dir_all(allowed.join("inner")).unwrap();
        std::fs::write(allowed.join("inner/a.png"), PNG).unwrap();
        std::fs::write(allowed.join("notes.txt"), "a secret").unwrap();
        std::fs::write(dir.path().join("outside.png"), PNG).unwrap();
        symlink(dir.path().join("outside.png"), allowed.join("out.png")).unwrap();
        symlink(dir.path(), allowed.join("up")).unwrap();
        symlink("inner/a.png", allowed.join("in.png")).unwrap();
        let roots = Roots::open(&[allowed]).unwrap();
        Folders { dir, roots }
    }

    #[test]
    fn images_in_the_folders_are_read() {
        let Folders { dir, roots } = folders();
        let absolute = dir.path().join("allowed/inner/a.png");
        for path in [
            "inner/a.png",
            "./inner/../inner/a.png",
            "in.png",
            absolute.to_str().unwrap(),
        ] {
            assert_eq!(roots.read(path, 100).unwrap(), PNG, "{path}");
        }
        assert!(roots.read("inner/a.png", 12).is_ok());
        let large = roots.read("inner/a.png", 11).unwrap_err().to_string();
        assert!(large.contains("larger than 11 bytes"), "{large}");
    }

    #[test]
    fn nothing_else_is_read() {
        let Folders { dir, roots } = folders();
        let absolute = dir.path().join("outside.png");
        for (path, said) in [
            ("../outside.png", "outside of the folders"),
            ("../nothing.png", "outside of the folders"),
            (absolute.to_str().unwrap(), "outside of the folders"),
            ("/etc/passwd", "outside of the folders"),
            ("/nothing/at/all", "outside of the folders"),
            ("out.png", "outside of the folders"),
            ("up/outside.png", "outside of the folders"),
            ("inner", "is a folder"),
            ("", "is a folder"),
            ("inner/none.png", "can't be read"),
            ("notes.txt", "not a PNG"),
            ("a\0b", "can't be read"),
        ] {
            let refused = roots.read(path, 100).unwrap_err();
            assert!(matches!(refused, Failure::Usage(_)));
            let text = refused.to_string();
            assert!(text.contains(said), "{path:?}: {text}");
            assert!(!text.contains("secret") && !text.contains('\0'), "{text}");
        }
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let Folders { dir, roots } = folders();
        let pipe = dir.path().join("allowed/pipe.png");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let text = roots.read("pipe.png", 100).unwrap_err().to_string();
        assert!(text.contains("no regular file"), "{text}");
    }

    #[test]
    fn a_link_that_was_put_there_meanwhile_is_not_followed() {
        let Folders { dir, .. } = folders();
        let root = dir.path().join("allowed").canonicalize().unwrap();
        for path in ["out.png", "up/outside.png", "in.png"] {
            assert!(open_below(&root, Path::new(path)).is_err(), "{path}");
        }
        assert!(open_below(&root, Path::new("inner/a.png")).is_ok());
    }

    #[test]
    fn a_folder_that_does_not_exist_is_no_root() {
        let Folders { dir, .. } = folders();
        for name in ["none", "outside.png"] {
            let refused = Roots::open(&[dir.path().join(name)]).unwrap_err();
            assert!(format!("{refused:#}").contains("--root"), "{refused:#}");
        }
    }
}
