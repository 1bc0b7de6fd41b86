//! Payments whose settle was called again by this process and gave no answer yet.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::payment::PaymentId;

/// Which they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Again(Arc<Mutex<HashSet<PaymentId>>>);

impl Again {
    /// Notes that it is called; `None`: it is under way.
    pub(super) fn begin(&self, id: &PaymentId) -> Option<InFlight> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.clone()).then(|| InFlight {
            again: self.clone(),
            id: id.clone(),
        })
    }
}

/// A call that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    again: Again,
    id: PaymentId,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut ids = self.again.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&self.id);
    }
}
