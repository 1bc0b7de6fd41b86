//! The form that uploads, which the front page and the pages of upload links show.

use super::super::Site;
use crate::limits::FreeLeft;
use crate::pricing::tiers::{Keep, SizeText, Tier, TierTable, time_in_words};

/// The media types that the file dialog offers.
const ACCEPT: &str = "image/png,image/jpeg,image/gif,image/webp";
/// The modules that upload.js imports, so that browsers load all of them at once.
const MODULES: [&str; 11] = [
    "api.js",
    "card.js",
    "copy.js",
    "dom.js",
    "pay.js",
    "payer.js",
    "say.js",
    "shrink.js",
    "uploads.js",
    "wallet.js",
    "words.js",
];

/// What templates/uploader.html shows.
pub(super) struct Uploader<'a> {
    /// Where the form posts.
    pub(super) action: &'a str,
    /// The tiers to choose from. Empty: the images go to `action`.
    pub(super) choices: Vec<Choice>,
    /// The largest image that an upload link takes, in bytes and in words. `None`: the chosen tier
    /// has the limit.
    pub(super) limit: Option<(u64, SizeText)>,
    /// How long the first link of a private image lasts. `None`: uploads can't be private.
    pub(super) private: Option<String>,
    /// Whether metadata is removed from uploads.
    pub(super) cleans: bool,
    /// Whether payments are play money.
    pub(super) play_money: bool,
    /// The media types that the file dialog offers.
    pub(super) accept: &'static str,
    /// The modules that browsers load at once.
    pub(super) modules: [&'static str; 11],
}

/// A tier that the form offers.
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) keep: String,
    pub(super) price: String,
    /// The price in atomic units. `None`: it depends on the size.
    pub(super) amount: Option<String>,
    pub(super) size: String,
    pub(super) max_bytes: u64,
    /// The path that takes the images.
    pub(super) url: String,
    pub(super) is_free: bool,
    pub(super) is_chosen: bool,
    /// How many free uploads are left.
    pub(super) left: Option<String>,
}

impl<'a> Uploader<'a> {
    /// The form of the front page, with each tier that takes uploads now.
    pub(super) fn of_tiers(site: &Site, tiers: &TierTable, left: Option<FreeLeft>) -> Self {
        let is_spent = left.is_some_and(|left| left.uploads == 0);
        let sells = site.checkout.is_some();
        let mut choices: Vec<Choice> = tiers
            .iter()
            .filter(|tier| tier.is_free() || sells)
            .map(|tier| Choice::of(tier, left))
            .collect();
        // The free tier is chosen, or, where it takes nothing more, the first one with a price.
        let usual = choices
            .iter()
            .position(|choice| choice.is_free != (is_spent && sells));
        if let Some(choice) = choices.get_mut(usual.unwrap_or(0)) {
            choice.is_chosen = true;
        }
        Self {
            choices,
            play_money: super::takes_play_money(site),
            ..Self::of_link(site, super::upload::PATH, None)
        }
    }

    /// The form of an upload link at this path, which takes images of up to `max_bytes` bytes.
    pub(super) fn of_link(site: &Site, action: &'a str, max_bytes: Option<u64>) -> Self {
        let images = &site.config.images;
        Self {
            action,
            choices: Vec::new(),
            limit: max_bytes.map(|bytes| (bytes, SizeText(bytes))),
            private: images.private.then(|| time_in_words(images.link_ttl)),
            cleans: images.clean,
            play_money: false,
            accept: ACCEPT,
            modules: MODULES,
        }
    }

    /// Whether one of the tiers is free.
    pub(super) fn has_free(&self) -> bool {
        self.choices.iter().any(|choice| choice.is_free)
    }

    /// Whether one of the tiers has a price.
    pub(super) fn sells(&self) -> bool {
        self.choices.iter().any(|choice| !choice.is_free)
    }
}

impl Choice {
    fn of(tier: &Tier, left: Option<FreeLeft>) -> Self {
        let is_free = tier.is_free();
        Self {
            name: tier.name.to_string(),
            keep: match tier.keep {
                Keep::For(time) => time_in_words(time),
                Keep::Forever => "as long as the service exists".to_owned(),
            },
            price: if is_free {
                "free".to_owned()
            } else {
                tier.price_in_words()
            },
            amount: (!tier.is_by_size()).then(|| tier.price.to_string()),
            size: SizeText(tier.max_bytes).to_string(),
            max_bytes: tier.max_bytes,
            url: if is_free {
                "/api/free".to_owned()
            } else {
                format!("/api/upload/{}", tier.name)
            },
            is_free,
            is_chosen: false,
            left: left.filter(|_| is_free).map(|left| left.to_string()),
        }
    }
}
