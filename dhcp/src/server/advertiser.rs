//! When one port's guest is told of its router without having asked, and what: pure.
//!
//! ```text
//! opened  -> the router, now, thrice soon after, then periodically      RFC 4861 §6.2.4
//! changed -> the router anew, and what it no longer says with lifetime 0
//! router gone, or another one -> the old one thrice with lifetime 0     RFC 4861 §6.2.5
//! ```
//!
//! Whatever the cause, one router tells all nodes once in three seconds only (§6.2.6).

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use net::MacAddr;

use crate::answer::Sent;
use crate::binding::Ra;
use crate::ra::{self, FINAL_ADVERTISEMENTS, INITIAL_ADVERTISEMENTS, LEAST_INTERVAL};

/// The advertisements of one port that nobody asked for.
#[derive(Debug, Default)]
pub(super) struct Advertiser {
    /// The guest's router; none while the interface is away. Most of a port's memory, where
    /// there is one.
    router: Option<Box<Router>>,
    /// Those that are no longer the guest's, and must say so.
    former: Vec<Former>,
}

#[derive(Debug)]
struct Router {
    ra: Ra,
    /// When the next advertisement is due.
    due: Instant,
    /// Advertisements since it came or changed.
    sent: u64,
    /// When the last one to all nodes left.
    to_all: Option<Instant>,
    /// What it said before, and does not say any more; said with the first few.
    gone: Option<Ra>,
}

#[derive(Debug)]
struct Former {
    ra: Ra,
    due: Instant,
    left: u64,
}

impl Advertiser {
    /// The interface is there, or is another one of its name.
    pub(super) fn opened(&mut self, ra: Option<&Ra>, now: Instant) {
        let to_all = self.router.take().and_then(|router| router.to_all);
        self.former.clear();
        self.router = ra.map(|ra| Box::new(Router::new(ra, to_all, now)));
    }

    /// The interface is gone.
    pub(super) fn closed(&mut self) {
        *self = Self::default();
    }

    /// The guest's router says something else than before, or is another one.
    pub(super) fn changed(&mut self, ra: Option<&Ra>, now: Instant) {
        if self.router.as_ref().map(|router| &router.ra) == ra {
            return;
        }
        let before = self.router.take();
        self.former.retain(|one| ra.is_none_or(|ra| ra.router_mac != one.ra.router_mac));
        self.router = match (before, ra) {
            (Some(before), Some(ra)) if before.ra.router_mac == ra.router_mac => {
                Some(Box::new(before.changed(ra, now)))
            }
            (before, ra) => {
                self.former.extend(before.map(|router| Former {
                    due: router.earliest(now),
                    ra: router.ra,
                    left: FINAL_ADVERTISEMENTS,
                }));
                ra.map(|ra| Box::new(Router::new(ra, None, now)))
            }
        };
    }

    /// When something is to be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        let former = self.former.iter().map(|one| one.due);
        former.chain(self.router.as_ref().map(|router| router.due)).min()
    }

    /// What is due, which sets what is next. The guest's router goes before one that leaves,
    /// so that the guest is never without.
    pub(super) fn take(&mut self, guest: MacAddr, now: Instant) -> Option<Sent> {
        if let Some(router) = self.router.as_mut().filter(|router| router.due <= now) {
            return Some(router.take(guest, now));
        }
        let at = self.former.iter().position(|one| one.due <= now)?;
        let former = &mut self.former[at];
        let sent = ra::withdrawal(&former.ra, guest);
        former.left -= 1;
        former.due = now + LEAST_INTERVAL;
        if former.left == 0 {
            self.former.remove(at);
        }
        Some(sent)
    }

    /// Whether an answer to all nodes may leave now. If not, the next advertisement is due as
    /// soon as it may: it answers whoever asked (RFC 4861 §6.2.6).
    pub(super) fn may_tell_all(&mut self, now: Instant) -> bool {
        let Some(router) = &mut self.router else { return false };
        let next = router.earliest(now);
        if next <= now {
            router.to_all = Some(now);
            return true;
        }
        router.due = router.due.min(next);
        false
    }
}

impl Router {
    /// One that the guest has not heard of. Who is not to speak by itself waits to be asked.
    fn new(ra: &Ra, to_all: Option<Instant>, now: Instant) -> Self {
        let mut router = Self { ra: ra.clone(), due: now, sent: 0, to_all, gone: None };
        router.due = match ra.max_interval {
            0 => now + router.interval(),
            _ => router.earliest(now),
        };
        router
    }

