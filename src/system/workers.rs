//! Threads for work on whole images: as many as there are cores.
//!
//! The C library's allocator keeps freed memory for each thread that used it. Work on images
//! allocates megabytes, so it always runs on the same few threads, which bounds that memory. tokio
//! has hundreds of threads for blocking work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::oneshot;
use tracing::Span;

type Work = Box<dyn FnOnce() + Send>;

/// Work waits with the span that its log lines carry.
static QUEUE: LazyLock<Sender<(Span, Work)>> = LazyLock::new(start);

/// Runs `work` on one of the threads, in order of arrival. `None`: it panicked, or the system can't
/// start threads. The work continues when the future is dropped.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let work: Work = Box::new(move || {
        // The receiver may be dropped already.
        drop(done.send(work()));
    });
    QUEUE.send((Span::current(), work)).ok()?;
    result.await.ok()
}

fn start() -> Sender<(Span, Work)> {
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for number in 0..cores {
        let receiver = Arc::clone(&receiver);
        let thread = std::thread::Builder::new().name(format!("images-{number}"));
        if let Err(error) = thread.spawn(move || work_on(&receiver)) {
            tracing::error!(%error, "a thread for work on images could not be started");
        }
    }
    sender
}

fn work_on(queue: &Mutex<Receiver<(Span, Work)>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((span, work)) = next else {
            return;
        };
        let _entered = span.enter();
        // The waiting task sees the panic by its dropped channel. The panic's message is in the
        // log.
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("work on an image panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_and_a_panic_stops_no_other_work() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..2 * cores {
            let panicked: Option<u8> = run(|| panic!("as a test wants it")).await;
            assert_eq!(panicked, None);
        }
        let name = run(|| std::thread::current().name().map(str::to_owned)).await;
        assert!(
            name.flatten()
                .is_some_and(|name| name.starts_with("images-"))
        );
        let all = (0..100).map(|number| run(move || number * 2));
        let all = futures_util::future::join_all(all).await;
        assert_eq!(
            all,
            (0..100).map(|number| Some(number * 2)).collect::<Vec<_>>()
        );
    }
}
