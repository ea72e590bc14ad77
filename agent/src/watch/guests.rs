//! VMIs of one label as last seen, each once in memory: there are thousands of them, and
//! drivers hold on to the same.

use std::collections::HashMap;
use std::sync::Arc;

use crds::kubevirt::VirtualMachineInstance;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::version;

type Guarded = DeserializeGuard<VirtualMachineInstance>;

/// What a watch fills.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) known: Mutex<Known>,
    is_listed: watch::Sender<bool>,
}

/// What it has filled in.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By uid.
    pub(super) guests: HashMap<String, Guest>,
    /// Those of a list that goes on.
    listing: HashMap<String, Guest>,
    /// How often `guests` changed.
    pub(super) changes: u64,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) enum Guest {
    Read(Arc<VirtualMachineInstance>),
    /// It does not fit its type.
    Unreadable {
        domain: String,
        version: Option<u64>,
    },
}

impl Guest {
    fn of(guarded: Guarded) -> Self {
        let version = version(&guarded);
        let namespace = guarded.namespace().unwrap_or_default();
        let domain = net::names::domain(&namespace, &guarded.name_any());
        match guarded.0 {
            Ok(vmi) => Self::Read(Arc::new(vmi)),
            Err(_) => Self::Unreadable { domain, version },
        }
    }

    pub(super) fn version(&self) -> Option<u64> {
        match self {
            Self::Read(vmi) => version(&**vmi),
            Self::Unreadable { version, .. } => *version,
        }
    }
}

impl Default for Guests {
    fn default() -> Self {
        Self { known: Mutex::default(), is_listed: watch::Sender::new(false) }
    }
}

impl Guests {
    /// Waits until all were told once.
    pub(super) async fn listed(&self) {
        // The sender is ours.
        let _ = self.is_listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Takes in what a watch saw.
    pub(super) fn take_in(&self, event: Event<Guarded>) {
        let is_whole = matches!(event, Event::InitDone);
        self.known.lock().take_in(event);
        if is_whole {
            self.is_listed.send_replace(true);
        }
    }
}

impl Known {
    fn take_in(&mut self, event: Event<Guarded>) {
        let uid = |one: &Guarded| one.uid().unwrap_or_default();
        match event {
            Event::Init => return self.listing.clear(),
            Event::InitApply(one) => {
                let uid = uid(&one);
                // What is listed again and is the same stays the very same.
                let known = self.guests.get(&uid);
                let same = known.filter(|known| {
                    known.version().is_some_and(|known| Some(known) == version(&one))
                });
                let guest = same.cloned().unwrap_or_else(|| Guest::of(one));
                self.listing.insert(uid, guest);
                return;
            }
            Event::InitDone => self.guests = std::mem::take(&mut self.listing),
            Event::Apply(one) => drop(self.guests.insert(uid(&one), Guest::of(one))),
            Event::Delete(one) => drop(self.guests.remove(&uid(&one))),
        }
        self.changes += 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vmi(name: &str, version: &str) -> Guarded {
        object(json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version},
            "spec": {"domain": {"devices": {}}},
        }))
    }

    fn object(text: Value) -> Guarded {
        let mut text = text;
        text["apiVersion"] = json!("kubevirt.io/v1");
        text["kind"] = json!("VirtualMachineInstance");
        serde_json::from_value(text).unwrap()
    }

    fn read(guests: &Guests, uid: &str) -> Option<Arc<VirtualMachineInstance>> {
        match guests.known.lock().guests.get(uid) {
            Some(Guest::Read(vmi)) => Some(Arc::clone(vmi)),
            _ => None,
        }
    }

    #[test]
    fn what_is_listed_again_is_the_very_same_and_what_is_not_is_gone() {
        let guests = Guests::default();
        let list = |all: Vec<Guarded>| {
            guests.take_in(Event::Init);
            all.into_iter().for_each(|one| guests.take_in(Event::InitApply(one)));
            guests.take_in(Event::InitDone);
        };
        list(vec![vmi("a", "1"), vmi("b", "1"), vmi("c", "1")]);
        let (a, b) = (read(&guests, "a").unwrap(), read(&guests, "b").unwrap());
        guests.take_in(Event::Init);
        assert!(read(&guests, "c").is_some(), "until all are listed nothing is gone");
        list(vec![vmi("a", "1"), vmi("b", "2")]);
        assert!(Arc::ptr_eq(&a, &read(&guests, "a").unwrap()));
        assert!(!Arc::ptr_eq(&b, &read(&guests, "b").unwrap()));
        assert!(read(&guests, "c").is_none());
        guests.take_in(Event::Delete(vmi("a", "3")));
        assert!(read(&guests, "a").is_none());
    }

    #[test]
    fn one_that_does_not_fit_its_type_is_known_by_its_domain() {
        let guests = Guests::default();
        let odd = json!({"metadata": {"name": "odd", "namespace": "a", "uid": "odd", "resourceVersion": "4"},
            "spec": {"domain": 5}});
        guests.take_in(Event::Apply(object(odd)));
        let known = guests.known.lock();
        let Some(Guest::Unreadable { domain, version }) = known.guests.get("odd") else {
            panic!("{known:?}")
        };
        assert_eq!((domain.as_str(), *version), ("a_odd", Some(4)));
    }
}
