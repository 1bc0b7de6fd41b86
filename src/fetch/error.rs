//! Why a URL is not fetched. The messages are sent to the client.

use std::time::Duration;

/// Why an image was not fetched from its URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The operator has switched imports off.
    #[error(
        "This server imports no images, since its operator has switched that off (import.enabled). Send the file itself to POST /api/upload or POST /api/free."
    )]
    Disabled,
    /// The URL, or one that it redirects to, is not one that this server fetches from. Nothing was
    /// connected to.
    #[error("{}{reason}", if *is_redirect { "The URL redirects, and the redirect is not followed. " } else { "" })]
    NotAllowed {
        /// What is wrong with it.
        reason: NotAllowed,
        /// Whether it is not the URL of the request, but one that it redirects to.
        is_redirect: bool,
    },
    /// The host of the URL did not return an image.
    #[error("{0}")]
    Failed(FetchFailure),
    /// The server fetches as much from this host as it does from one.
    #[error(
        "The server fetches other images from the host of this URL, and spares that host more. Repeat the same request in a moment."
    )]
    HostBusy {
        /// How long until the next fetch from this host is accepted.
        wait: Duration,
    },
}

/// What is wrong with a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The text is no absolute URL, or too long.
    #[error(
        "The URL is no absolute URL of at most {} characters. Send the image's own address, such as https://example.com/image.png.",
        super::target::LONGEST
    )]
    Malformed,
    /// Another scheme than http and https.
    #[error(
        "The URL has another scheme than http and https, which are the only ones that are fetched. Send the image's own address, such as https://example.com/image.png."
    )]
    Scheme,
    /// The URL names a user or a password.
    #[error(
        "The URL has a user or a password, which this server does not send. Send the URL without them, or upload the file."
    )]
    Credentials,
    /// A port that the server does not connect to.
    #[error(
        "The URL has port {port}, and this server fetches from {allowed} only. Send a URL with one of these ports, or upload the file."
    )]
    Port {
        /// The port of the URL.
        port: u16,
        /// The ports that are allowed, as a phrase.
        allowed: String,
    },
    /// The host has no address, or has one that is not public. Both receive the same message, so
    /// that nobody learns which names and hosts exist in the operator's network.
    #[error(
        "The host of the URL has no public address: it does not exist, or an address of it is private, local or reserved. Send the URL of an image on a public host, or upload the file."
    )]
    Address,
    /// A redirect from https to http.
    #[error(
        "It leads from https to http, which is not encrypted. Send the URL that it leads to, if you trust it."
    )]
    Downgrade,
}

/// How fetching failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// No connection could be made.
    #[error(
        "The host of the URL does not accept a connection. Check the URL, or repeat the request later."
    )]
    NoConnection,
    /// The host did not prove by its certificate that it has this name.
    #[error(
        "The host of the URL has no valid certificate for its name, and unproven hosts are not fetched from. Check the URL, or upload the file."
    )]
    Tls,
    /// The connection broke, or the response was no HTTP.
    #[error(
        "The host of the URL broke the connection off, or its response is not valid HTTP. Repeat the request later, or upload the file."
    )]
    Broken,
    /// The response took too long.
    #[error(
        "The host of the URL took longer than {} seconds to send the image, which is the limit. Repeat the request later, or upload the file.",
        super::FETCH_TIME.as_secs()
    )]
    TooSlow,
    /// A status other than 200.
    #[error(
        "The host of the URL answered with status {0}, and only 200 holds an image. Check that the URL is the image's own address and needs no login."
    )]
    Status(u16),
    /// The body is compressed beyond the image format's own compression.
    #[error(
        "The host of the URL sent the image with a Content-Encoding, which this server does not decode and did not ask for. Upload the file."
    )]
    Encoded,
    /// More redirects than are followed.
    #[error(
        "The URL redirects more than {} times, which is the limit. Send the image's own address.",
        super::MAX_REDIRECTS
    )]
    TooManyRedirects,
    /// A redirect without an address.
    #[error(
        "The URL redirects without a valid address in the header Location. Send the image's own address."
    )]
    BadRedirect,
}

impl FetchFailure {
    /// Whether the same request may succeed later.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::NoConnection | Self::Broken | Self::TooSlow => true,
            Self::Status(status) => matches!(*status, 408 | 425 | 429 | 500..=599),
            Self::Tls | Self::Encoded | Self::TooManyRedirects | Self::BadRedirect => false,
        }
    }
}

impl From<FetchFailure> for FetchError {
    fn from(failure: FetchFailure) -> Self {
        Self::Failed(failure)
    }
}

impl FetchError {
    /// The refusal of a URL that was reached by this number of redirects.
    pub(super) const fn after(hops: usize, reason: NotAllowed) -> Self {
        let is_redirect = hops > 0;
        Self::NotAllowed {
            reason,
            is_redirect,
        }
    }
}

impl From<NotAllowed> for FetchError {
    fn from(reason: NotAllowed) -> Self {
        Self::after(0, reason)
    }
}
