//! Every error code of the API, described once: the answers, the table in docs/api.md and the OpenAPI document are made
//! from this list.

/// What a client should do after an error, as `action.type` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Action {
    /// Wait for `retryAfterSeconds`, then repeat the same request.
    Wait,
    /// Repeat the same request after `retryAfterSeconds`.
    Retry,
    /// Pay, at the route that `url` names where it is there.
    Pay,
    /// Sign in with the wallet at the route that `url` names.
    Claim,
    /// Send a smaller image.
    Resize,
    /// Change the request as the message says.
    FixRequest,
    /// Ask the operator.
    Contact,
}

impl Action {
    /// The value of `action.type`.
    pub(in crate::http) const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Retry => "retry",
            Self::Pay => "pay",
            Self::Claim => "claim",
            Self::Resize => "resize",
            Self::FixRequest => "fix_request",
            Self::Contact => "contact",
        }
    }
}

/// What `charged` says about the payment that a request carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Charged {
    /// The payment moved no money, and this request will not make it.
    No,
    /// The payment moved money.
    Yes,
    /// Nobody knows yet.
    Unknown,
    /// Depends on the payment.
    Varies,
}

impl Charged {
    /// The values that `charged` may have, as JSON writes them.
    pub(in crate::http) const fn values(self) -> &'static [Option<bool>] {
        match self {
            Self::No => &[Some(false)],
            Self::Yes => &[Some(true)],
            Self::Unknown => &[None],
            Self::Varies => &[Some(true), Some(false), None],
        }
    }
}

/// What an error code means.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Facts {
    /// The value of `error`.
    pub(in crate::http) name: &'static str,
    /// The HTTP status, the same for each use of the code.
    pub(in crate::http) status: u16,
    /// What `charged` says, unless the request carried a payment that the ledger was not asked about: then it is `null`.
    pub(in crate::http) charged: Charged,
    /// What to do next. The first one is usual.
    pub(in crate::http) actions: &'static [Action],
    /// When the code is returned, as a sentence.
    pub(in crate::http) when: &'static str,
}

