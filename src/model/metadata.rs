//! The kinds of metadata in image files, as the API names them.
//!
//! This file uses nothing else of the program: `fuzz/` builds it as well.

/// A kind of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A position, or the name of a place.
    Location,
    /// The camera or phone: maker, model, serial numbers, exposure, maker notes.
    Camera,
    /// A person: artist, owner, copyright.
    Author,
    /// When the picture was taken or changed.
    Date,
    /// The program that wrote the file.
    Software,
    /// A title, a caption, keywords or a comment.
    Comment,
    /// A small copy of the picture.
    Thumbnail,
    /// Further pictures in the same file: previews, depth maps, second views.
    Pictures,
    /// A C2PA manifest (content credentials).
    C2pa,
    /// Parts of a color profile that no color transform reads.
    Profile,
    /// Bytes after the end of the image.
    Trailing,
    /// Bytes that belong to no part of the format, and wrong counts.
    Damage,
    /// Any other metadata.
    Other,
}

impl Kind {
    /// Every kind, in the order in which responses list them.
    pub const ALL: [Self; 13] = [
        Self::Location,
        Self::Camera,
        Self::Author,
        Self::Date,
        Self::Software,
        Self::Comment,
        Self::Thumbnail,
        Self::Pictures,
        Self::C2pa,
        Self::Profile,
        Self::Trailing,
        Self::Damage,
        Self::Other,
    ];

    /// The kind's name in responses and in the database. Names never change their meaning.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Camera => "camera",
            Self::Author => "author",
            Self::Date => "date",
            Self::Software => "software",
            Self::Comment => "comment",
            Self::Thumbnail => "thumbnail",
            Self::Pictures => "pictures",
            Self::C2pa => "c2pa",
            Self::Profile => "profile",
            Self::Trailing => "trailing",
            Self::Damage => "damage",
            Self::Other => "other",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// Adds a kind.
    pub const fn add(&mut self, kind: Kind) {
        self.0 |= kind.bit();
    }

    /// Adds every kind of another set.
    pub const fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether the set has this kind.
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the set's kinds, in the order of [`Kind::ALL`].
    pub fn words(self) -> Vec<&'static str> {
        let kinds = Kind::ALL.into_iter().filter(|kind| self.has(*kind));
        kinds.map(Kind::as_str).collect()
    }

    /// The kinds with these names. Unknown names are ignored, since a newer version may have
    /// written them.
    pub fn of_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut kinds = Self::default();
        for word in words {
            if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == word) {
                kinds.add(kind);
            }
        }
        kinds
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<T: IntoIterator<Item = Kind>>(kinds: T) -> Self {
        let mut all = Self::default();
        for kind in kinds {
            all.add(kind);
        }
        all
    }
}

/// What was done with the metadata of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// These kinds were removed. If there are none, the file is stored unchanged.
    Removed(Kinds),
    /// These kinds are stored and served, because the uploader asked for it.
    Kept(Kinds),
}

impl Metadata {
    /// The form in the database, such as `removed:location,camera`.
    pub fn to_text(self) -> String {
        let (what, kinds) = match self {
            Self::Removed(kinds) => ("removed", kinds),
            Self::Kept(kinds) => ("kept", kinds),
        };
        format!("{what}:{}", kinds.words().join(","))
    }

    /// Reads what [`Metadata::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, words) = text.split_once(':')?;
        let kinds = Kinds::of_words(words.split(','));
        match what {
            "removed" => Some(Self::Removed(kinds)),
            "kept" => Some(Self::Kept(kinds)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_its_own_bit_and_is_read_back_by_its_word() {
        for kind in Kind::ALL {
            let alone = Kinds::from_iter([kind]);
            assert_eq!(alone.words(), [kind.as_str()]);
            assert_eq!(Kinds::of_words(alone.words().into_iter()), alone);
            for other in Kind::ALL {
                assert_eq!(alone.has(other), kind == other);
            }
        }
        assert!(Kinds::default().is_empty());
        assert!(Kinds::default().words().is_empty());
    }

    #[test]
    fn the_spelling_in_the_database_is_read_back() {
        let some = Kinds::from_iter([Kind::C2pa, Kind::Location]);
        for metadata in [
            Metadata::Removed(Kinds::default()),
            Metadata::Removed(some),
            Metadata::Kept(Kinds::default()),
            Metadata::Kept(some),
        ] {
            assert_eq!(Metadata::parse(&metadata.to_text()), Some(metadata));
        }
        assert_eq!(Metadata::Kept(some).to_text(), "kept:location,c2pa");
        assert_eq!(Metadata::Removed(Kinds::default()).to_text(), "removed:");
        let newer = Metadata::parse("removed:location,dreams,c2pa");
        assert_eq!(newer, Some(Metadata::Removed(some)));
        for odd in ["", "removed", "lost:camera"] {
            assert_eq!(Metadata::parse(odd), None, "{odd}");
        }
    }
}
