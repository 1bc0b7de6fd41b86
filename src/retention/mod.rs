//! What disappears, and when.

pub mod schedule;
