//! How long a guest may take to be sent, and what then. Pure.
//!
//! ```text
//!  PreCopy   too long ─► PostCopy, if its terms allow that: nothing ends it any more
//!                     ─► Paused, if they allow that: it has as long again, and then
//!            else, or without progress ─► it stays
//! ```

use std::time::Duration;

use crds::kubevirt::MigrationConfiguration;
use tokio::time::Instant;

use crate::hypervisor::Job;

/// KubeVirt's `completionTimeoutPerGiB` and `progressTimeout`, in seconds.
const TIMEOUT: u64 = 150;

/// How a guest is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// It runs here until nearly all was sent.
    PreCopy,
    /// It runs at the target, and the rest is sent after it.
    PostCopy,
    /// It may stand still until all was sent.
    Paused,
}

impl Mode {
    /// In KubeVirt's words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PreCopy => "PreCopy",
            Self::PostCopy => "PostCopy",
            Self::Paused => "Paused",
        }
    }
}

/// What is to become of a guest that is being sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    GoesOn,
    /// It is to be sent in another way.
    Becomes(Mode),
    /// It is to stay, because.
    Ends(String),
}

/// How long a guest may take to be sent, and go on without progress.
#[derive(Debug)]
pub(super) struct Patience {
    per_gib: Duration,
    progress: Duration,
    /// What it may become when it takes too long.
    next: Option<Mode>,
    pub(super) mode: Mode,
    /// Whether it is said what it becomes.
    pub(super) is_told: bool,
    begun: Instant,
    total: u64,
    least: u64,
    since: Instant,
}

impl Patience {
    /// With KubeVirt's limits where none that can be are written.
    pub(super) fn of(terms: Option<&MigrationConfiguration>) -> Self {
        let now = Instant::now();
        let seconds = |written: Option<i64>| {
            let written = written.and_then(|seconds| u64::try_from(seconds).ok());
            Duration::from_secs(written.filter(|seconds| *seconds > 0).unwrap_or(TIMEOUT))
        };
        let per_gib = seconds(terms.and_then(|terms| terms.completion_timeout_per_gib));
        let progress = seconds(terms.and_then(|terms| terms.progress_timeout));
        let allows = |said: fn(&MigrationConfiguration) -> Option<bool>| {
            terms.and_then(said).unwrap_or(false)
        };
        let next = if allows(|terms| terms.allow_post_copy) {
            Some(Mode::PostCopy)
        } else {
            allows(|terms| terms.allow_workload_disruption).then_some(Mode::Paused)
        };
        Self {
            per_gib,
            progress,
            next,
            mode: Mode::PreCopy,
            is_told: false,
            begun: now,
            total: 0,
            least: u64::MAX,
            since: now,
        }
    }

    /// The sending has gone on for so long already; no longer than any clock can tell.
    pub(super) fn began_before(&mut self, elapsed: Duration) {
        self.begun = self.begun.checked_sub(elapsed).unwrap_or(self.begun);
    }

