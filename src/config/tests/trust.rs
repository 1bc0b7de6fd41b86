//! `admin.token`, `cdn.*` and `trust.*`.

use super::*;

const ZONE: &str = "cdn.cloudflare_zone = '0123456789abcdef0123456789abcdef'\n";

#[test]
fn the_admin_api_and_the_cdn_are_off_until_they_are_set() {
    let unset = config(of(""));
    assert_eq!((unset.admin_token, unset.cdn), (None, None));
    let token = "0".repeat(32);
    let set = of(&format!(
        "{ZONE}cdn.cloudflare_token = 'HIDDEN'\nadmin.token = '{token}'\n"
    ));
    let shown = show(set.config.as_ref().unwrap());
    assert!(
        !shown.contains("HIDDEN") && !shown.contains(&token),
        "{shown}"
    );
    let set = config(set);
    assert_eq!(set.admin_token.unwrap().reveal(), token);
    let cdn = set.cdn.unwrap();
    assert_eq!(cdn.api_url, "https://api.cloudflare.com/client/v4");
    assert_eq!(cdn.token, "HIDDEN");
    assert!(!format!("{cdn:?}").contains("HIDDEN"));
}

#[test]
fn a_short_token_and_half_a_cdn_are_refused() {
    let short = format!("admin.token = '{}'", "x".repeat(31));
    assert_refused(&of(&short), "admin.token", "has 31 characters");
    assert_refused(&of(ZONE), "cdn.cloudflare_token", "is missing");
    let token = "cdn.cloudflare_token = 'HIDDEN'";
    assert_refused(&of(token), "cdn.cloudflare_zone", "is missing");
    assert_all_refused(
        of,
        "
        cdn.cloudflare_token = 'HIDDEN'; cdn.cloudflare_zone = 'a/b' | cdn.cloudflare_zone | not the id of a zone
        cdn.cloudflare_token = 'HIDDEN'; cdn.cloudflare_zone = 'a'; cdn.api_url = 'http://cdn.example' | cdn.api_url | without TLS
        trust.preserve = '1h'   | trust.preserve   | out of bounds
        trust.restorable = '1h' | trust.restorable | out of bounds
        ",
    );
}
