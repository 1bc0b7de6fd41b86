//! See the module `render` of the crate.
#![no_main]

use pixtoll_fuzz::{prepare, render};

libfuzzer_sys::fuzz_target!(init: prepare(), |bytes: &[u8]| render::holds(bytes));
