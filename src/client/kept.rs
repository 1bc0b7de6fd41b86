//! The delete tokens of this user's uploads, one private file each, so that `pixtoll delete` needs no wallet for an image
//! that was uploaded from here.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use url::Url;

use super::Failure;
use super::wallet::{data_dir, write_new_private};
use crate::keys::secrets::sha256_hex;
use crate::model::ids::ImageId;

/// The most bytes of a file that are read. A token has 40.
const MAX_TOKEN_BYTES: u64 = 256;

/// The kept delete tokens for one server.
#[derive(Debug, Clone)]
pub struct KeptTokens {
    dir: PathBuf,
    /// Names the server in the names of files, so that no other server is sent its tokens.
    server: String,
}

impl KeptTokens {
    /// The tokens that were kept for `server`. `None` when no data directory is known.
    pub fn find(server: &Url, env: &std::collections::BTreeMap<String, String>) -> Option<Self> {
        let server = sha256_hex(server.as_str().trim_end_matches('/').as_bytes());
        Some(Self {
            dir: data_dir(env)?.join("uploads"),
            server: server.chars().take(16).collect(),
        })
    }

    /// Keeps the delete token of an image. A token that is kept already stays.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when the file can't be written.
    pub fn keep(&self, image: &ImageId, token: &str) -> Result<(), Failure> {
        let path = self.path(image);
        let written = write_new_private(&path, token.as_bytes());
        written.map(drop).map_err(|error| unusable(&path, &error))
    }

    /// The delete token of an image; `None` when none was kept.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when the file can't be read.
    pub fn token(&self, image: &ImageId) -> Result<Option<String>, Failure> {
        let path = self.path(image);
        let mut text = String::new();
        let read =
            File::open(&path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&path, &error)),
        }
    }

    /// Removes the token of an image that is deleted. It is no error if there is none.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when the file can't be removed.
    pub fn forget(&self, image: &ImageId) -> Result<(), Failure> {
        let path = self.path(image);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path, &error)),
            _ => Ok(()),
        }
    }

    fn path(&self, image: &ImageId) -> PathBuf {
        self.dir.join(format!("{image}.{}", self.server))
    }
}

fn unusable(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::Unexpected(format!(
        "The file of a delete token, {}, can't be used: {error}. Check the folder's permissions and space.",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_private_and_for_its_server_and_image_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap().to_owned();
        let env = BTreeMap::from([("XDG_DATA_HOME".to_owned(), path)]);
        let at = |url: &str| KeptTokens::find(&Url::parse(url).unwrap(), &env).unwrap();
        let image = ImageId::parse("k3v9Qw2mZr7T").unwrap();
        let kept = at("https://a.example/");
        assert_eq!(kept.token(&image).unwrap(), None);
        kept.keep(&image, "one").unwrap();
        kept.keep(&image, "two").unwrap();
        assert_eq!(kept.token(&image).unwrap().unwrap(), "one");
        assert_eq!(
            at("https://a.example").token(&image).unwrap().unwrap(),
            "one"
        );
        assert_eq!(at("https://b.example").token(&image).unwrap(), None);
        let other = ImageId::parse("k3v9Qw2mZr7U").unwrap();
        assert_eq!(kept.token(&other).unwrap(), None);
        let mode = kept.path(&image).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        kept.forget(&image).unwrap();
        kept.forget(&image).unwrap();
        assert_eq!(kept.token(&image).unwrap(), None);
        assert!(KeptTokens::find(&Url::parse("https://a").unwrap(), &BTreeMap::new()).is_none());
    }
}
