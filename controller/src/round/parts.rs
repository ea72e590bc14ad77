//! What a round decides of all that is to be looked at: a part, so that who waits for
//! a place does not wait for all those that have one, and what is decided for ten
//! thousand is not in memory at once.
//!
//! ```text
//!  lends, starts ──► first ──┐
//!                            ├──► part
//!  all others    ──► after ──┘   a few of these go along with each part
//! ```

use std::collections::{HashSet, VecDeque};

use crate::ledger::VmKey;
use crate::world::Turn;

/// A part has no more of those that come first, or of the others where none of the former
/// is left.
const MOST: usize = 2_000;
/// Others that go along with those that come first, lest they never have their turn.
const ALONG: usize = 250;

/// Those that are to be decided, each once.
#[derive(Debug, Default)]
pub(super) struct Parts {
    first: VecDeque<VmKey>,
    after: VecDeque<VmKey>,
    queued: HashSet<VmKey>,
}

impl Parts {
    /// Has this one decided in a later part, behind those of its turn that are there.
    pub(super) fn add(&mut self, key: VmKey, turn: Turn) {
        if !self.queued.insert(key.clone()) {
            return;
        }
        match turn {
            Turn::Lends | Turn::Starts => self.first.push_back(key),
            Turn::Other => self.after.push_back(key),
        }
    }

    /// The next part.
    pub(super) fn take(&mut self) -> Vec<VmKey> {
        let others = if self.first.is_empty() { MOST } else { ALONG };
        let first = self.first.drain(..self.first.len().min(MOST));
        let part: Vec<_> = first.chain(self.after.drain(..self.after.len().min(others))).collect();
        for key in &part {
            self.queued.remove(key);
        }
        part
    }

    /// Whether there is no further one.
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, number: usize) -> VmKey {
        VmKey { namespace: "default".to_owned(), name: format!("{kind}-{number}") }
    }

    fn count(part: &[VmKey], kind: &str) -> usize {
        part.iter().filter(|key| key.name.starts_with(kind)).count()
    }

    #[test]
    fn who_starts_waits_for_none_that_runs_and_neither_holds_the_other_up_for_ever() {
        let mut parts = Parts::default();
        (0..5_000).for_each(|number| parts.add(key("runs", number), Turn::Other));
        (0..3_000).for_each(|number| parts.add(key("starts", number), Turn::Starts));
        let mut seen = Vec::new();
        while !parts.is_empty() {
            let part = parts.take();
            seen.push((count(&part, "starts"), count(&part, "runs")));
        }
        assert_eq!(seen, [(2_000, 250), (1_000, 250), (0, 2_000), (0, 2_000), (0, 500)]);
    }

    #[test]
    fn whoever_is_marked_again_while_it_waits_is_decided_once_and_keeps_its_turn() {
        let mut parts = Parts::default();
        for number in [1, 2, 1] {
            parts.add(key("runs", number), Turn::Other);
        }
        assert_eq!(parts.take(), [key("runs", 1), key("runs", 2)]);
        assert!(parts.is_empty() && parts.take().is_empty());
        parts.add(key("runs", 1), Turn::Other);
        assert_eq!(parts.take(), [key("runs", 1)], "what is seen afterwards counts");
    }
}
