//! The expected responses to a request with a payment, in the form of [`super::Answer::verdict`].

pub(crate) type Verdict = (u16, String, Option<bool>);

fn verdict(status: u16, code: &str, charged: Option<bool>) -> Verdict {
    (status, code.to_owned(), charged)
}

/// The outcome is unknown so far.
pub(crate) fn pending() -> Verdict {
    verdict(503, "settlement_pending", None)
}

/// Nothing moved, and the same request may be repeated.
pub(crate) fn unavailable() -> Verdict {
    verdict(503, "facilitator_unavailable", Some(false))
}

/// The network's node didn't answer, and nothing moved.
pub(crate) fn no_node() -> Verdict {
    verdict(503, "node_unavailable", Some(false))
}

/// Sales are paused until earlier payments are resolved.
pub(crate) fn paused() -> Verdict {
    verdict(503, "sales_paused", Some(false))
}

/// The payment is known, and the request isn't its payer's, or is for another route.
pub(crate) fn known(charged: Option<bool>) -> Verdict {
    verdict(409, "payment_known", charged)
}

/// Another request with this payment is under way.
pub(crate) fn in_progress() -> Verdict {
    verdict(409, "payment_in_progress", None)
}

/// The payment belongs to a request with other content.
pub(crate) fn conflict(charged: Option<bool>) -> Verdict {
    verdict(409, "idempotency_conflict", charged)
}

/// Rejected before settle: pay again.
pub(crate) fn invalid() -> Verdict {
    verdict(402, "payment_invalid", Some(false))
}

/// Settle failed and nothing moved: pay again.
pub(crate) fn failed() -> Verdict {
    verdict(402, "payment_failed", Some(false))
}
