//! What a client wants to receive, by `Accept` (RFC 9110, section 12.5.1).

use actix_web::http::header::{ACCEPT, HeaderMap};

/// The offer whose media type `Accept` prefers: the one with the greatest `q`, and of several the
/// first. `otherwise` where it names none of them: `*/*` says nothing.
pub(super) fn preferred<T: Copy>(headers: &HeaderMap, offers: &[(&str, T)], otherwise: T) -> T {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let mut preferred = (0.0, otherwise);
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().unwrap_or_default();
        let Some((_, offer)) = offers
            .iter()
            .find(|(media, _)| named.eq_ignore_ascii_case(media))
        else {
            continue;
        };
        let quality = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("q")
                .then(|| value.trim().parse().unwrap_or(0.0))
        });
        let quality = quality.unwrap_or(1.0);
        if quality > preferred.0 {
            preferred = (quality, *offer);
        }
    }
    preferred.1
}
