//! How many images come at once, so that few of them do not fill the node's line and disk;
//! and that none of them has a place for ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long one may go on while others wait.
const TURN: Duration = Duration::from_secs(300);

/// Places for those that come.
#[derive(Debug)]
pub(super) struct Slots {
    places: Semaphore,
    waiting: AtomicUsize,
}

/// One place.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    began: Instant,
    _place: SemaphorePermit<'a>,
}

/// One who waits; no more once it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Slots {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places.max(1)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a place; who came first has it first.
    pub(super) async fn take(&self) -> Slot<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        let place = self.places.acquire().await.expect("it is never closed");
        drop(waiting);
        Slot { slots: self, began: Instant::now(), _place: place }
    }
}

impl Slot<'_> {
    /// Whether others wait and have waited long enough.
    pub(super) fn is_over(&self) -> bool {
        self.slots.waiting.load(Ordering::Relaxed) > 0 && self.began.elapsed() > TURN
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_up_once_others_have_waited_for_it() {
        let slots = Slots::new(1);
        let first = slots.take().await;
        tokio::time::advance(TURN * 2).await;
        assert!(!first.is_over(), "nobody waits");
        let second = slots.take();
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        assert!(first.is_over());
        drop(first);
        let second = second.await;
        assert!(!second.is_over());
    }
}
