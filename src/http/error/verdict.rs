//! The code of each error, what it says of the charge, and how long to wait.

use std::time::Duration;

use super::ApiError;
use super::codes::{Action, Charged, Code};
use crate::fetch::FetchError;
use crate::images::format::FormatError;
use crate::images::variants::VariantError;
use crate::images::{Refusal, Unready, UploadError};
use crate::limits::Limited;
use crate::model::removal::Ground;
use crate::payments::{NotRenewable, PayError, Silent};
use crate::receipts::NoReceipt;
use crate::retention::DeleteError;
use crate::signin::SignInError;
use crate::store::StoreError;
use crate::trust::Blocked;

/// What the response says beside its message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) code: Code,
    /// Whether the payment moved money; `None` where nobody knows.
    pub(super) charged: Option<bool>,
    pub(super) action: Action,
    /// How long to wait before the next request.
    pub(super) seconds: Option<u32>,
}

/// The usual verdict of a code. Codes whose charge varies need [`Verdict::charged`].
const fn plain(code: Code) -> Verdict {
    let facts = code.facts();
    let action = match facts.actions {
        [first, ..] => *first,
        [] => Action::Contact,
    };
    Verdict {
        code,
        charged: match facts.charged {
            Charged::No => Some(false),
            Charged::Yes => Some(true),
            Charged::Unknown | Charged::Varies => None,
        },
        action,
        seconds: None,
    }
}

const fn after(seconds: u32, code: Code) -> Verdict {
    Verdict {
        seconds: Some(seconds),
        ..plain(code)
    }
}

impl Verdict {
    const fn charged(self, charged: Option<bool>) -> Self {
        Self { charged, ..self }
    }

    const fn then(self, action: Action) -> Self {
        Self { action, ..self }
    }
}

impl ApiError {
    /// The one match from errors to codes.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::NotFound => plain(Code::NotFound),
            Self::Removed(Ground::Policy) => plain(Code::ImageRemoved),
            Self::Removed(Ground::Legal) => plain(Code::RemovedForLegalReasons),
            Self::UnknownRoute { .. } => plain(Code::UnknownRoute),
            Self::UnknownTier { .. } => plain(Code::UnknownTier),
            Self::WrongMethod { .. } => plain(Code::MethodNotAllowed),
            Self::AnotherImage => plain(Code::PreconditionFailed),
            Self::NoSuchPart { .. } => plain(Code::RangeNotSatisfiable),
            Self::Unreadable(error) => of_unreadable(error),
            Self::Variant(error) => of_variant(error),
            Self::Bad(code, _) => plain(*code),
            Self::BadPayment(_) => plain(Code::BadPayment),
            Self::PaymentsOff => plain(Code::PaymentsDisabled),
            Self::SaleStopped => after(30, Code::SalesPaused),
            Self::Behind => after(60, Code::RecoveryRequired).charged(Some(false)),
            Self::Moving | Self::Moved => after(5, Code::Maintenance),
            Self::Upload(error) | Self::Link { error, .. } => of_upload(error),
            Self::Unsold(error) | Self::Pay { error, .. } => of_payment(error),
            Self::Limited(error) => of_limit(error),
            Self::FreeSpent { error, .. } => of_limit(error).then(Action::Pay),
            Self::Unasked(error) => error.verdict().charged(None),
            Self::BadDeleteToken { .. } => plain(Code::BadDeleteToken),
            Self::NotOwner { .. } => plain(Code::NotOwner),
            Self::Delete(error) => of_delete(error),
            Self::Receipt(error) => of_receipt(error),
            Self::PaymentRequired(_) => plain(Code::PaymentRequired),
            Self::SignInRequired(_) => plain(Code::SignInRequired),
            Self::SignIn { error, .. } => of_sign_in(error),
            Self::Unclaimed(error) => of_payment(error).charged(Some(false)),
        }
    }
}

fn of_unreadable(error: &UploadError) -> Verdict {
    match error {
        UploadError::Database(_) | UploadError::Unready(Unready::Database) => {
            after(2, Code::DatabaseUnavailable)
        }
        _ => after(2, Code::StoreUnavailable),
    }
}

fn of_variant(error: &VariantError) -> Verdict {
    match error {
        VariantError::Limited(error) => of_limit(error),
        VariantError::Unreadable(error) => of_unreadable(error),
        VariantError::Missing => plain(Code::NotFound),
        VariantError::Late(_) => after(60, Code::Busy),
        VariantError::Impossible(_) => plain(Code::VariantImpossible),
        VariantError::Interrupted => after(2, Code::Busy),
    }
}

