//! What is sold and for how much: the price table, amounts of money, and the networks they are paid
//! on. No I/O.

mod by_size;
pub mod money;
pub mod networks;
pub mod tiers;
