//! See the crate's documentation.
#![no_main]

use pixtoll_fuzz::{Format, clean_holds, prepare};

libfuzzer_sys::fuzz_target!(init: prepare(), |bytes: &[u8]| clean_holds(bytes, Format::Jpeg));
