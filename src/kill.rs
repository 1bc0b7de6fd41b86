//! Kill points: places in the paid flows where a test has the process die by SIGKILL, to see that the
//! next one on the same files goes on rightly.
//!
//! They are compiled in by the crate `fail` with its feature `failpoints`, which only the
//! development dependencies ask for. A release build holds none of them; CI looks for their names.

/// Dies here when a test says so through the environment variable `FAILPOINTS`.
macro_rules! kill_point {
    ($name:literal) => {
        fail::fail_point!($name, |_| $crate::kill::die());
    };
}

pub(crate) use kill_point;

/// Ends this process by SIGKILL: no destructor, no flush, no goodbye.
pub fn die() -> ! {
    let this = rustix::process::getpid();
    match rustix::process::kill_process(this, rustix::process::Signal::KILL) {
        Ok(()) | Err(_) => std::process::abort(),
    }
}
