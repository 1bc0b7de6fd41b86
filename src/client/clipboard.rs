//! The desktop's clipboard, by the programs that desktops have for it: `wl-paste` and `wl-copy` on Wayland, `xclip` on
//! X11, `osascript` and `pbcopy` on macOS.
//!
//! A library in this process would not do: on X11 and Wayland the copied text disappears with the process that offers
//! it, and these programs stay in the background for that. They also return an image's own bytes, where libraries
//! return pixels.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Failure;

/// How long a program may take. The owner of a clipboard is another program, which may hang.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a list of types that are read.
const MAX_TYPES_BYTES: u64 = 64 * 1024;
/// The types of images that are taken, the best first.
const TYPES: [&str; 4] = ["image/png", "image/webp", "image/gif", "image/jpeg"];

/// The desktop of the user's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Desktop {
    Wayland,
    X11,
    MacOs,
}

/// The clipboard of the user's session.
#[derive(Debug)]
pub struct Clipboard<'e> {
    desktop: Desktop,
    env: &'e BTreeMap<String, String>,
}

impl<'e> Clipboard<'e> {
    /// The clipboard of the session that the environment names.
    ///
    /// # Errors
    /// [`Failure::Usage`] when there is no desktop session.
    pub fn find(env: &'e BTreeMap<String, String>) -> Result<Self, Failure> {
        let is_set = |name: &str| env.get(name).is_some_and(|value| !value.is_empty());
        let desktop = if is_set("WAYLAND_DISPLAY") {
            Desktop::Wayland
        } else if is_set("DISPLAY") {
            Desktop::X11
        } else if cfg!(target_os = "macos") {
            Desktop::MacOs
        } else {
            return Err(Failure::Usage(
                "There is no clipboard: neither WAYLAND_DISPLAY nor DISPLAY names a desktop session. Give a file, or pipe \
                 the image into pixtoll upload -."
                    .to_owned(),
            ));
        };
        Ok(Self { desktop, env })
    }

    /// The image in the clipboard, as the program that copied it offers it.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the clipboard holds no image or one larger than `most` bytes, or the program for it is
    /// missing.
    pub async fn image(&self, most: u64) -> Result<Bytes, Failure> {
        let bytes = match self.desktop {
            Desktop::Wayland => {
                let types = self.output("wl-paste", &["--list-types"], MAX_TYPES_BYTES);
                let kind = best(&types.await?).ok_or_else(no_image)?;
                let options = ["--no-newline", "--type", kind];
                self.output("wl-paste", &options, most).await?
            }
            Desktop::X11 => {
                let types = ["-selection", "clipboard", "-out", "-target", "TARGETS"];
                let types = self.output("xclip", &types, MAX_TYPES_BYTES);
                let kind = best(&types.await?).ok_or_else(no_image)?;
                let options = ["-selection", "clipboard", "-out", "-target", kind];
                self.output("xclip", &options, most).await?
            }
            Desktop::MacOs => {
                let script = ["-e", "the clipboard as «class PNGf»"];
                // Two digits for each byte, and the words around them.
                let text = self.output(
                    "osascript",
                    &script,
                    most.saturating_mul(2).saturating_add(64),
                );
                decode_apple(&text.await?).ok_or_else(no_image)?
            }
        };
        if bytes.is_empty() {
            return Err(no_image());
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
            Ok(bytes)
        } else {
            Err(too_large(most))
        }
    }

    /// Checks that text can be copied, before anything is paid.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the program for it is missing.
    pub fn check_copy(&self) -> Result<(), Failure> {
        let (program, _) = self.copier();
        let path = self.env.get("PATH").map(String::as_str).unwrap_or_default();
        let mut folders = path.split(':').map(Path::new);
        if folders.any(|folder| folder.join(program).is_file()) {
            Ok(())
        } else {
            Err(missing(program))
        }
    }

