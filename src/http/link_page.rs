//! The pages of an upload link, for people who open it in a browser: what is left, and a form that
//! uploads. They need no script.

use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, HttpResponseBuilder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::error::ApiError;
use super::links::curl;
use super::views::UploadAnswer;
use crate::model::link::Link;
use crate::system::clock::Timestamp;

/// The style of the pages. It works in light and dark, and on a phone.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--paper:#fff;--edge:#d1d9e0;--go:#0a58ca}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0d1117;--edge:#3d444d;--go:#4493f8}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:40rem;margin:0 auto;padding:2rem 1rem}\
h1{font-size:1.5rem;margin:0 0 .5rem}p{margin:.5rem 0}.soft{color:var(--soft)}\
pre,.url{font:14px/1.5 ui-monospace,monospace;border:1px solid var(--edge);border-radius:6px;padding:.75rem;\
overflow-wrap:anywhere;white-space:pre-wrap;display:block}\
form{border:1px solid var(--edge);border-radius:6px;padding:1rem;margin:1rem 0}\
label{display:block;margin-bottom:.5rem}input{max-width:100%;font:inherit;color:inherit}\
button{font:inherit;margin-top:1rem;padding:.5rem 1.25rem;border:0;border-radius:6px;background:var(--go);color:#fff}\
@media(prefers-color-scheme:dark){button{color:#0d1117}}\
a{color:var(--go)}img{max-width:100%;max-height:60vh;border:1px solid var(--edge);border-radius:6px}";

/// Allows the style above by its hash, images, and the form. There is no script.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src http: https:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
});

/// The page of a link: what is left, the form, and the command.
pub(super) fn of_link(link: &Link, now: Timestamp, url: Option<&str>) -> HttpResponse {
    let sentence = escape(&sentence(link, now));
    let how = match url.filter(|_| is_open(link, now)) {
        None => String::new(),
        Some(url) => format!(
            "<form method=\"post\" enctype=\"multipart/form-data\"><label for=\"image\">Image: PNG, JPEG, GIF or \
             WebP</label><input id=\"image\" name=\"image\" type=\"file\" \
             accept=\"image/png,image/jpeg,image/gif,image/webp\" required><br><button>Upload</button></form>\
             <p>From a terminal or a script:</p><pre>{}</pre>\
             <p class=\"soft\">Whoever has this link can upload until it ends. Images get links that anybody can \
             open.</p>",
            escape(&curl(url))
        ),
    };
    page(
        HttpResponse::Ok(),
        "Upload link",
        &format!("<h1>Upload an image</h1><p>{sentence}</p>{how}"),
    )
}

/// The page after an upload: the link of the image. `again` is the upload link.
pub(super) fn of_upload(
    response: HttpResponseBuilder,
    answer: &UploadAnswer,
    again: &str,
) -> HttpResponse {
    let url = escape(&answer.facts.url);
    let kept = match &answer.facts.expires_at {
        Some(end) => format!("The image is kept until {}.", escape(end)),
        None => "The image is kept for as long as this service exists.".to_owned(),
    };
    let token = answer.delete_token.as_deref().map(|token| {
        let token = escape(token);
        format!(" To delete it before, keep this token: <code>{token}</code>")
    });
    let token = token.unwrap_or_default();
    let body = format!(
        "<h1>Uploaded</h1><p>The link of your image:</p><a class=\"url\" href=\"{url}\">{url}</a><p>{kept}{token}</p><p><img src=\"{url}\" alt=\"The uploaded image\"></p>\
         <p><a href=\"{}\">Upload another image</a></p>",
        escape(again)
    );
    page(response, "Uploaded", &body)
}

/// The page of an error.
pub(super) fn of_error(error: &ApiError) -> HttpResponse {
    let (status, message) = error.explain();
    let body = format!("<h1>Not uploaded</h1><p>{}</p>", escape(&message));
    page(HttpResponse::build(status), "Not uploaded", &body)
}

fn is_open(link: &Link, now: Timestamp) -> bool {
    link.revoked_at.is_none() && now < link.expires_at && link.left() > 0
}

/// What is left of a link, in a sentence.
pub(super) fn sentence(link: &Link, now: Timestamp) -> String {
    let (left, uses) = (link.left(), link.uses);
    if let Some(at) = link.revoked_at {
        return format!("This upload link was revoked at {}.", when(at));
    }
    if now >= link.expires_at {
        return format!("This upload link ended at {}.", when(link.expires_at));
    }
    if left == 0 {
        return match uses {
            1 => "The upload of this link is used.".to_owned(),
            uses => format!("All {uses} uploads of this link are used."),
        };
    }
    format!(
        "{left} of {uses} uploads are left, in tier {}, until {}.",
        link.tier,
        when(link.expires_at)
    )
}

/// A time for people, to the minute: `2026-12-28 10:00 UTC`.
fn when(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => text,
    }
}

/// A page that nobody caches or indexes, and that passes its address to nobody.
fn page(mut response: HttpResponseBuilder, title: &str, body: &str) -> HttpResponse {
    response
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY.as_str()))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("text/html; charset=utf-8")
        .body(format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\">\
             <title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
        ))
}

/// The text with the characters escaped that HTML gives a meaning.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_minute() {
        let at = Timestamp::from_seconds(1_800_000_000);
        assert_eq!(when(at), "2027-01-15 08:00 UTC");
    }

    #[test]
    fn text_in_a_page_is_escaped() {
        assert_eq!(
            escape("<a b=\"c\">&'"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&#39;"
        );
    }
}
