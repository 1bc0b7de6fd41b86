//! Reports of images, and the cases that they become.

use super::ids::ImageId;
use super::image::ImageState;
use crate::system::clock::Timestamp;

/// The most reports of a case whose words are kept. Further ones are only counted.
pub const MOST_KEPT: u32 = 100;

/// Why somebody reports an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The content is against the law.
    Illegal,
    /// Sexual abuse of children.
    Csam,
    /// Intimate pictures that a shown person did not agree to.
    Ncii,
    /// Infringement of copyright.
    Copyright,
    /// Malware, or what leads to it.
    Malware,
    /// Phishing and other deception.
    Phishing,
    /// Private facts about a person.
    Doxxing,
    /// A made-up picture of a real person.
    Deepfake,
    /// Harassment of a person.
    Harassment,
    /// Terrorism or violent extremism.
    Terrorism,
    /// Anything else.
    Other,
}

impl Reason {
    /// Every reason, in the order of documents.
    pub const ALL: [Self; 11] = [
        Self::Csam,
        Self::Ncii,
        Self::Copyright,
        Self::Malware,
        Self::Phishing,
        Self::Doxxing,
        Self::Deepfake,
        Self::Harassment,
        Self::Terrorism,
        Self::Illegal,
        Self::Other,
    ];

    /// The name in requests, answers and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Illegal => "illegal",
            Self::Csam => "csam",
            Self::Ncii => "ncii",
            Self::Copyright => "copyright",
            Self::Malware => "malware",
            Self::Phishing => "phishing",
            Self::Doxxing => "doxxing",
            Self::Deepfake => "deepfake",
            Self::Harassment => "harassment",
            Self::Terrorism => "terrorism",
            Self::Other => "other",
        }
    }

    /// The reason for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Illegal => "Something else that is against the law",
            Self::Csam => "Sexual abuse of children",
            Self::Ncii => "An intimate picture that a shown person did not agree to",
            Self::Copyright => "Infringement of copyright",
            Self::Malware => "Malware, or a link to it",
            Self::Phishing => "Phishing or deception",
            Self::Doxxing => "Private facts about a person",
            Self::Deepfake => "A made-up picture of a real person",
            Self::Harassment => "Harassment of a person",
            Self::Terrorism => "Terrorism or violent extremism",
            Self::Other => "Another reason",
        }
    }

    /// Reads a name that [`Reason::as_str`] wrote.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The place in the operator's queue: lower ranks are looked at first.
    pub const fn rank(self) -> u32 {
        match self {
            Self::Csam => 0,
            Self::Terrorism | Self::Ncii => 1,
            Self::Illegal | Self::Malware | Self::Phishing | Self::Doxxing => 2,
            Self::Deepfake | Self::Harassment | Self::Copyright => 3,
            Self::Other => 4,
        }
    }
}

/// What a report or an objection says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A report.
    Report(Reason),
    /// The uploader objects to a removal for copyright (17 U.S.C. § 512(g)(3)).
    CounterNotice,
}

impl Kind {
    /// The name in the database.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Report(_) => "report",
            Self::CounterNotice => "counter_notice",
        }
    }

    /// The reason of a report.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Report(reason) => Some(*reason),
            Self::CounterNotice => None,
        }
    }
}

/// A report or a counter-notice, as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it is.
    pub kind: Kind,
    /// What the sender says about it; may be empty.
    pub details: String,
    /// How the sender can be reached.
    pub contact: Option<String>,
    /// What the sender swears to: a JSON object.
    pub statement: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
}

/// The state of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseState {
    /// Nobody has decided it.
    Open,
    /// The operator agreed and removed the image.
    Upheld,
    /// The operator left the image as it was.
    Dismissed,
}

impl CaseState {
    /// The name in requests, answers and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Upheld => "upheld",
            Self::Dismissed => "dismissed",
        }
    }

    /// Reads a name that [`CaseState::as_str`] wrote.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Open, Self::Upheld, Self::Dismissed];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// What has become of the image of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageNow {
    /// The image is served: it was never removed, or is restored.
    Served,
    /// The image is removed, and was so when the case was decided.
    Removed,
    /// The image is removed, but was restored between the decision and this removal.
    RemovedAgain,
    /// The image is deleted or being deleted, or its records are erased. It never comes back.
    Deleted,
}

impl ImageNow {
    /// The name in responses. It does not tell a second removal from the first.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Removed | Self::RemovedAgain => "removed",
            Self::Deleted => "deleted",
        }
    }
}

