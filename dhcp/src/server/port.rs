//! One port as the task serves it: its binding, its limit, its clock.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::limit::{Bucket, Limit};
use crate::ra::{self, LEAST_INTERVAL};

use super::Wanted;

/// A port that is wanted.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) wanted: Wanted,
    /// Whether its interface is there, with a socket on it.
    pub(super) open: bool,
    pub(super) bucket: Bucket,
    /// When the next periodic advertisement is due; only while it is open.
    pub(super) due: Option<Instant>,
    /// Periodic advertisements since it was opened.
    advertised: u64,
    /// When the last advertisement to all nodes left.
    to_all: Option<Instant>,
}

impl Port {
    pub(super) fn new(name: String, wanted: Wanted, limit: Limit, now: Instant) -> Self {
        let bucket = Bucket::full(limit, now);
        Self { name, wanted, open: false, bucket, due: None, advertised: 0, to_all: None }
    }

    /// The interface is there, or is another one of its name.
    pub(super) fn opened(&mut self, now: Instant) {
        self.open = true;
        self.advertise_from(now);
    }

    /// The interface is gone.
    pub(super) fn closed(&mut self) {
        self.open = false;
        self.due = None;
    }

    /// What the guest is to hear before `wanted` takes the place of what it has: that its
    /// router is no more, where it gets another one.
    pub(super) fn farewell(&self, wanted: &Wanted) -> Option<Vec<u8>> {
        let before = self.wanted.binding.ra.as_ref()?;
        let stays = wanted.binding.ra.as_ref().is_some_and(|ra| ra.router_mac == before.router_mac);
        (!stays).then(|| ra::withdrawal(before, self.wanted.binding.mac))
    }

    /// Takes on other wishes.
    pub(super) fn change(&mut self, wanted: Wanted, now: Instant) {
        let old = std::mem::replace(&mut self.wanted, wanted);
        if old.binding.ra != self.wanted.binding.ra {
            self.advertise_from(now);
        }
    }

    /// The periodic advertisement that is due, which sets the next one.
    pub(super) fn take_advertisement(&mut self, now: Instant) -> Option<Vec<u8>> {
        let ra = self.wanted.binding.ra.as_ref()?;
        self.advertised += 1;
        self.to_all = Some(now);
        // Keyed anew each time by the standard library: random enough to spread the ports.
        let random = RandomState::new().hash_one(self.advertised);
        self.due = ra::interval(ra, self.advertised, random).map(|wait| now + wait);
        Some(ra::advertisement(ra, self.wanted.binding.mac))
    }

    /// Whether an advertisement to all nodes may leave now. If not, the next one is due as
    /// soon as it may: it answers whoever asked (RFC 4861 §6.2.6).
    pub(super) fn may_tell_all(&mut self, now: Instant) -> bool {
        let next = self.to_all.map(|last| last + LEAST_INTERVAL).filter(|next| *next > now);
        match next {
            None => self.to_all = Some(now),
            Some(next) => self.due = Some(self.due.map_or(next, |due| due.min(next))),
        }
        next.is_none()
    }

    /// Starts the periodic advertisements anew, the first of them now.
    fn advertise_from(&mut self, now: Instant) {
        let periodic = self.wanted.binding.ra.as_ref().is_some_and(|ra| ra.max_interval != 0);
        self.due = (periodic && self.open).then_some(now);
        self.advertised = 0;
    }
}

/// How soon to look again for interfaces: soon while one is missing.
pub(super) fn recheck_after(missing: bool) -> Duration {
    if missing { Duration::from_millis(200) } else { Duration::from_secs(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::{Binding, Ra};

    #[test]
    fn rfc4861_6_2_6_all_nodes_are_told_once_in_three_seconds_and_who_asked_meanwhile_is_answered()
    {
        let mac = net::MacAddr::new([2, 0, 0, 0, 0, 1]);
        let ra = Some(Ra { max_interval: 0, ..Ra::new(mac) });
        let binding = Binding { mac, hostname: None, v4: None, v6: None, ra };
        let start = Instant::now();
        let wanted = Wanted { ifname: "tap0".to_owned(), binding };
        let mut port = Port::new("web".to_owned(), wanted, Limit::default(), start);
        assert!(port.may_tell_all(start));
        let soon = start + Duration::from_secs(1);
        assert!(!port.may_tell_all(soon) && !port.may_tell_all(soon));
        assert_eq!(port.due, Some(start + LEAST_INTERVAL));
        // What is due is sent, and no other after it by itself.
        assert!(port.take_advertisement(start + LEAST_INTERVAL).is_some());
        assert_eq!(port.due, None);
        assert!(!port.may_tell_all(start + LEAST_INTERVAL));
        assert!(port.may_tell_all(start + LEAST_INTERVAL * 2));
    }
}
