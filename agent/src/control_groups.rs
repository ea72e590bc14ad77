//! Which control groups the libvirt of this node cannot give to guests. It does not tell before
//! a guest is there that it is asked to limit, so it is learned from what it refuses.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Why nothing limits a guest, in one word.
pub const NO_CONTROL_GROUP: &str = "NoControlGroup";

/// A controller of control groups.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Controller {
    Cpu,
    Memory,
}

/// The controllers that are missing; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Lacking(Arc<Mutex<BTreeSet<Controller>>>);

impl Lacking {
    /// Whether this one is missing, as has just been seen.
    pub fn seen(&self, controller: Controller, is_missing: bool) {
        let mut all = self.0.lock();
        let is_news = if is_missing { all.insert(controller) } else { all.remove(&controller) };
        if is_news && is_missing {
            tracing::warn!(
                ?controller,
                "libvirt has no control group of this kind: what guests request and are limited \
                 to is not enforced"
            );
        }
    }

    /// What the Node says of it, if anything is missing.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let all = self.0.lock();
        let names = all.iter().map(|one| match one {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
        });
        let names: Vec<_> = names.collect();
        (!names.is_empty()).then(|| names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_until_it_is_there() {
        let lacking = Lacking::default();
        assert_eq!(lacking.note(), None);
        lacking.seen(Controller::Memory, true);
        lacking.seen(Controller::Cpu, true);
        assert_eq!(lacking.note().as_deref(), Some("cpu,memory"));
        lacking.seen(Controller::Cpu, false);
        assert_eq!(lacking.note().as_deref(), Some("memory"));
    }
}