    /// The same one, with something else to say: at once, whether it speaks by itself or not.
    fn changed(self, ra: &Ra, now: Instant) -> Self {
        let due = self.earliest(now);
        let mut said = self.ra;
        if let Some(gone) = self.gone {
            said.prefixes.extend(gone.prefixes);
            said.rdnss.extend(gone.rdnss);
            said.dnssl.extend(gone.dnssl);
            said.routes.extend(gone.routes);
            said.pref64.extend(gone.pref64);
        }
        let gone = Some(ra::gone(&said, ra));
        Self { ra: ra.clone(), due, sent: 0, to_all: self.to_all, gone }
    }

    /// When all nodes may be told, at the earliest.
    fn earliest(&self, now: Instant) -> Instant {
        self.to_all.map_or(now, |last| (last + LEAST_INTERVAL).max(now))
    }

    /// How long until the next one.
    fn interval(&self) -> std::time::Duration {
        // Keyed anew each time by the standard library: random enough to spread the ports.
        ra::interval(&self.ra, self.sent, RandomState::new().hash_one(self.sent))
    }

    fn take(&mut self, guest: MacAddr, now: Instant) -> Sent {
        let sent = ra::advertisement_after(&self.ra, self.gone.as_ref(), guest);
        self.sent += 1;
        self.to_all = Some(now);
        // What is gone is said as often as a change is told soon after; a router that does
        // not speak by itself says it the one time.
        if self.sent >= INITIAL_ADVERTISEMENTS || self.ra.max_interval == 0 {
            self.gone = None;
        }
        self.due = now + self.interval();
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use net::options::ra::{Preference, RouteInfo};

    use super::*;
    use crate::answer::Kind;

    const GUEST: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const ROUTER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xfe]);
    const OTHER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xfd]);

    /// One that speaks every four seconds at most.
    fn ra() -> Ra {
        Ra { min_interval: 3, max_interval: 4, ..Ra::new(ROUTER) }
    }

    fn quiet() -> Ra {
        Ra { max_interval: 0, lifetime: u16::MAX, ..Ra::new(ROUTER) }
    }

    /// What is sent until `end`, with the time of each.
    fn until(advertiser: &mut Advertiser, end: Instant) -> Vec<(Instant, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(due) = advertiser.due().filter(|due| *due <= end) {
            let sent = advertiser.take(GUEST, due).expect("it is due");
            assert_eq!((sent.kind, sent.left_out), (Kind::RouterAdvertisement, 0));
            all.push((due, sent.frame));
        }
        all
    }

    fn lifetime(frame: &[u8]) -> u16 {
        u16::from_be_bytes([frame[60], frame[61]])
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn rfc4861_6_2_6_many_changes_in_a_second_are_one_advertisement_and_not_sooner_than_three() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&ra()), start);
        assert_eq!(until(&mut advertiser, start).len(), 1);
        for edit in 1..=3 {
            let ra = Ra { mtu: Some(1400 + edit), ..ra() };
            advertiser.changed(Some(&ra), start + Duration::from_millis(u64::from(edit) * 300));
        }
        assert_eq!(advertiser.due(), Some(start + LEAST_INTERVAL));
        assert!(until(&mut advertiser, start + seconds(2)).is_empty());
        assert_eq!(until(&mut advertiser, start + LEAST_INTERVAL).len(), 1);
    }

    #[test]
    fn rfc4861_6_2_6_who_asked_too_soon_is_answered_with_the_next_one() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&quiet()), start);
        assert!(advertiser.may_tell_all(start));
        let soon = start + seconds(1);
        assert!(!advertiser.may_tell_all(soon) && !advertiser.may_tell_all(soon));
        assert_eq!(advertiser.due(), Some(start + LEAST_INTERVAL));
        assert_eq!(until(&mut advertiser, start + seconds(60)).len(), 1);
        assert!(advertiser.may_tell_all(start + LEAST_INTERVAL * 2));
    }

    #[test]
    fn a_router_that_waits_to_be_asked_tells_changes_and_is_not_forgotten() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&quiet()), start);
        assert!(until(&mut advertiser, start + seconds(3600)).is_empty());
        let changed = start + seconds(4000);
        advertiser.changed(Some(&Ra { mtu: Some(1300), ..quiet() }), changed);
        assert_eq!(until(&mut advertiser, changed + seconds(3600)).len(), 1);
        let day = until(&mut advertiser, changed + seconds(86_400));
        let longest = seconds(u64::from(u16::MAX) / 3 + 1);
        assert!((4..=6).contains(&day.len()), "{}", day.len());
        assert!(day.windows(2).all(|two| two[1].0 - two[0].0 <= longest));
    }

    #[test]
    fn rfc4861_6_2_5_a_router_that_goes_says_so_thrice_three_seconds_apart() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&ra()), start);
        until(&mut advertiser, start);
        advertiser.changed(None, start + seconds(1));
        let last = until(&mut advertiser, start + seconds(3600));
        let times: Vec<u64> = last.iter().map(|(at, _)| (*at - start).as_secs()).collect();
        assert_eq!(times, [3, 6, 9]);
        assert!(last.iter().all(|(_, frame)| lifetime(frame) == 0));
    }

    #[test]
    fn a_router_that_comes_back_takes_back_its_farewell() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&ra()), start);
        until(&mut advertiser, start);
        advertiser.changed(None, start + seconds(10));
        until(&mut advertiser, start + seconds(10));
        advertiser.changed(Some(&ra()), start + seconds(11));
        let all = until(&mut advertiser, start + seconds(30));
        assert!(!all.is_empty() && all.iter().all(|(_, frame)| lifetime(frame) != 0));
    }

    #[test]
    fn another_router_is_told_at_once_and_before_the_farewell_of_the_old_one() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&ra()), start);
        until(&mut advertiser, start);
        let moved = start + seconds(10);
        advertiser.changed(Some(&Ra { router_mac: OTHER, ..ra() }), moved);
        let told = until(&mut advertiser, moved);
        let senders: Vec<&[u8]> = told.iter().map(|(_, frame)| &frame[6..12]).collect();
        assert_eq!(senders, [OTHER.octets(), ROUTER.octets()]);
        assert_eq!((lifetime(&told[0].1), lifetime(&told[1].1)), (1800, 0));
    }

    /// The lifetimes of the options of this type.
    fn lifetimes(frame: &[u8], kind: u8, at: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut rest = &frame[54 + 16..];
        while let [have, length, ..] = rest {
            if *have == kind {
                found.push(u32::from_be_bytes(rest[at..at + 4].try_into().unwrap()));
            }
            rest = &rest[usize::from(*length) * 8..];
        }
        found
    }

    #[test]
    fn what_a_router_says_no_more_goes_with_lifetime_zero_and_only_a_few_times() {
        let start = Instant::now();
        let route = RouteInfo { to: "fd01::/48".parse().unwrap(), preference: Preference::Low };
        let all = Ra {
            rdnss: vec!["fd00::53".parse().unwrap(), "fd00::54".parse().unwrap()],
            dnssl: vec!["old.example".to_owned()],
            routes: vec![route],
            ..ra()
        };
        let less = Ra { rdnss: all.rdnss[..1].to_vec(), ..ra() };
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&all), start);
        until(&mut advertiser, start);
        // Two changes before either could be told: what the first took away is told, too.
        let between = Ra { dnssl: Vec::new(), ..all.clone() };
        advertiser.changed(Some(&between), start + seconds(1));
        advertiser.changed(Some(&less), start + seconds(2));
        let told = until(&mut advertiser, start + seconds(60));
        let first = &told[0].1;
        assert_eq!(lifetimes(first, 25, 4), [1800, 0], "name servers");
        assert_eq!((lifetimes(first, 31, 4), lifetimes(first, 24, 4)), (vec![0], vec![0]));
        assert_eq!(lifetimes(&told[3].1, 25, 4), [1800]);
        // What comes back is not taken away any more.
        advertiser.changed(Some(&between), start + seconds(61));
        let again = until(&mut advertiser, start + seconds(65));
        assert_eq!(lifetimes(&again[0].1, 25, 4), [1800]);
        assert_eq!(lifetimes(&again[0].1, 24, 4), [1800]);
    }

    #[test]
    fn a_closed_interface_is_told_nothing() {
        let start = Instant::now();
        let mut advertiser = Advertiser::default();
        advertiser.opened(Some(&ra()), start);
        advertiser.changed(None, start);
        advertiser.closed();
        assert_eq!(advertiser.due(), None);
    }
}