fn of_upload(error: &UploadError) -> Verdict {
    match error {
        UploadError::Refused(refusal) => of_refusal(refusal),
        UploadError::Fetch(error) => of_fetch(error),
        UploadError::BadToken => plain(Code::BadToken),
        UploadError::Lost(_) => after(60, Code::RecoveryRequired),
        UploadError::Recovered => plain(Code::PaymentKnown)
            .charged(Some(true))
            .then(Action::Claim),
        UploadError::TokenExpired { .. } => plain(Code::TokenExpired),
        UploadError::TokenUsed => plain(Code::TokenUsed),
        UploadError::LinkUnknown => plain(Code::LinkUnknown),
        UploadError::LinkExpired { .. } => plain(Code::LinkExpired),
        UploadError::LinkUsed { .. } => plain(Code::LinkUsed),
        UploadError::LinkRevoked => plain(Code::LinkRevoked),
        UploadError::FreeLinkExpired { .. } => plain(Code::LinkExpired).then(Action::FixRequest),
        UploadError::FreeLinkUsed { .. } => plain(Code::LinkUsed).then(Action::FixRequest),
        UploadError::FreeLinkRevoked => plain(Code::LinkRevoked).then(Action::FixRequest),
        UploadError::KeyUnknown => plain(Code::KeyUnknown),
        UploadError::KeySuspended { .. } => plain(Code::KeySuspended),
        UploadError::KeyRevoked => plain(Code::KeyRevoked),
        UploadError::KeySpent { wait, .. } => after(seconds(*wait), Code::KeyLimit),
        UploadError::TokenBusy => after(1, Code::TokenInUse),
        UploadError::Voided { charged } => voided(*charged),
        UploadError::Refunded => voided(Some(true)),
        UploadError::Full(_) => after(60, Code::StorageFull),
        UploadError::Unready(Unready::Database) => after(5, Code::DatabaseUnavailable),
        UploadError::Unready(Unready::Store) => after(5, Code::StoreUnavailable),
        UploadError::Database(_) => after(2, Code::DatabaseUnavailable),
        UploadError::Store(error) => of_store(error),
        UploadError::Blocked(Blocked::Content) => plain(Code::ContentBlocked),
        UploadError::Blocked(Blocked::Wallet) => plain(Code::WalletBlocked),
        UploadError::Blocked(Blocked::Unscanned) => after(60, Code::ScannerUnavailable),
        UploadError::Interrupted => after(2, Code::UploadFailed),
    }
}

fn of_fetch(error: &FetchError) -> Verdict {
    match error {
        FetchError::Disabled => plain(Code::ImportDisabled),
        FetchError::NotAllowed { .. } => plain(Code::UrlNotAllowed),
        FetchError::Failed(failure) if failure.is_passing() => {
            after(5, Code::FetchFailed).then(Action::Retry)
        }
        FetchError::Failed(_) => plain(Code::FetchFailed),
        FetchError::HostBusy { wait } => after(seconds(*wait), Code::Busy),
    }
}

/// The operator voided the payment. Only one that can't move money any more may be replaced.
const fn voided(charged: Option<bool>) -> Verdict {
    let verdict = plain(Code::PaymentResolved).charged(charged);
    match charged {
        Some(false) => verdict.then(Action::Pay),
        _ => verdict,
    }
}

fn of_store(error: &StoreError) -> Verdict {
    if matches!(error, StoreError::Full) {
        after(60, Code::StorageFull)
    } else if error.is_passing() {
        after(5, Code::StoreUnavailable)
    } else {
        after(2, Code::UploadFailed)
    }
}

fn of_limit(error: &Limited) -> Verdict {
    match error {
        Limited::Rate { wait, .. } => after(seconds(*wait), Code::RateLimited),
        Limited::Day { wait, .. } | Limited::HalfDay { wait, .. } => {
            after(seconds(*wait), Code::DailyLimit)
        }
        Limited::Busy | Limited::Crowded | Limited::Thronged => after(1, Code::Busy),
        Limited::Database(_) => after(2, Code::DatabaseUnavailable),
    }
}

