//! How a key is described: once, in [`super::keys`]. Parsing, the names of environment variables,
//! the checks for unknown keys, `pixtoll config check` and the tables of docs/configuration.md all
//! come from these descriptions.

use super::keys;

/// A type of value, as an operator writes it.
pub(super) struct Kind<T> {
    /// The name of the type in messages and documents.
    pub(super) name: &'static str,
    /// What to write instead of a value that is refused.
    pub(super) fix: &'static str,
    /// Parses a value. An error says what is wrong with the value and never repeats a secret.
    pub(super) parse: fn(&str) -> Result<T, String>,
}

/// A key with its type and everything else that is known of it, but its name and its sentence,
/// which [`section!`] adds.
pub(super) struct Key<T> {
    pub(super) kind: Kind<T>,
    pub(super) info: Info,
    /// Whether the first value is less than the second.
    pub(super) less: Option<fn(&T, &T) -> bool>,
}

/// The description of a key, without its Rust type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    /// Section and key, such as `http.listen`.
    pub(super) name: &'static str,
    /// The sentences of its doc comment.
    pub(super) doc: &'static [&'static str],
    /// The name of its type.
    pub(super) kind: &'static str,
    /// How its type is written.
    pub(super) fix: &'static str,
    /// The least and the greatest value.
    pub(super) bounds: Option<(&'static str, &'static str)>,
    /// The default, as an operator would write it.
    pub(super) default: Option<&'static str>,
    /// What holds without a value, for documents, where that isn't a fixed default.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the test of the documents reads it")
    )]
    pub(super) when_unset: &'static str,
    /// An example of a key that has to be set.
    pub(super) required: Option<&'static str>,
    /// Whether it takes a list of values.
    pub(super) is_list: bool,
    /// Whether it may be shown.
    pub(super) secrecy: Secrecy,
    /// Environment variables of other tools that set it as well: the first that is set counts.
    pub(super) also: &'static [&'static str],
    /// Whether a running server takes a new value at SIGHUP.
    pub(super) is_live: bool,
}

/// What may be shown of a value. What isn't [`Secrecy::Open`] may also come from a file, named by
/// the key with `_file` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// All of it.
    Open,
    /// A URL whose user, password, path or query may be secret.
    Url,
    /// Nothing.
    Secret,
}

impl<T> Kind<T> {
    const fn key(
        self,
        default: Option<&'static str>,
        when_unset: &'static str,
        required: Option<&'static str>,
    ) -> Key<T> {
        let info = Info {
            name: "",
            doc: &[],
            kind: self.name,
            fix: self.fix,
            bounds: None,
            default,
            when_unset,
            required,
            is_list: false,
            secrecy: Secrecy::Open,
            also: &[],
            is_live: false,
        };
        Key {
            kind: self,
            info,
            less: None,
        }
    }

    /// A key with a default.
    pub(super) const fn or(self, default: &'static str) -> Key<T> {
        self.key(Some(default), "", None)
    }

    /// A key without a fixed default; `when_unset` is for documents.
    pub(super) const fn unset(self, when_unset: &'static str) -> Key<T> {
        self.key(None, when_unset, None)
    }

    /// A key of a table that every such table needs.
    pub(super) const fn required(self, example: &'static str) -> Key<T> {
        self.key(None, "", Some(example))
    }
}

impl<T> Key<T> {
    /// Takes a list of such values.
    pub(super) const fn list(mut self) -> Self {
        self.info.is_list = true;
        self
    }

    /// Is never shown, and may come from a file.
    pub(super) const fn secret(mut self) -> Self {
        self.info.secrecy = Secrecy::Secret;
        self
    }

    /// Is shown by its host alone, and may come from a file.
    pub(super) const fn secret_url(mut self) -> Self {
        self.info.secrecy = Secrecy::Url;
        self
    }

    /// These environment variables set it as well.
    pub(super) const fn also(mut self, variables: &'static [&'static str]) -> Self {
        self.info.also = variables;
        self
    }

    /// A running server takes a new value at SIGHUP.
    pub(super) const fn live(mut self) -> Self {
        self.info.is_live = true;
        self
    }

    /// The description under this name.
    pub(super) const fn named(self, name: &'static str, doc: &'static [&'static str]) -> Info {
        let mut info = self.info;
        info.name = name;
        info.doc = doc;
        info
    }
}

impl<T: PartialOrd> Key<T> {
    /// Refuses what is less than `least` or greater than `most`.
    pub(super) const fn within(mut self, least: &'static str, most: &'static str) -> Self {
        self.info.bounds = Some((least, most));
        self.less = Some(T::lt);
        self
    }
}

/// Makes a struct of the keys of a section. The doc comment of a field is also its sentence in
/// docs/configuration.md.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident: $section:literal {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $spec:expr, )+
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $( $(#[doc = $doc])+ $vis $key: $type, )+
        }

        impl $name {
            /// The descriptions of the keys.
            pub(in crate::config) const KEYS: &[Info] = &[
                $( $spec.named(concat!($section, ".", stringify!($key)), &[$($doc),+]), )+
            ];

            /// Reads the keys. A value that is refused is reported, and the default is taken.
            pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $( $key: reader.field(&$spec, concat!($section, ".", stringify!($key))), )+
                }
            }
        }
    };
}
pub(super) use section;

impl Info {
    /// The section and the key in it.
    pub(super) fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// The key in its section.
    pub(super) fn field(&self) -> &'static str {
        self.parts().1
    }
}

/// Every key that the file and the environment may set.
pub(super) fn all() -> impl Iterator<Item = &'static Info> {
    keys::SECTIONS.iter().copied().flatten()
}

/// The key of this name, or the secret whose file this name sets.
pub(super) fn find(name: &str) -> Option<&'static Info> {
    let secret = name.strip_suffix("_file");
    all().find(|info| {
        info.name == name || (info.secrecy != Secrecy::Open && secret == Some(info.name))
    })
}

/// The known key that was most likely meant, if one is near.
pub(super) fn nearest(name: &str) -> Option<String> {
    let keys = all().flat_map(|info| {
        let file = (info.secrecy != Secrecy::Open).then(|| format!("{}_file", info.name));
        [Some(info.name.to_owned()), file].into_iter().flatten()
    });
    nearest_of(name, keys)
}

/// The nearest candidate, unless none is near enough. A name without its section, or in the wrong
/// section, is near to the key with the same ending.
pub(super) fn nearest_of(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let ending = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |candidate: &str| {
        let misplaced = strsim::levenshtein(&ending(name), &ending(candidate)) + 1;
        strsim::levenshtein(name, candidate).min(misplaced)
    };
    candidates
        .map(|candidate| (distance(&candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).max(2))
        .map(|(_, candidate)| candidate)
}

/// The variable that sets a key: `PIXTOLL_HTTP__BASE_URL` sets `http.base_url`.
pub(super) fn variable(key: &str) -> String {
    format!(
        "{}{}",
        super::read::PREFIX,
        key.replacen('.', "__", 1).to_ascii_uppercase()
    )
}
