//! Writes that the API refuses, and when each is tried again: what is wrong with it seldom
//! passes by itself, and nobody else waits for it. Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::time::Instant;

use super::Write;

/// Before the second attempt; doubles up to the next.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// What a write says: one that says something else is not the one that was refused.
type Said = u64;

/// Those that were refused, by what they say.
#[derive(Debug, Default)]
pub(super) struct Refused(HashMap<Said, Wait>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Instant,
    pause: Duration,
}

pub(super) fn said(write: &Write) -> Said {
    let mut hasher = DefaultHasher::new();
    match write {
        // Either has the time in it, and the version says of what it is the status.
        Write::Status(of) => {
            ("DataVolume", of.namespace(), of.name_any(), of.resource_version()).hash(&mut hasher);
        }
        Write::DataSource(of) => {
            ("DataSource", of.namespace(), of.name_any(), of.resource_version()).hash(&mut hasher);
        }
        other => format!("{other:?}").hash(&mut hasher),
    }
    hasher.finish()
}

impl Refused {
    /// Those that are to be made now. What is not wished any more is forgotten.
    pub(super) fn due(&mut self, writes: Vec<Write>, now: Instant) -> Vec<Write> {
        if self.0.is_empty() {
            return writes;
        }
        let all: Vec<_> = writes.into_iter().map(|write| (said(&write), write)).collect();
        self.0.retain(|known, _| all.iter().any(|(said, _)| said == known));
        let is_due = |said: &Said| self.0.get(said).is_none_or(|wait| wait.until <= now);
        all.into_iter().filter(|(said, _)| is_due(said)).map(|(_, write)| write).collect()
    }

    /// One was refused.
    pub(super) fn add(&mut self, said: Said, now: Instant) {
        let pause = self.0.get(&said).map_or(FIRST, |wait| (wait.pause * 2).min(LONGEST));
        self.0.insert(said, Wait { until: now + pause, pause });
    }

    /// One was made after all.
    pub(super) fn done(&mut self, said: Said) {
        self.0.remove(&said);
    }

    /// Whether one is refused still.
    pub(super) fn has(&self, said: Said) -> bool {
        self.0.contains_key(&said)
    }

    /// When the next of them is to be made.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|wait| wait.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(volume: &str) -> Write {
        Write::Remove { volume: volume.to_owned(), uid: "u".to_owned() }
    }

    #[test]
    fn what_is_refused_is_tried_ever_less_often_and_holds_up_nothing_else() {
        let mut refused = Refused::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(refused.due(vec![remove("a")], now).len(), 1);
            refused.add(said(&remove("a")), now);
            let due = refused.due(vec![remove("a"), remove("b")], now);
            assert!(matches!(&due[..], [Write::Remove { volume, .. }] if volume == "b"), "{due:?}");
            let next = refused.next().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        refused.done(said(&remove("a")));
        assert_eq!(refused.next(), None);
    }

    #[test]
    fn what_is_not_wished_any_more_is_forgotten() {
        let mut refused = Refused::default();
        let now = Instant::now();
        refused.add(said(&remove("a")), now);
        assert_eq!(refused.due(vec![remove("b")], now).len(), 1);
        assert_eq!(refused.next(), None);
        assert_eq!(refused.due(vec![remove("a")], now).len(), 1, "it is a new wish");
    }
}