/// All reports of one image until somebody decides them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The case number: 16 hexadecimal digits. Everybody who reported the image knows it.
    pub id: String,
    /// The image.
    pub image: ImageId,
    /// The state.
    pub state: CaseState,
    /// The gravest reason among the reports.
    pub reason: Reason,
    /// The wallet that uploaded the image (EIP-55), if one is known.
    pub wallet: Option<String>,
    /// How many reports came in.
    pub reports: u64,
    /// From how many networks. On one day, each counts once.
    pub networks: u64,
    /// When the first report came in.
    pub opened_at: Timestamp,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// Who decided it.
    pub decided_by: Option<String>,
    /// Why it was decided so.
    pub decision: Option<String>,
    /// When the uploader objected.
    pub countered_at: Option<Timestamp>,
    /// The state of the image at the time of the query; `None`: its records are erased.
    pub image_state: Option<ImageState>,
    /// When the image was removed; `None`: it has no removal.
    pub removed_at: Option<Timestamp>,
}

impl Case {
    /// What has become of the image.
    pub fn image_now(&self) -> ImageNow {
        match self.image_state {
            Some(ImageState::Live) => ImageNow::Served,
            Some(ImageState::Pending | ImageState::Removed) => {
                let is_later = self
                    .removed_at
                    .zip(self.decided_at)
                    .is_some_and(|(removed, decided)| removed > decided);
                if is_later {
                    ImageNow::RemovedAgain
                } else {
                    ImageNow::Removed
                }
            }
            Some(ImageState::Discarded | ImageState::Deleting | ImageState::Deleted) | None => {
                ImageNow::Deleted
            }
        }
    }

    /// Whether the uploader may object: the case was upheld for copyright, and its image is still
    /// removed because of it. It does not matter here whether an objection was filed already.
    pub fn is_objectable(&self) -> bool {
        self.state == CaseState::Upheld
            && self.reason == Reason::Copyright
            && self.image_now() == ImageNow::Removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        for state in [CaseState::Open, CaseState::Upheld, CaseState::Dismissed] {
            assert_eq!(CaseState::parse(state.as_str()), Some(state));
        }
        assert_eq!(Reason::parse("spam"), None);
    }

    fn upheld(
        reason: Reason,
        image_state: Option<ImageState>,
        removed_ms: Option<i64>,
    ) -> Option<Case> {
        Some(Case {
            id: "4f1d2a90c37be865".to_owned(),
            image: ImageId::parse("k3v9Qw2mZr7T")?,
            state: CaseState::Upheld,
            reason,
            wallet: None,
            reports: 1,
            networks: 1,
            opened_at: Timestamp::from_millis(0),
            decided_at: Some(Timestamp::from_millis(10)),
            decided_by: None,
            decision: None,
            countered_at: None,
            image_state,
            removed_at: removed_ms.map(Timestamp::from_millis),
        })
    }

    #[test]
    fn an_uploader_objects_only_to_a_removal_for_copyright_that_lasts() {
        let copyright = Reason::Copyright;
        for (reason, state, removed_ms, now, may_object) in [
            (
                copyright,
                Some(ImageState::Removed),
                Some(10),
                ImageNow::Removed,
                true,
            ),
            (
                copyright,
                Some(ImageState::Removed),
                Some(5),
                ImageNow::Removed,
                true,
            ),
            (
                copyright,
                Some(ImageState::Removed),
                Some(11),
                ImageNow::RemovedAgain,
                false,
            ),
            (
                copyright,
                Some(ImageState::Live),
                None,
                ImageNow::Served,
                false,
            ),
            (
                copyright,
                Some(ImageState::Live),
                Some(10),
                ImageNow::Served,
                false,
            ),
            (
                copyright,
                Some(ImageState::Deleting),
                Some(10),
                ImageNow::Deleted,
                false,
            ),
            (
                copyright,
                Some(ImageState::Deleted),
                Some(10),
                ImageNow::Deleted,
                false,
            ),
            (copyright, None, None, ImageNow::Deleted, false),
            (
                Reason::Csam,
                Some(ImageState::Removed),
                Some(10),
                ImageNow::Removed,
                false,
            ),
        ] {
            let case = upheld(reason, state, removed_ms).unwrap();
            assert_eq!(
                (case.image_now(), case.is_objectable()),
                (now, may_object),
                "{reason:?} {state:?} {removed_ms:?}"
            );
        }
    }

    #[test]
    fn abuse_of_children_is_looked_at_first() {
        let first = Reason::ALL.into_iter().min_by_key(|reason| reason.rank());
        assert_eq!(first, Some(Reason::Csam));
    }
}
