//! Trust and safety. The operator's power over images: removal and restore, legal holds, purges at a
//! CDN, and the log of all of it; each act is one function here, and the commands and the admin API
//! only call them. What the server refuses to publish: blocked content and wallets, and what a scanner
//! of the operator's rejects.

mod acts;
pub mod audit;
pub mod blocks;
pub mod content;
pub mod csam;
pub mod decide;
pub mod facts;
pub mod find;
mod hold;
pub mod package;
mod purge;
mod remove;
pub mod reports;
pub mod sanctions;
pub mod scanner;
mod screening;

pub use acts::{ActError, By, Trust};
pub use hold::Fate;
pub use remove::BlockOf;
pub use screening::{Blocked, Screening};

use acts::{LONGEST_REASON, text};
