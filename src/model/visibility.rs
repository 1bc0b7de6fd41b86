//! Who may see an image.

use alloy_primitives::Address;

use crate::keys::secrets::sha256_hex;

/// Who may see an image. It is fixed by the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Everybody who has the link.
    #[default]
    Public,
    /// Whoever has a signed link that has not ended.
    Private {
        /// The wallet that may make signed links beside the owner; `None`: the owner alone may.
        viewer: Option<Address>,
    },
}

impl Visibility {
    /// The name of public images, in requests, answers and the database.
    pub const PUBLIC: &'static str = "public";
    /// The name of private images, in requests, answers and the database.
    pub const PRIVATE: &'static str = "private";

    /// The name, without the viewer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => Self::PUBLIC,
            Self::Private { .. } => Self::PRIVATE,
        }
    }

    /// Reads a name that [`Visibility::as_str`] wrote, and its viewer. `None`: the name is unknown,
    /// or a public image has a viewer.
    pub fn parse(name: &str, viewer: Option<Address>) -> Option<Self> {
        match (name, viewer) {
            (Self::PUBLIC, None) => Some(Self::Public),
            (Self::PRIVATE, viewer) => Some(Self::Private { viewer }),
            _ => None,
        }
    }

    /// Whether only signed links show the image.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Private { .. })
    }

    /// The wallet that may make signed links beside the owner.
    pub const fn viewer(self) -> Option<Address> {
        match self {
            Self::Public => None,
            Self::Private { viewer } => viewer,
        }
    }

    /// The hash that binds a paid upload to its content: that of its bytes and, for a private
    /// image, of who may see it. A payment for one visibility never delivers another one
    /// (docs/payments.md, rule 11).
    pub fn bind(self, upload_sha256: &str) -> String {
        match self {
            Self::Public => upload_sha256.to_owned(),
            Self::Private { viewer } => {
                let viewer = viewer.map(|it| it.to_string()).unwrap_or_default();
                sha256_hex(format!("private\n{upload_sha256}\n{viewer}").as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visibility_is_read_back_from_its_name_and_viewer() {
        let viewer = Some(Address::repeat_byte(1));
        for visibility in [
            Visibility::Public,
            Visibility::Private { viewer: None },
            Visibility::Private { viewer },
        ] {
            let read = Visibility::parse(visibility.as_str(), visibility.viewer());
            assert_eq!(read, Some(visibility));
        }
        assert_eq!(Visibility::parse("public", viewer), None);
        assert_eq!(Visibility::parse("Private", None), None);
    }

    #[test]
    fn each_visibility_and_viewer_binds_another_hash() {
        let bytes = "ab".repeat(32);
        let [one, two] = [1, 2].map(Address::repeat_byte);
        assert_eq!(Visibility::Public.bind(&bytes), bytes);
        let hashes =
            [None, Some(one), Some(two)].map(|viewer| Visibility::Private { viewer }.bind(&bytes));
        for (index, hash) in hashes.iter().enumerate() {
            assert!(hash.len() == 64 && *hash != bytes);
            assert!(!hashes[..index].contains(hash));
        }
    }
}
