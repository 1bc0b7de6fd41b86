//! What the process gets from its machine: time, randomness, disk, memory, threads, logs.

pub mod clock;
pub mod date_header;
pub mod disk;
pub mod kill;
pub mod logs;
pub mod pages;
pub mod random;
pub mod workers;