    /// Copies text into the clipboard.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when the program for it fails.
    pub async fn copy(&self, text: &str) -> Result<(), Failure> {
        let (program, options) = self.copier();
        let mut child = self
            .command(program, options)
            .stdin(Stdio::piped())
            // The program stays in the background and would keep an inherited pipe open.
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| unusable(program, &error))?;
        let ended = tokio::time::timeout(PATIENCE, feed(&mut child, text)).await;
        let failed = match ended {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => format!("it ended with {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took longer than 10 seconds".to_owned(),
        };
        Err(Failure::Unexpected(format!(
            "The link could not be copied by {program}: {failed}. Copy it from the output."
        )))
    }

    /// The program that copies text, with its options.
    fn copier(&self) -> (&'static str, &'static [&'static str]) {
        match self.desktop {
            Desktop::Wayland => ("wl-copy", &["--type", "text/plain"]),
            Desktop::X11 => ("xclip", &["-selection", "clipboard", "-in"]),
            Desktop::MacOs => ("pbcopy", &[]),
        }
    }

    fn command(&self, program: &str, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(options)
            .env_clear()
            .envs(self.env)
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// At most `most` + 1 bytes of what a program prints.
    async fn output(
        &self,
        program: &'static str,
        options: &[&str],
        most: u64,
    ) -> Result<Bytes, Failure> {
        let mut child = self
            .command(program, options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| unusable(program, &error))?;
        let mut bytes = Vec::new();
        let read = async {
            if let Some(out) = child.stdout.take() {
                let mut out = out.take(most.saturating_add(1));
                out.read_to_end(&mut bytes).await?;
            }
            if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
                // More is not read, so the program would wait for its reader.
                child.start_kill()?;
                return Ok(true);
            }
            child.wait().await.map(|status| status.success())
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(true)) => Ok(bytes.into()),
            // Each of these programs fails when the clipboard is empty or doesn't hold the type.
            Ok(Ok(false)) => Err(no_image()),
            Ok(Err(error)) => Err(unusable(program, &error)),
            Err(_) => Err(Failure::Usage(format!(
                "The clipboard's image did not arrive by {program} within 10 seconds, which is the limit. Copy it again, or \
                 save it to a file."
            ))),
        }
    }
}

async fn feed(child: &mut Child, text: &str) -> io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).await?;
    }
    child.wait().await
}

/// The best type of image in a list with one type per line.
fn best(types: &[u8]) -> Option<&'static str> {
    let types = String::from_utf8_lossy(types);
    TYPES
        .into_iter()
        .find(|kind| types.lines().any(|line| line.trim() == *kind))
}

/// The bytes of an image as `osascript` prints it: `«data PNGf…»` with hexadecimal digits.
fn decode_apple(text: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let digits = text.strip_prefix("«data PNGf")?.strip_suffix('»')?;
    hex::decode(digits).ok().map(Bytes::from)
}

fn no_image() -> Failure {
    Failure::Usage(
        "The clipboard holds no image as PNG, WebP, GIF or JPEG. Copy an image first, or give a file."
            .to_owned(),
    )
}

fn too_large(most: u64) -> Failure {
    Failure::Usage(format!(
        "The clipboard's image is larger than {most} bytes, the limit. Use a smaller image, or a tier with a higher limit."
    ))
}

fn unusable(program: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        missing(program)
    } else {
        Failure::Usage(format!(
            "The clipboard can't be used: {program} does not run ({error}). Give a file instead."
        ))
    }
}

