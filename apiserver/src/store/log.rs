//! The recent past, for watches.
//!
//! A ring of events in version order. It forgets by count: a watcher that was away for longer is
//! told so and lists again. After a restart the log is empty and starts at the version the store
//! was opened with; a watcher that had seen everything goes on without a gap.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Key, Stored};

/// How many events are kept.
pub(super) const KEPT: usize = 10_000;

/// What happened to one object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) version: u64,
    pub(crate) key: Key,
    pub(crate) kind: EventKind,
    /// The object after the change; for a deletion its last state, with the deletion's version.
    pub(crate) object: Arc<Stored>,
    /// The object before the change: a selector may have matched that and not this.
    pub(crate) previous: Option<Arc<Stored>>,
}

/// The log does not reach back to the version asked for, or has never seen it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooOld {
    /// The oldest version from which a watch could start.
    pub(crate) oldest: u64,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    /// Everything after this version is in `events`.
    start: u64,
}

impl Log {
    pub(super) fn start_at(&mut self, version: u64) {
        self.start = version;
        self.events.clear();
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() == KEPT
            && let Some(forgotten) = self.events.pop_front()
        {
            self.start = forgotten.version;
        }
        self.events.push_back(event);
    }

    /// See `Store::events_after`; `latest` is the store's version. A version that is still to
    /// come is one of another store, so it is as unknown as one that was forgotten.
    pub(super) fn after(
        &self,
        version: u64,
        latest: u64,
        limit: usize,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<(Vec<Arc<Event>>, u64), TooOld> {
        if version < self.start || version > latest {
            return Err(TooOld { oldest: self.start });
        }
        let first = self.events.partition_point(|event| event.version <= version);
        let mut found = vec![];
        for event in self.events.range(first..) {
            if wanted(&event.key) {
                found.push(event.clone());
                if found.len() == limit {
                    return Ok((found, event.version));
                }
            }
        }
        Ok((found, latest))
    }
}
