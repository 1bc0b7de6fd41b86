//! Every key there is, but those of `[[tiers]]`, `[[networks]]` and `operator`.

/// A key that file and environment may set.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What isn't built yet is accepted with a warning, so that one file suits several versions.
    pub(super) built: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    One,
    /// `true` or `false`.
    Switch,
    /// A list.
    List,
    /// One value that is never shown, and may be given by a file.
    Secret,
    /// The path of the file that holds the secret of this name.
    SecretFile(&'static str),
}

pub(super) const KEYS: &[Key] = &[
    built("http.listen", Kind::One),
    built("http.admin_listen", Kind::One),
    built("http.base_url", Kind::One),
    built("http.trusted_proxies", Kind::List),
    built("database.url", Kind::One),
    built("database.max_connections", Kind::One),
    built("database.acquire_timeout", Kind::One),
    built("database.statement_timeout", Kind::One),
    built("database.idle_timeout", Kind::One),
    built("database.max_lifetime", Kind::One),
    built("images.store", Kind::One),
    built("images.base_url", Kind::One),
    built("images.clean", Kind::Switch),
    built("images.cache_bytes", Kind::One),
    built("images.min_free", Kind::One),
    built("images.max_pixels", Kind::One),
    built("images.max_total_pixels", Kind::One),
    built("images.s3_endpoint", Kind::One),
    built("images.s3_region", Kind::One),
    built("images.s3_addressing", Kind::One),
    built("images.s3_access_key_id", Kind::One),
    built("images.s3_secret_access_key", Kind::Secret),
    built(
        "images.s3_secret_access_key_file",
        Kind::SecretFile("images.s3_secret_access_key"),
    ),
    built("images.s3_session_token", Kind::Secret),
    built("images.s3_encryption", Kind::One),
    built("images.s3_checksum", Kind::Switch),
    built("images.s3_bulk_delete", Kind::Switch),
    built("images.s3_timeout", Kind::One),
    built("payments.facilitator", Kind::One),
    built("payments.facilitator_url", Kind::One),
    built("payments.timeout", Kind::One),
    built("payments.pay_to", Kind::One),
    built("payments.networks", Kind::List),
    built("payments.rpc_url", Kind::One),
    built(
        "payments.rpc_url_file",
        Kind::SecretFile("payments.rpc_url"),
    ),
    built("payments.sandbox_listen", Kind::One),
    built("payments.sandbox_rpc_listen", Kind::One),
    built("payments.facilitator_token", Kind::Secret),
    built(
        "payments.facilitator_token_file",
        Kind::SecretFile("payments.facilitator_token"),
    ),
    built("payments.cdp_key_id", Kind::One),
    built("payments.cdp_key_secret", Kind::Secret),
    built(
        "payments.cdp_key_secret_file",
        Kind::SecretFile("payments.cdp_key_secret"),
    ),
    built("payments.token_ttl", Kind::One),
    built("secrets.key", Kind::Secret),
    built("secrets.key_file", Kind::SecretFile("secrets.key")),
    built("limits.free_per_day", Kind::One),
    built("limits.free_before_noon_percent", Kind::One),
    built("limits.free_per_address_per_hour", Kind::One),
    built("limits.free_per_network_per_hour", Kind::One),
    built("limits.free_refusals_per_upload", Kind::One),
    built("limits.payments_per_address_per_minute", Kind::One),
    built("limits.body_timeout", Kind::One),
    built("limits.body_bytes", Kind::One),
    built("retention.schedule", Kind::One),
    built("retention.records", Kind::One),
    built("retention.clocks", Kind::List),
    built("database.url_file", Kind::SecretFile("database.url")),
];

const fn built(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        built: true,
    }
}

#[expect(
    dead_code,
    reason = "every key is built; the next one that isn't yet needs it"
)]
const fn later(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        built: false,
    }
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known key that somebody most likely meant, if any is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, KEYS.iter().map(|key| key.name))
}

/// The nearest of the candidates, or none that is near enough to be worth saying. A name without
/// its section, or in the wrong one, is near to the key that it ends like.
pub(super) fn nearest_of<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let last_part = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    let distance_to = |candidate: &str| {
        let misplaced = distance(&last_part(name), &last_part(candidate)) + 1;
        distance(name, candidate).min(misplaced)
    };
    candidates
        .map(|candidate| (distance_to(candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).max(2))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance. Ten lines, for a message nobody waits for, are no dependency.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, from_char) in from.chars().enumerate() {
        let mut left = line + 1;
        let mut next = vec![left];
        let above = row.iter().zip(row.iter().skip(1));
        for (to_char, (diagonal, above)) in to.chars().zip(above) {
            let change = diagonal + usize::from(from_char != to_char);
            left = change.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_key_is_named_and_a_far_one_is_not() {
        assert_eq!(nearest("htpp.listen"), Some("http.listen"));
        assert_eq!(nearest("http.base-url"), Some("http.base_url"));
        assert_eq!(nearest("pay_to"), Some("payments.pay_to"));
        assert_eq!(nearest("http.token_ttl"), Some("payments.token_ttl"));
        assert_eq!(nearest("weather.forecast"), None);
    }
}
