//! Repeated settle calls that are under way in this process, at most one per payment.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::payment::PaymentId;

/// The ledger ids of the payments whose repeated settle call is under way.
#[derive(Debug, Clone, Default)]
pub(super) struct RepeatedSettles(Arc<Mutex<HashSet<PaymentId>>>);

impl RepeatedSettles {
    /// Marks the payment's call as under way. `None`: one already is.
    pub(super) fn begin(&self, id: &PaymentId) -> Option<InFlight> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.clone()).then(|| InFlight {
            again: self.clone(),
            id: id.clone(),
        })
    }
}

/// A repeated settle call that is under way until this value is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    again: RepeatedSettles,
    id: PaymentId,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut ids = self.again.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&self.id);
    }
}
