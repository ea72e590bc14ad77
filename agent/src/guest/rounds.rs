//! When the agent in a guest is asked again, and whether there is one. Pure.
//!
//! Most nodes have guests without one, which is libvirt's answer at once; so the cost is a
//! call, and it is asked rarely: each eighth of the time that the guest runs, once a minute
//! at least. One that answers is asked every twenty seconds. One that takes the time which it
//! has, whether it then answers or not, is given a twentieth of a thread at most.

use std::time::Duration;

/// Between two rounds of one that answers.
const PERIOD: Duration = Duration::from_secs(20);
/// After its first words: addresses come and go while a guest boots.
const AT_FIRST: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];
/// Every so many rounds it is asked also for what seldom changes.
const LONG: u32 = 15;
/// Between two rounds of one that says nothing.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// So often it may be silent before it is taken for gone: it may be busy.
const MISSES: u32 = 2;
/// Until it is asked again then.
const AGAIN: Duration = Duration::from_secs(3);
/// After what says nothing about it: a libvirtd that is away, a guest that stands still.
const LATER: Duration = Duration::from_secs(5);
/// How many times as long as it was waited for it is left alone.
const REST: u32 = 20;

/// What came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    Answer,
    Nothing,
    /// That cannot be said.
    Unknown,
}

/// What is known of the agent in one guest.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    connected: Option<bool>,
    /// Answers in a row.
    answers: u32,
    misses: u32,
}

impl Rounds {
    /// Whether there is an agent; `None`: nobody knows yet.
    pub(super) const fn connected(&self) -> Option<bool> {
        self.connected
    }

    /// Whether it is to be asked also for what seldom changes.
    pub(super) const fn is_long(&self) -> bool {
        self.answers.is_multiple_of(LONG)
    }

    /// Takes in the outcome of a round, and says how long to wait for the next one. The guest
    /// has been looked after for `age`, and it `took` so long of the round itself.
    pub(super) fn learn(&mut self, heard: Heard, age: Duration, took: Duration) -> Duration {
        match heard {
            Heard::Unknown => LATER,
            Heard::Answer => {
                let pause = usize::try_from(self.answers).ok().and_then(|at| AT_FIRST.get(at));
                self.connected = Some(true);
                self.misses = 0;
                self.answers = self.answers.saturating_add(1);
                pause.copied().unwrap_or(PERIOD).max(took * REST)
            }
            Heard::Nothing => {
                self.answers = 0;
                self.misses = self.misses.saturating_add(1);
                if self.connected != Some(false) && self.misses < MISSES {
                    return AGAIN;
                }
                self.connected = Some(false);
                (age / 8).clamp(SHORTEST, LONGEST).max(took * REST)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_guest_without_one_is_asked_often_at_first_and_once_a_minute_later() {
        let (mut rounds, mut age, mut asked) = (Rounds::default(), NO_TIME, 0);
        while age < seconds(3600) {
            age += rounds.learn(Heard::Nothing, age, NO_TIME);
            asked += 1;
            if age > seconds(10) && age < seconds(20) {
                assert!(rounds.learn(Heard::Nothing, age, NO_TIME) <= seconds(3));
            }
        }
        assert_eq!(rounds.connected(), Some(false));
        assert!(asked < 90, "{asked} in an hour");
        assert_eq!(rounds.learn(Heard::Nothing, age, NO_TIME), LONGEST);
    }

    #[test]
    fn one_that_keeps_us_waiting_waits_longer_itself() {
        let mut rounds = Rounds::default();
        rounds.learn(Heard::Nothing, NO_TIME, seconds(5));
        assert_eq!(rounds.learn(Heard::Nothing, NO_TIME, seconds(5)), seconds(100));
        assert_eq!(rounds.learn(Heard::Answer, NO_TIME, seconds(4)), seconds(80));
    }

    #[test]
    fn one_that_answers_stays_until_it_has_missed_two_rounds_in_a_row() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.connected(), None);
        let pauses: Vec<_> =
            (0..5).map(|_| rounds.learn(Heard::Answer, NO_TIME, NO_TIME)).collect();
        assert_eq!(pauses, [2, 5, 10, 20, 20].map(seconds));
        for heard in [Heard::Nothing, Heard::Answer, Heard::Unknown, Heard::Nothing] {
            rounds.learn(heard, NO_TIME, NO_TIME);
            assert_eq!(rounds.connected(), Some(true), "{heard:?}");
        }
        rounds.learn(Heard::Unknown, NO_TIME, NO_TIME);
        assert_eq!(rounds.connected(), Some(true), "that says nothing about it");
        rounds.learn(Heard::Nothing, NO_TIME, NO_TIME);
        assert_eq!(rounds.connected(), Some(false));
    }

    #[test]
    fn what_seldom_changes_is_asked_for_at_once_and_now_and_then() {
        let mut rounds = Rounds::default();
        let long: Vec<_> = (0..31)
            .filter(|_| {
                let long = rounds.is_long();
                rounds.learn(Heard::Answer, NO_TIME, NO_TIME);
                long
            })
            .collect();
        assert_eq!(long, [0, 15, 30]);
        rounds.learn(Heard::Nothing, NO_TIME, NO_TIME);
        assert!(rounds.is_long(), "it may be another one by now");
    }
}
