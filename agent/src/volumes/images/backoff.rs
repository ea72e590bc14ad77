//! When an image that could not be had is asked for again: after 10 s, and after twice as long
//! each time, up to five minutes; as the kubelet has it, for each VM and image.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// Who has not failed for so long is no longer remembered.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How long the failure itself is shown, before it is said that one waits.
const SHOWN: Duration = Duration::from_secs(3);

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct BackOffs(BTreeMap<Key, BackOff>);

/// A VM's instance by its uid, and an image.
pub(super) type Key = (String, String);

#[derive(Clone, Debug)]
struct BackOff {
    pause: Duration,
    until: Instant,
    problem: String,
}

impl BackOffs {
    /// How long one still has to wait, and for what.
    pub(super) fn left(&self, key: &Key, now: Instant) -> Option<(Duration, String)> {
        let one = self.0.get(key)?;
        let left = one.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((left, one.problem.clone()))
    }

    /// Notes a failure; when to look again.
    pub(super) fn failed(&mut self, key: Key, problem: &str, now: Instant) -> Duration {
        self.0.retain(|_, one| now.saturating_duration_since(one.until) < FORGOTTEN);
        let before = self.0.get(&key).map(|one| (one.pause * 2).min(LONGEST));
        let pause = before.unwrap_or(FIRST);
        self.0.insert(key, BackOff { pause, until: now + pause, problem: problem.to_owned() });
        SHOWN.min(pause)
    }

    /// Notes that it was had.
    pub(super) fn succeeded(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_ten_seconds_to_five_minutes() {
        let (mut all, mut now) = (BackOffs::default(), Instant::now());
        let key = ("u1".to_owned(), "a".to_owned());
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            assert!(all.left(&key, now).is_none());
            assert_eq!(all.failed(key.clone(), "not found", now), SHOWN);
            let (left, why) = all.left(&key, now).unwrap();
            assert_eq!((left.as_secs(), why.as_str()), (seconds, "not found"));
            now += left;
        }
        all.succeeded(&key);
        all.failed(key.clone(), "again", now);
        assert_eq!(all.left(&key, now).unwrap().0, FIRST);
        let other = ("u2".to_owned(), "a".to_owned());
        assert!(all.left(&other, now).is_none());
        all.failed(other.clone(), "x", now + FIRST + FORGOTTEN);
        assert_eq!(all.0.keys().collect::<Vec<_>>(), [&other]);
    }
}
