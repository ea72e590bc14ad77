//! Who waits for a disk that somebody sends, and how it gets there.
//!
//! ```text
//!  controller ─ PUT ─► commands ─► bring ─┐
//!                                         ▼ by the claim's uid
//!                     job ─► expect ─► Arrival: bytes, and whom to tell how it went
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::pipe::Pipe;

/// Claims of this node that wait for a disk, by uid; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Uploads {
    waiting: Arc<Mutex<HashMap<String, Expected>>>,
    count: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Expected {
    number: u64,
    tell: oneshot::Sender<Arrival>,
}

/// A disk that comes.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) bytes: Pipe,
    /// How many, if that is known.
    pub(crate) length: Option<u64>,
    /// Whether who sends it is told once all of it has come, or else once the claim is filled.
    pub(crate) early: bool,
    /// Told how it went; why not, for people.
    pub(crate) verdict: oneshot::Sender<Result<(), String>>,
}

/// That a claim waits, for as long as this lives.
#[derive(Debug)]
pub(super) struct Waiting {
    uploads: Uploads,
    uid: String,
    number: u64,
    arrival: oneshot::Receiver<Arrival>,
}

impl Uploads {
    /// From now on the claim waits.
    pub(super) fn expect(&self, uid: &str) -> Waiting {
        let (tell, arrival) = oneshot::channel();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(uid.to_owned(), Expected { number, tell });
        Waiting { uploads: self.clone(), uid: uid.to_owned(), number, arrival }
    }

    /// Whether the claim waits.
    pub(crate) fn is_expected(&self, uid: &str) -> bool {
        self.waiting.lock().get(uid).is_some_and(|one| !one.tell.is_closed())
    }

    /// Hands it over; whether the claim has waited for it.
    pub(crate) fn bring(&self, uid: &str, arrival: Arrival) -> bool {
        let expected = self.waiting.lock().remove(uid);
        expected.is_some_and(|expected| expected.tell.send(arrival).is_ok())
    }
}

impl Waiting {
    /// What comes, however long that takes.
    ///
    /// # Errors
    /// Another waits in its place.
    pub(super) async fn arrival(mut self) -> Result<Arrival, Fault> {
        (&mut self.arrival).await.map_err(|_| Fault::Over)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.uploads.waiting.lock();
        if waiting.get(&self.uid).is_some_and(|one| one.number == self.number) {
            waiting.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe::pipe;
    use super::*;

    fn arrival() -> (Arrival, oneshot::Receiver<Result<(), String>>) {
        let (_, bytes) = pipe();
        let (verdict, told) = oneshot::channel();
        (Arrival { bytes, length: Some(3), early: false, verdict }, told)
    }

    #[tokio::test]
    async fn a_disk_comes_to_who_waits_for_it_and_to_nobody_else() {
        let uploads = Uploads::default();
        assert!(!uploads.bring("u1", arrival().0), "nobody waits");
        let waiting = uploads.expect("u1");
        assert!(uploads.is_expected("u1") && !uploads.is_expected("u2"));
        assert!(uploads.bring("u1", arrival().0));
        assert!(!uploads.is_expected("u1"), "one at a time");
        assert_eq!(waiting.arrival().await.unwrap().length, Some(3));
    }

    #[tokio::test]
    async fn who_has_gone_waits_no_longer_and_takes_nobody_elses_turn_away() {
        let uploads = Uploads::default();
        let first = uploads.expect("u1");
        let second = uploads.expect("u1");
        assert!(matches!(first.arrival().await, Err(Fault::Over)));
        assert!(uploads.is_expected("u1"));
        drop(second);
        assert!(!uploads.is_expected("u1"));
    }
}
