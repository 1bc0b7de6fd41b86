//! Threads for work on whole images: as many as there are cores.
//!
//! The C library's allocator keeps freed memory for each thread that used it. Work on images
//! allocates megabytes, so it always runs on the same few threads, which bounds that memory. tokio
//! has hundreds of threads for blocking work.
//!
//! The threads have a low priority. On a busy machine they take what other threads leave, and a
//! tenth of what they would take otherwise: one check of a large image takes longer than hundreds of
//! responses. Variants of images have threads of their own, whose priority is lower still, so that
//! uploads are checked as fast as without variants.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::oneshot;
use tracing::Span;

/// How much the priority of the threads for checks is lowered, from 0 to 19.
const NICE: i32 = 10;
/// The same for those of variants.
const NICE_VARIANTS: i32 = 15;

type Work = Box<dyn FnOnce() + Send>;

/// Work waits with the span that its log lines carry.
static QUEUE: LazyLock<Sender<(Span, Work)>> = LazyLock::new(|| start("images", NICE));
static LOW_QUEUE: LazyLock<Sender<(Span, Work)>> =
    LazyLock::new(|| start("variants", NICE_VARIANTS));

/// Runs `work` on one of the threads, in order of arrival. `None`: it panicked, or the system can't
/// start threads. The work continues when the future is dropped.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    run_on(&QUEUE, work).await
}

/// Like [`run`], on threads of lower priority.
pub async fn run_low<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    run_on(&LOW_QUEUE, work).await
}

async fn run_on<T: Send + 'static>(
    queue: &Sender<(Span, Work)>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    let work: Work = Box::new(move || {
        // The receiver may be dropped already.
        drop(done.send(work()));
    });
    queue.send((Span::current(), work)).ok()?;
    result.await.ok()
}

fn start(name: &str, lower_by: i32) -> Sender<(Span, Work)> {
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for number in 0..cores {
        let receiver = Arc::clone(&receiver);
        let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
        let work = move || {
            lower_priority(lower_by);
            work_on(&receiver);
        };
        if let Err(error) = thread.spawn(work) {
            tracing::error!(%error, "a thread for work on images could not be started");
        }
    }
    sender
}

/// Lowers the priority of this thread. Linux counts it by thread; elsewhere it is that of the whole
/// process, and stays.
fn lower_priority(by: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(by) {
        tracing::warn!(%error, "the priority of a thread could not be lowered");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = by;
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
        let name = run_low(|| std::thread::current().name().map(str::to_owned)).await;
        assert!(
            name.flatten()
                .is_some_and(|name| name.starts_with("variants-"))
        );
        let all = (0..100).map(|number| run(move || number * 2));
        let all = futures_util::future::join_all(all).await;
        assert_eq!(
            all,
            (0..100).map(|number| Some(number * 2)).collect::<Vec<_>>()
        );
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_on_images_has_a_lower_priority_than_responses() {
        let own = rustix::process::nice(0).unwrap();
        let lowered = run(|| rustix::process::nice(0).unwrap()).await.unwrap();
        assert_eq!(lowered, (own + NICE).min(19));
        assert_eq!(rustix::process::nice(0).unwrap(), own);
    }
}
