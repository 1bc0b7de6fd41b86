//! Kill points: places in the paid flows where a test kills the process by SIGKILL, to check that
//! the next process continues correctly with the same files.
//!
//! The crate `fail` compiles them in with its feature `failpoints`, which only the development
//! dependencies enable. A release build contains none; CI searches it for their names.

/// Kills the process here if a test asks for it in the environment variable `FAILPOINTS`.
macro_rules! kill_point {
    ($name:literal) => {
        fail::fail_point!($name, |_| $crate::system::kill::die());
    };
}

pub(crate) use kill_point;

/// Kills this process by SIGKILL: no destructor runs and nothing is flushed.
pub fn die() -> ! {
    let this = rustix::process::getpid();
    match rustix::process::kill_process(this, rustix::process::Signal::KILL) {
        Ok(()) | Err(_) => std::process::abort(),
    }
}
