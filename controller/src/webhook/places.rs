//! The places that connections hold, and who gives way when all are taken.
//!
//! ```text
//!  new connection ─► a free place, or else that of who has been silent longest
//!                        │
//!        silent ◄────────┴──────► a request is answered
//!          └─ for too long: it ends
//! ```
//!
//! Silent is who has yet to say all of its next request, whatever it is about: a
//! handshake, a head, a body. So nobody keeps out others by holding a place, and what is
//! being answered is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// All the places.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<BTreeMap<u64, Guest>>,
}

/// Who holds a place.
#[derive(Debug)]
struct Guest {
    /// Since when it has been silent; none while it is answered.
    silent: Option<Instant>,
    /// For how long it may be.
    patience: Duration,
    give_way: CancellationToken,
}

/// One that is held; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    begun: Instant,
    places: Arc<Places>,
    give_way: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(places)), taken: Mutex::default() })
    }

    /// A free place for one who may be silent for so long; where there is none, who has
    /// been silent longest gives way.
    pub(crate) async fn take(self: &Arc<Self>, patience: Duration) -> Place {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.make_room();
                let free = Arc::clone(&self.free).acquire_owned().await;
                free.expect("the semaphore is never closed")
            }
        };
        let (begun, give_way) = (Instant::now(), CancellationToken::new());
        let guest = Guest { silent: Some(begun), patience, give_way: give_way.clone() };
        let mut taken = self.taken.lock();
        let number = taken.last_key_value().map_or(0, |(last, _)| last + 1);
        taken.insert(number, guest);
        Place { number, begun, places: Arc::clone(self), give_way, _permit: permit }
    }

    fn make_room(&self) {
        let taken = self.taken.lock();
        let silent = taken.values().filter(|guest| !guest.give_way.is_cancelled());
        let silent = silent.filter_map(|guest| Some((guest.silent?, &guest.give_way)));
        if let Some((_, longest)) = silent.min_by_key(|(since, _)| *since) {
            longest.cancel();
        }
    }
}

impl Place {
    /// How long the connection has been there.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Its request is all there.
    pub(crate) fn is_answered(&self) {
        if let Some(guest) = self.places.taken.lock().get_mut(&self.number) {
            guest.silent = None;
        }
    }

    /// It may be silent for so long, from now, before its request is all there.
    pub(crate) fn may_ask(&self, patience: Duration) {
        if let Some(guest) = self.places.taken.lock().get_mut(&self.number) {
            guest.silent = Some(Instant::now());
            guest.patience = patience;
        }
    }

    /// When it will have been silent for too long, if it says nothing.
    fn due(&self) -> Instant {
        let taken = self.places.taken.lock();
        let guest = taken.get(&self.number);
        let patience = guest.map_or(Duration::ZERO, |guest| guest.patience);
        guest.and_then(|guest| guest.silent).unwrap_or_else(Instant::now) + patience
    }

    /// Returns once it has been silent for too long, or is to give way.
    pub(crate) async fn is_over(&self) {
        loop {
            let due = self.due();
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = self.give_way.cancelled() => return,
                () = sleep_until(due) => {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().remove(&self.number);
    }
}