fn missing(program: &str) -> Failure {
    let package = match Path::new(program).to_str() {
        Some("wl-paste" | "wl-copy") => "Install wl-clipboard",
        Some("xclip") => "Install xclip",
        _ => "Install it",
    };
    Failure::Usage(format!(
        "The clipboard needs the program {program}, which is not installed. {package}, or give a file."
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A session with these programs, which are shell scripts.
    struct Session {
        folder: tempfile::TempDir,
        env: BTreeMap<String, String>,
    }

    impl Session {
        fn new(display: &str, programs: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, script) in programs {
                let path = folder.path().join(name);
                std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            let path = format!("{}:/usr/bin:/bin", folder.path().display());
            let env = [("PATH", path.as_str()), (display, ":0")];
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Self {
                folder,
                env: env.into(),
            }
        }

        async fn image(&self, most: u64) -> Result<Bytes, Failure> {
            Clipboard::find(&self.env)?.image(most).await
        }
    }

    const WL_PASTE: &str = r#"case "$*" in
  --list-types) printf 'text/html\nimage/jpeg\nimage/png\n' ;;
  "--no-newline --type image/png") printf 12345678 ;;
  *) exit 1 ;;
esac"#;
    const XCLIP: &str = r#"case "$*" in
  *TARGETS) printf 'TIMESTAMP\nimage/jpeg\n' ;;
  *image/jpeg) printf 12345678 ;;
  *-in) cat >"${0%/*}/copied" ;;
  *) exit 1 ;;
esac"#;

    #[tokio::test]
    async fn the_best_type_that_the_clipboard_offers_is_read() {
        for session in [
            Session::new("WAYLAND_DISPLAY", &[("wl-paste", WL_PASTE)]),
            Session::new("DISPLAY", &[("xclip", XCLIP)]),
        ] {
            assert_eq!(session.image(8).await.unwrap(), "12345678");
            let error = session.image(7).await.unwrap_err();
            assert!(error.to_string().contains("larger than 7 bytes"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_empty_clipboard_and_a_missing_program_are_told_apart() {
        let empty = Session::new("WAYLAND_DISPLAY", &[("wl-paste", "exit 1")]);
        let error = empty.image(8).await.unwrap_err().to_string();
        assert!(error.contains("holds no image"), "{error}");
        let text = Session::new("DISPLAY", &[("xclip", "echo text/plain")]);
        let error = text.image(8).await.unwrap_err().to_string();
        assert!(error.contains("holds no image"), "{error}");
        let mut bare = Session::new("WAYLAND_DISPLAY", &[]);
        let folder = bare.folder.path().display().to_string();
        bare.env.insert("PATH".to_owned(), folder);
        let error = bare.image(8).await.unwrap_err();
        assert!(matches!(error, Failure::Usage(_)));
        assert!(
            error.to_string().contains("Install wl-clipboard"),
            "{error}"
        );
        let clipboard = Clipboard::find(&bare.env).unwrap();
        assert!(matches!(clipboard.check_copy(), Err(Failure::Usage(_))));
        let nowhere = BTreeMap::new();
        let error = Clipboard::find(&nowhere).unwrap_err().to_string();
        assert!(error.contains("no clipboard"), "{error}");
    }

    #[tokio::test]
    async fn text_is_copied_as_it_is() {
        let session = Session::new("DISPLAY", &[("xclip", XCLIP)]);
        let clipboard = Clipboard::find(&session.env).unwrap();
        clipboard.check_copy().unwrap();
        clipboard.copy("https://a/b.png").await.unwrap();
        let copied = std::fs::read_to_string(session.folder.path().join("copied"));
        assert_eq!(copied.unwrap(), "https://a/b.png");
        let broken = Session::new("DISPLAY", &[("xclip", "cat >/dev/null; exit 3")]);
        let clipboard = Clipboard::find(&broken.env).unwrap();
        let error = clipboard.copy("a").await.unwrap_err();
        assert!(matches!(error, Failure::Unexpected(_)), "{error}");
    }

    #[test]
    fn the_text_of_applescript_is_decoded() {
        assert_eq!(
            decode_apple("«data PNGf89504E47»\n".as_bytes()).unwrap(),
            &b"\x89PNG"[..]
        );
        for bad in ["", "«data PNGf8»", "«data TIFF89»"] {
            assert!(decode_apple(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