    /// It is sent in this way now.
    pub(super) fn is_now(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// What is to be done about it.
    pub(super) fn verdict(&mut self, job: Job, now: Instant) -> Verdict {
        // Nothing that runs elsewhere can be kept.
        if self.mode == Mode::PostCopy {
            return Verdict::GoesOn;
        }
        // First the disks are sent, and then the memory, which is counted anew.
        if job.remaining < self.least || job.total != self.total {
            (self.total, self.least, self.since) = (job.total, job.remaining, now);
        }
        if now.duration_since(self.since) > self.progress {
            let seconds = self.progress.as_secs();
            return Verdict::Ends(format!("it made no progress for {seconds} s"));
        }
        let gib = u32::try_from(job.total.div_ceil(1 << 30)).unwrap_or(u32::MAX).max(1);
        let most = self.per_gib.saturating_mul(gib);
        let taken = now.duration_since(self.begun);
        let seconds = self.per_gib.as_secs();
        match (self.mode, self.next) {
            _ if taken <= most => Verdict::GoesOn,
            (Mode::PreCopy, Some(next)) if taken <= most.saturating_mul(2) => {
                Verdict::Becomes(next)
            }
            // It may have been refused until now, while disks were sent.
            (Mode::PreCopy, Some(Mode::PostCopy)) => Verdict::Becomes(Mode::PostCopy),
            (Mode::Paused, _) if taken <= most.saturating_mul(2) => Verdict::GoesOn,
            (Mode::Paused, _) => Verdict::Ends(format!(
                "it took longer than twice {seconds} s for each GiB of memory and disks, \
                 though it stood still"
            )),
            _ => Verdict::Ends(format!(
                "it took longer than {seconds} s for each GiB of memory and disks"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> MigrationConfiguration {
        serde_json::from_str(text).unwrap()
    }

    fn ends(verdict: Verdict) -> String {
        match verdict {
            Verdict::Ends(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_guest_that_takes_too_long_or_makes_no_progress_stays() {
        let mut patience = Patience::of(None);
        let start = patience.begun;
        let at = |seconds| start + Duration::from_secs(seconds);
        let job = |remaining| Job { total: 2 << 30, remaining };
        assert_eq!(patience.verdict(job(1 << 30), at(100)), Verdict::GoesOn);
        let two = patience.verdict(job(1 << 29), at(200));
        assert_eq!(two, Verdict::GoesOn, "two GiB have 300 s");
        assert!(ends(patience.verdict(job(1 << 28), at(310))).contains("for each GiB"));
        let mut stuck = Patience::of(None);
        let start = stuck.begun;
        assert_eq!(stuck.verdict(job(5), start), Verdict::GoesOn);
        let over = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(stuck.verdict(job(5), over(150)), Verdict::GoesOn);
        assert!(ends(stuck.verdict(job(6), over(151))).contains("no progress"));
    }

    #[test]
    fn the_limits_are_what_the_move_says_if_that_can_be() {
        let said = terms(r#"{"completionTimeoutPerGiB": 7, "progressTimeout": 3}"#);
        let mut patience = Patience::of(Some(&said));
        let start = patience.begun;
        let job = |remaining| Job { total: 1 << 30, remaining };
        assert_eq!(patience.verdict(job(9), start), Verdict::GoesOn);
        let stuck = ends(patience.verdict(job(9), start + Duration::from_secs(4)));
        assert!(stuck.contains("no progress for 3 s"), "{stuck}");
        let late = ends(patience.verdict(job(8), start + Duration::from_secs(8)));
        assert!(late.contains("longer than 7 s"), "{late}");
        let none = terms(r#"{"completionTimeoutPerGiB": -1, "progressTimeout": 0}"#);
        let patience = Patience::of(Some(&none));
        let usual = Duration::from_secs(TIMEOUT);
        assert_eq!((patience.per_gib, patience.progress), (usual, usual));
    }

    #[test]
    fn a_restart_of_the_agent_gives_a_guest_no_more_time() {
        let mut patience = Patience::of(None);
        let now = patience.begun;
        let job = |remaining| Job { total: 1 << 30, remaining };
        patience.began_before(Duration::from_secs(100));
        assert_eq!(patience.verdict(job(9), now + Duration::from_secs(50)), Verdict::GoesOn);
        let late = ends(patience.verdict(job(8), now + Duration::from_secs(51)));
        assert!(late.contains("for each GiB"), "{late}");
    }

    #[test]
    fn memory_that_is_sent_after_the_disks_is_progress() {
        let mut patience = Patience::of(None);
        let start = patience.begun;
        let at = |seconds| start + Duration::from_secs(seconds);
        let disks = Job { total: 1 << 30, remaining: 0 };
        assert_eq!(patience.verdict(disks, start), Verdict::GoesOn);
        for second in [1, 140, 280] {
            let job = Job { total: 9 << 30, remaining: (9 << 30) - second };
            assert_eq!(patience.verdict(job, at(second)), Verdict::GoesOn, "{second}");
        }
    }

    #[test]
    fn one_that_may_be_sent_after_goes_over_to_post_copy_and_is_never_called_off_then() {
        let said = terms(
            r#"{"completionTimeoutPerGiB": 1, "allowPostCopy": true, "allowWorkloadDisruption": true}"#,
        );
        let mut patience = Patience::of(Some(&said));
        let start = patience.begun;
        let at = |seconds| start + Duration::from_secs(seconds);
        let job = Job { total: 1 << 30, remaining: 9 };
        assert_eq!(patience.verdict(job, at(1)), Verdict::GoesOn);
        for second in [2, 20] {
            let asked = patience.verdict(job, at(second));
            assert_eq!(asked, Verdict::Becomes(Mode::PostCopy), "also if refused before");
        }
        patience.is_now(Mode::PostCopy);
        assert_eq!(patience.verdict(job, at(9_999)), Verdict::GoesOn);
    }

    #[test]
    fn one_that_may_stand_still_has_as_long_again_and_stays_then() {
        let said = terms(r#"{"completionTimeoutPerGiB": 10, "allowWorkloadDisruption": true}"#);
        let mut patience = Patience::of(Some(&said));
        let start = patience.begun;
        let at = |seconds| start + Duration::from_secs(seconds);
        let job = Job { total: 1 << 30, remaining: 9 };
        assert_eq!(patience.verdict(job, at(11)), Verdict::Becomes(Mode::Paused));
        patience.is_now(Mode::Paused);
        assert_eq!(patience.verdict(job, at(20)), Verdict::GoesOn);
        let late = ends(patience.verdict(job, at(21)));
        assert!(late.contains("twice 10 s") && late.contains("stood still"), "{late}");
    }
}