/// Declares the codes: `Name "wire_name" status charged [actions] "when";`.
macro_rules! codes {
    ($($code:ident $name:literal $status:literal $charged:ident [$($action:ident),+] $when:literal;)+) => {
        /// A stable error code. Each code has one status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(in crate::http) enum Code {
            $(#[doc = $when] $code,)+
        }

        impl Code {
            /// Every code, by status.
            pub(in crate::http) const ALL: &[Self] = &[$(Self::$code),+];

            /// What the code means.
            pub(in crate::http) const fn facts(self) -> Facts {
                match self {
                    $(Self::$code => Facts {
                        name: $name,
                        status: $status,
                        charged: Charged::$charged,
                        actions: &[$(Action::$action),+],
                        when: $when,
                    },)+
                }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" 400 Unknown [FixRequest]
        "The request is not valid HTTP: its request line, a header or the length of its body is malformed.";
    UnknownParameter "unknown_parameter" 400 No [FixRequest]
        "The route does not know a query parameter. The message lists those that it takes.";
    InvalidParameter "invalid_parameter" 400 No [FixRequest]
        "A query parameter or a part of the path has a value that the route does not take.";
    InvalidHeader "invalid_header" 400 No [FixRequest]
        "A header is malformed, or came more than once.";
    InvalidBody "invalid_body" 400 No [FixRequest]
        "The body is not the form, JSON or list that the route takes, or a field in it has an unknown value.";
    InvalidArguments "invalid_arguments" 400 No [FixRequest]
        "The arguments of an MCP tool are not those that its schema describes.";
    IncompleteBody "incomplete_body" 400 No [Retry]
        "The body broke off, or arrived too slowly.";
    ConflictingCredentials "conflicting_credentials" 400 Unknown [FixRequest]
        "The request carries two different payments, or an upload token and a payment.";
    BadPayment "bad_payment" 400 No [FixRequest]
        "The payment header cannot be read as an x402 payment.";
    NoFile "no_file" 400 No [FixRequest]
        "The request holds no image.";
    EmptyFile "empty_file" 400 No [FixRequest]
        "The image has no bytes.";
    CorruptImage "corrupt_image" 400 No [FixRequest]
        "The image is damaged so that browsers do not show it.";
    TooManyPixels "too_many_pixels" 400 No [Resize]
        "The image has too many pixels or too long a side, or takes too long to decode.";
    TooManyFrames "too_many_frames" 400 No [Resize]
        "The animation has too many frames.";
    MetadataNotKept "metadata_not_kept" 400 No [FixRequest]
        "`metadata=keep` was asked for, and the file can only be stored after a repair.";
    UrlNotAllowed "url_not_allowed" 400 No [FixRequest]
        "The server does not fetch from this URL: it is malformed, not http or https on an allowed port, or its host has no public address. The same holds for a redirect.";
    BadToken "bad_token" 401 No [Pay]
        "The upload token is unknown.";
    KeyUnknown "key_unknown" 401 No [FixRequest]
        "No API key has this secret.";
    KeyRevoked "key_revoked" 401 No [FixRequest]
        "The wallet of the API key revoked it.";
    NotPublic "not_public" 401 No [FixRequest]
        "The image is private, so no other site can embed it.";
    BadDeleteToken "bad_delete_token" 401 No [FixRequest]
        "The delete token is missing, or belongs to another image.";
    SignInInvalid "sign_in_invalid" 401 No [Claim]
        "The signed message does not sign this wallet in: it is old, used, changed, or for another server. The body holds a new challenge.";
    PaymentRequired "payment_required" 402 No [Pay]
        "The route sells something and the request carries no payment. The body holds the offers.";
    PaymentInvalid "payment_invalid" 402 No [Pay]
        "The payment does not fit the offer, or the facilitator refused to verify it.";
    PaymentFailed "payment_failed" 402 No [Pay]
        "The payment was tried and moved no money. It never will.";
    SignInRequired "sign_in_required" 402 No [Claim]
        "The request holds no signed message, and no other credential. The body and `PAYMENT-REQUIRED` hold the challenge to sign; nothing is for sale.";
    NotOwner "not_owner" 403 No [FixRequest]
        "The wallet that signed in does not own the image, or paid nothing for it. Nothing was done.";
    KeySuspended "key_suspended" 403 No [FixRequest]
        "The wallet of the API key suspended it.";
    WalletBlocked "wallet_blocked" 403 No [Contact]
        "The operator blocked the wallet that pays, or that owns the token, link or API key.";
    OriginNotAllowed "origin_not_allowed" 403 No [FixRequest]
        "A page of another origin called `/mcp`.";
    NotFound "not_found" 404 No [FixRequest]
        "There is no such image: it never existed, has expired or was deleted, or it is private and the link is not validly signed.";
    ImageRemoved "image_removed" 404 No [Contact]
        "The operator removed the image. Only its owner is told; everybody else receives `not_found`.";
    CaseUnknown "case_unknown" 404 No [FixRequest]
        "No case has this number.";
    LinkUnknown "link_unknown" 404 No [FixRequest]
        "No upload link has this URL: a part of it is missing or wrong.";
    UnknownRoute "unknown_route" 404 No [FixRequest]
        "The path is not a route of the API. The message names the nearest routes.";
    UnknownTier "unknown_tier" 404 No [FixRequest]
        "No tier of that name is sold by this route. The message lists those that are.";
    NoReceipt "no_receipt" 404 No [FixRequest]
        "There is no receipt: the image was free, its records are erased, or its payment is void.";
    ImageGone "image_gone" 404 Yes [Pay]
        "The payment bought an image that has expired or was deleted since.";
    MethodNotAllowed "method_not_allowed" 405 No [FixRequest]
        "The route does not take this method. `Allow` lists those that it takes.";
    RequestTimeout "request_timeout" 408 Unknown [Retry]
        "The head of the request took longer than 10 seconds.";
    TokenUsed "token_used" 409 No [Pay]
        "The upload token has no use left, and these bytes are not an image that it uploaded.";
    TokenInUse "token_in_use" 409 No [Wait]
        "Another upload holds the last use of the upload token or link.";
    TooManyKeys "too_many_keys" 409 No [FixRequest]
        "The wallet has as many API keys as it may have. Revoke one first.";
    LinkUsed "link_used" 409 No [Pay, FixRequest]
        "Every upload of the link is used, and these bytes are not an image that it uploaded.";
    PaymentInProgress "payment_in_progress" 409 Unknown [Wait]
        "Another request with the same payment is being processed.";
    PaymentKnown "payment_known" 409 Varies [Retry, Claim]
        "The payment is known, and the request does not prove that it comes from the payer, or uses another route.";
    PaymentResolved "payment_resolved" 409 Varies [Contact, Pay]
        "The operator has compensated the payer of this payment, or voided it because the chain does not show its transfer.";
    IdempotencyConflict "idempotency_conflict" 409 Varies [FixRequest]
        "The payment or its idempotency key belongs to a request with other content.";
    NotPrivate "not_private" 409 No [FixRequest]
        "Signed links are for private images, and this image is public.";
    NotRenewable "not_renewable" 409 No [FixRequest, Contact]
        "The image cannot be renewed on these terms: it is permanent, too large for the tier, already kept long enough, or the operator removed it.";
    CaseNotUpheld "case_not_upheld" 409 No [FixRequest]
        "There is nothing to object to: the case is open or was dismissed, or an objection was filed.";
    CaseNotObjectable "case_not_objectable" 409 No [Contact]
        "The case takes no objection: it was not upheld for copyright, or its image is not removed because of it any more.";
    ImageHeld "image_held" 409 No [Contact]
        "The image is under review by the operator.";
    RenewalInProgress "renewal_in_progress" 409 No [Retry]
        "A payment that renews the image is being processed.";
    TokenExpired "token_expired" 410 No [FixRequest]
        "The upload token expired. Its payment returns a fresh token without a second charge.";
    LinkExpired "link_expired" 410 No [Pay, FixRequest]
        "The upload link has ended. Of a paid link, what was paid and not used still belongs to the payer: `POST /api/claims` returns a new link.";
    LinkRevoked "link_revoked" 410 No [Pay, FixRequest]
        "The upload link was revoked by its owner, or a new one has replaced it.";
    PreconditionFailed "precondition_failed" 412 No [FixRequest]
        "`If-Match` or `If-Unmodified-Since` names another version of the image.";
    FileTooLarge "file_too_large" 413 No [Resize]
        "The image has more bytes than the tier takes. The message names the tiers that take it.";
    UnsupportedFormat "unsupported_format" 415 No [FixRequest]
        "The file is no PNG, JPEG, GIF or WebP image.";
    RangeNotSatisfiable "range_not_satisfiable" 416 No [FixRequest]
        "The requested range starts past the end of the image.";
    ContentBlocked "content_blocked" 422 No [Contact]
        "The image is blocked: its bytes, a picture like it, or by the operator's scanner.";
    FetchFailed "fetch_failed" 422 No [FixRequest, Retry]
        "The host of the URL did not return an image: it cannot be reached, is too slow, or answered with another status than 200. The message says which.";
    VariantImpossible "variant_impossible" 422 No [FixRequest]
        "The image can't be shown in this size or format: making the variant takes too much, or the image can't be decoded.";
    RateLimited "rate_limited" 429 No [Wait, Pay]
        "Too many requests came from the client's address or network.";
    DailyLimit "daily_limit" 429 No [Wait, Pay]
        "The free uploads of the service are used up for this day or half day.";
    KeyLimit "key_limit" 429 No [Wait]
        "The API key made all of its uploads of the day.";
    HeadersTooLarge "headers_too_large" 431 Unknown [FixRequest]
        "The head of the request has more than 96 fields or 128 KiB.";
    RemovedForLegalReasons "removed_for_legal_reasons" 451 No [Contact]
        "The operator removed the image because of a legal demand.";
    UploadFailed "upload_failed" 500 No [Retry]
        "The image could not be stored. Nothing was kept.";
    DeleteFailed "delete_failed" 500 No [Retry]
        "The delete was interrupted.";
    UnknownFormat "unknown_format" 501 No [FixRequest]
        "The server makes no response in the format that the request names.";
    SettlementPending "settlement_pending" 503 Unknown [Wait, Retry]
        "Nobody knows yet whether the payment moved money. Repeat the same request and never pay again.";
    FacilitatorUnavailable "facilitator_unavailable" 503 No [Retry]
        "The facilitator did not answer before any money moved.";
    NodeUnavailable "node_unavailable" 503 No [Retry]
        "The network's node (JSON-RPC) did not answer before any money moved.";
    ScannerUnavailable "scanner_unavailable" 503 No [Retry]
        "The operator's scanner did not answer before any money moved.";
    PaymentsDisabled "payments_disabled" 503 No [Contact]
        "The operator has configured no facilitator, so the server sells nothing.";
    SalesPaused "sales_paused" 503 No [Retry]
        "Too many earlier payments have an unknown outcome, so the server sells nothing until they are resolved.";
    RecoveryRequired "recovery_required" 503 Varies [Retry]
        "The database has lost records, so the server sells nothing until the operator has recovered its payments.";
    ImportDisabled "import_disabled" 503 No [Contact]
        "The operator has switched imports off.";
    DatabaseUnavailable "database_unavailable" 503 No [Retry]
        "The database does not answer.";
    StoreUnavailable "store_unavailable" 503 No [Retry]
        "The image store does not answer.";
    Maintenance "maintenance" 503 No [Retry]
        "The database is being moved. Images are served meanwhile.";
    Busy "busy" 503 No [Wait]
        "The server is at capacity.";
    StorageFull "storage_full" 507 No [Wait]
        "The disk of the image store is full.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_one_name_and_stands_in_order_of_its_status() {
        let facts: Vec<Facts> = Code::ALL.iter().map(|code| code.facts()).collect();
        let names: BTreeSet<&str> = facts.iter().map(|facts| facts.name).collect();
        assert_eq!(names.len(), facts.len());
        assert!(facts.is_sorted_by_key(|facts| facts.status));
        for facts in facts {
            assert!(facts.when.ends_with('.'), "{}", facts.name);
        }
    }
}