/// Whole seconds, rounded up, so that a client that comes then is served.
fn seconds(time: Duration) -> u32 {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

fn of_delete(error: &DeleteError) -> Verdict {
    match error {
        DeleteError::Held(_) => plain(Code::ImageHeld),
        DeleteError::Renewing(_) => after(30, Code::RenewalInProgress),
        DeleteError::Database(_) => after(5, Code::DatabaseUnavailable),
        DeleteError::Store(_) => after(5, Code::StoreUnavailable),
        DeleteError::Interrupted => after(5, Code::DeleteFailed),
    }
}

fn of_receipt(error: &NoReceipt) -> Verdict {
    match error {
        NoReceipt::Unknown | NoReceipt::Free | NoReceipt::Void => plain(Code::NoReceipt),
        NoReceipt::Foreign => plain(Code::NotOwner),
        NoReceipt::Database(_) => after(5, Code::DatabaseUnavailable),
    }
}

fn of_refusal(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::NoFile => plain(Code::NoFile),
        Refusal::BadBody(_) => plain(Code::InvalidBody),
        Refusal::Incomplete(_) => after(1, Code::IncompleteBody),
        Refusal::TooLarge { .. } => plain(Code::FileTooLarge),
        Refusal::Format(FormatError::Empty) => plain(Code::EmptyFile),
        Refusal::Format(FormatError::Unsupported(_)) => plain(Code::UnsupportedFormat),
        Refusal::Format(FormatError::Corrupt { .. }) => plain(Code::CorruptImage),
        Refusal::Format(
            FormatError::TooManyPixels { .. }
            | FormatError::TooManyTotalPixels { .. }
            | FormatError::SideTooLong { .. }
            | FormatError::TooSlow { .. },
        ) => plain(Code::TooManyPixels),
        Refusal::Format(FormatError::TooManyFrames { .. }) => plain(Code::TooManyFrames),
        Refusal::Trailing | Refusal::Damaged(_) => plain(Code::MetadataNotKept),
    }
}

fn of_renewal(error: &NotRenewable) -> Verdict {
    match error {
        NotRenewable::Permanent(_)
        | NotRenewable::TooLarge { .. }
        | NotRenewable::TooFar { .. } => plain(Code::NotRenewable),
        NotRenewable::Removed(_) => plain(Code::NotRenewable).then(Action::Contact),
        NotRenewable::Held(_) => plain(Code::ImageHeld),
        NotRenewable::Busy(_) => after(30, Code::RenewalInProgress),
    }
}

/// A request to sign in carries no payment, so nothing is charged.
fn of_sign_in(error: &SignInError) -> Verdict {
    match error {
        SignInError::Refused(_) => plain(Code::SignInInvalid),
        SignInError::NoNode => after(5, Code::NodeUnavailable),
        SignInError::Limited(error) => of_limit(error),
        SignInError::Database(_) => after(2, Code::DatabaseUnavailable),
    }
}

fn of_payment(error: &PayError) -> Verdict {
    match error {
        PayError::Invalid { .. } => plain(Code::PaymentInvalid),
        PayError::Failed { .. } => plain(Code::PaymentFailed),
        // The same request would receive the same response: its proof of ownership is missing. The
        // wallet's signature is another one.
        PayError::Known {
            charged: Some(true),
        } => plain(Code::PaymentKnown)
            .charged(Some(true))
            .then(Action::Claim),
        PayError::Known { charged } => after(5, Code::PaymentKnown).charged(*charged),
        PayError::Resolved => plain(Code::PaymentResolved).charged(Some(true)),
        PayError::Voided { charged } => voided(*charged),
        PayError::InProgress => after(1, Code::PaymentInProgress),
        PayError::Conflict { charged } => plain(Code::IdempotencyConflict).charged(*charged),
        PayError::BadKey(_) => plain(Code::InvalidHeader),
        PayError::Pending => after(5, Code::SettlementPending),
        PayError::Silent(Silent::Facilitator) => after(5, Code::FacilitatorUnavailable),
        PayError::Silent(Silent::Node) => after(5, Code::NodeUnavailable),
        PayError::Paused => after(30, Code::SalesPaused),
        PayError::Gone => plain(Code::ImageGone),
        PayError::NoImage => plain(Code::NotFound),
        PayError::NotRenewable(error) => of_renewal(error),
        PayError::Upload(error) => of_upload(error),
        PayError::Limited(error) => of_limit(error),
        PayError::Database(_) => after(2, Code::DatabaseUnavailable).charged(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        for (millis, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            let limited = Limited::Day {
                limit: 1,
                wait: Duration::from_millis(millis),
            };
            let verdict = of_limit(&limited);
            assert_eq!(verdict.seconds, Some(expected), "{millis}");
            assert_eq!(verdict.action, Action::Wait);
        }
    }
}
