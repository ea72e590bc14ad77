//! One port as the task serves it: its binding, its limit, its router.

use std::time::{Duration, Instant};

use crate::answer::Sent;
use crate::limit::{Bucket, Limit};

use super::Wanted;
use super::advertiser::Advertiser;

/// A port that is wanted.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) wanted: Wanted,
    /// Whether its interface is there, with a socket on it.
    pub(super) open: bool,
    pub(super) bucket: Bucket,
    advertiser: Advertiser,
}

impl Port {
    pub(super) fn new(name: String, wanted: Wanted, limit: Limit, now: Instant) -> Self {
        let bucket = Bucket::full(limit, now);
        Self { name, wanted, open: false, bucket, advertiser: Advertiser::default() }
    }

    /// The interface is there, or is another one of its name.
    pub(super) fn opened(&mut self, now: Instant) {
        self.open = true;
        self.advertiser.opened(self.wanted.binding.ra.as_ref(), now);
    }

    /// The interface is gone.
    pub(super) fn closed(&mut self) {
        self.open = false;
        self.advertiser.closed();
    }

    /// Takes on other wishes. A guest of another MAC address is another guest, which has
    /// heard of no router yet.
    pub(super) fn change(&mut self, wanted: Wanted, now: Instant) {
        let old = std::mem::replace(&mut self.wanted, wanted);
        let binding = &self.wanted.binding;
        match self.open {
            false => {}
            true if old.binding.mac == binding.mac => {
                self.advertiser.changed(binding.ra.as_ref(), now);
            }
            true => self.advertiser.opened(binding.ra.as_ref(), now),
        }
    }

    /// When its guest is to be told of its router.
    pub(super) fn due(&self) -> Option<Instant> {
        self.advertiser.due()
    }

    /// What its guest is to be told of its router now.
    pub(super) fn take_advertisement(&mut self, now: Instant) -> Option<Sent> {
        self.advertiser.take(self.wanted.binding.mac, now)
    }

    /// Whether an answer to all nodes may leave now; if not, it is made up for.
    pub(super) fn may_tell_all(&mut self, now: Instant) -> bool {
        self.advertiser.may_tell_all(now)
    }
}

/// How soon to look again for interfaces: soon while one is missing.
pub(super) fn recheck_after(missing: bool) -> Duration {
    if missing { Duration::from_millis(200) } else { Duration::from_secs(1) }
}
