//! How much of this host one guest may take: a token bucket for what is answered, and a
//! rest for who goes on all the same.

use std::time::{Duration, Instant};

/// How many messages a port may send to the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Messages per second in the long run.
    pub rate: u32,
    /// Messages at once after a rest.
    pub burst: u32,
}

impl Default for Limit {
    /// Far above what a guest with several clients needs, far below what hurts.
    fn default() -> Self {
        Self { rate: 20, burst: 60 }
    }
}

/// The state of one port's limit.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: Limit,
    /// What is left, in millionths of a message; never above the burst.
    left: u64,
    filled: Instant,
}

const MESSAGE: u64 = 1_000_000;

impl Bucket {
    pub(crate) fn full(limit: Limit, now: Instant) -> Self {
        Self { limit, left: u64::from(limit.burst) * MESSAGE, filled: now }
    }

    /// Whether one more message may be answered now.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        // A message per second is a millionth of one per microsecond.
        let idle = now.saturating_duration_since(self.filled).min(Duration::from_secs(3600));
        let micros = u64::try_from(idle.as_micros()).expect("an hour in microseconds");
        let gained = micros * u64::from(self.limit.rate);
        self.left = (self.left + gained).min(u64::from(self.limit.burst) * MESSAGE);
        self.filled = now;
        match self.left.checked_sub(MESSAGE) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Frames read from one interface before the others get their turn.
pub(crate) const TURN: usize = 16;

/// How long a flooded interface is not listened to. To read what is not answered takes
/// processor time, too: the rest is the kernel's to drop once the socket is full. Short, as
/// who behaves again waits for it.
pub(crate) const REST: Duration = Duration::from_millis(10);

/// Whether an interface rests after a turn in which so many frames were read in vain: cut by
/// the limit, or nobody's. One that many guests share does not, since all would have to
/// suffer for one.
pub(crate) const fn rests(guests: usize, in_vain: usize) -> bool {
    guests <= 1 && in_vain >= TURN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_the_next_message_waits_for_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(Limit { rate: 10, burst: 3 }, start);
        assert!((0..3).all(|_| bucket.take(start)));
        assert!(!bucket.take(after(start, 99)));
        assert!(bucket.take(after(start, 100)));
        assert!(!bucket.take(after(start, 100)));
    }

    #[test]
    fn a_long_rest_gives_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::full(Limit { rate: 1000, burst: 2 }, start);
        let later = start + Duration::from_secs(1_000_000);
        assert!(bucket.take(later) && bucket.take(later) && !bucket.take(later));
    }

    #[test]
    fn an_interface_rests_after_a_turn_for_nothing_unless_others_share_it() {
        for (guests, in_vain, expected) in
            [(1, TURN, true), (1, TURN - 1, false), (1, 0, false), (2, TURN, false)]
        {
            assert_eq!(rests(guests, in_vain), expected, "{guests} {in_vain}");
        }
    }
}
