//! What a presentation can be told, as [`super::Answer::verdict`] gives it.

pub(crate) type Verdict = (u16, String, Option<bool>);

fn verdict(status: u16, code: &str, charged: Option<bool>) -> Verdict {
    (status, code.to_owned(), charged)
}

/// Nobody knows yet whether the money moved.
pub(crate) fn pending() -> Verdict {
    verdict(503, "settlement_pending", None)
}

/// Nothing moved, and the same request may come again.
pub(crate) fn unavailable() -> Verdict {
    verdict(503, "facilitator_unavailable", Some(false))
}

/// The payment moved money, and what it bought was lost: another one of its payer's is not charged.
pub(crate) fn credited() -> Verdict {
    verdict(409, "payment_credited", Some(true))
}

/// The network's node gave no answer before anything moved.
pub(crate) fn no_node() -> Verdict {
    verdict(503, "node_unavailable", Some(false))
}

/// Nothing is sold until earlier payments are resolved.
pub(crate) fn paused() -> Verdict {
    verdict(503, "sales_paused", Some(false))
}

/// The payment is known, and this request is not its payer's, or asks elsewhere.
pub(crate) fn known(charged: Option<bool>) -> Verdict {
    verdict(409, "payment_known", charged)
}

/// Another request with it is under way.
pub(crate) fn in_progress() -> Verdict {
    verdict(409, "payment_in_progress", None)
}

/// It belongs to a request with other content.
pub(crate) fn conflict(charged: Option<bool>) -> Verdict {
    verdict(409, "idempotency_conflict", charged)
}

/// Refused before settle: pay again.
pub(crate) fn invalid() -> Verdict {
    verdict(402, "payment_invalid", Some(false))
}

/// Tried, and nothing moved: pay again.
pub(crate) fn failed() -> Verdict {
    verdict(402, "payment_failed", Some(false))
}
