//! Which node is due, and what is written on it. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crds::kubevirt::{INSTANCE_FINALIZER, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ledger::VmKey;
use crate::lost::{self, OUT_OF_SERVICE};
use crate::shelf::Seen;
use crate::world::{Event, node_of, vm_key_of};

/// The value of the taint where it is ours.
pub const OURS: &str = "fenced-by-berth";

/// Annotation of a Node: of which silence an attempt was begun last, and which it was:
/// `<renewTime> <number>`.
const ATTEMPT: &str = "berth.io/fencing-attempt";
/// Annotation of a Node: the silence by which it was told off.
const LOSS: &str = "berth.io/fenced-since";

/// The pause after the first failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_DOUBLING: u32 = 5;

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// From when a lease has run out to the first attempt.
    pub(super) after: Duration,
    /// Of one attempt.
    pub(super) limit: Duration,
}

/// What is to be done about a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Make sure that it is off; `seen`: the attempt that was written there when this was
    /// decided.
    Fence { node: String, seen: Option<String> },
    /// See whether it is back.
    Lift { node: String },
}

impl Order {
    /// The node that it is about.
    pub(super) fn node(&self) -> &str {
        match self {
            Self::Fence { node, .. } | Self::Lift { node } => node,
        }
    }
}

/// What is known of nodes and of who is there.
#[derive(Debug, Default)]
pub(super) struct Known {
    nodes: HashMap<String, Seat>,
    /// The node of each instance of which somebody has to say that it has ended.
    guests: HashMap<VmKey, String>,
    silent: HashMap<String, Instant>,
    heard: BTreeSet<String>,
}

/// A node.
#[derive(Clone, Debug, Default)]
struct Seat {
    is_off: bool,
    is_ours: bool,
    /// What is written of the last attempt, and since when that is seen.
    attempt: Option<(String, Instant)>,
}

impl Known {
    pub(super) fn apply(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Node(seen) => self.nodes_seen(seen, now),
            Event::Instance(seen) => self.guests_seen(seen),
            Event::Heartbeats(pulse) => {
                self.heard.clone_from(&pulse.heard);
                self.silent.retain(|node, _| pulse.silent.contains(node));
                for node in &pulse.silent {
                    self.silent.entry(node.clone()).or_insert(now);
                }
            }
            _ => {}
        }
    }

    fn nodes_seen(&mut self, seen: &Seen<Node>, now: Instant) {
        let put = |nodes: &mut HashMap<String, Seat>, one: &Node| {
            let name = one.name_any();
            let before = nodes.remove(&name).and_then(|seat| seat.attempt);
            let said = one.annotations().get(ATTEMPT).cloned();
            let attempt = said.map(|said| match before {
                Some((before, since)) if before == said => (before, since),
                _ => (said, now),
            });
            let seat =
                Seat { is_off: lost::is_out_of_service(one), is_ours: is_ours(one), attempt };
            nodes.insert(name, seat);
        };
        match seen {
            Seen::All { objects, .. } => {
                let names: BTreeSet<_> = objects.iter().map(|one| one.name_any()).collect();
                self.nodes.retain(|name, _| names.contains(name));
                objects.iter().for_each(|one| put(&mut self.nodes, one));
            }
            Seen::Now(one) => put(&mut self.nodes, one),
            Seen::Unreadable(meta) | Seen::Gone(meta) => {
                self.nodes.remove(meta.name.as_deref().unwrap_or_default());
            }
        }
    }

    fn guests_seen(&mut self, seen: &Seen<VirtualMachineInstance>) {
        let put = |guests: &mut HashMap<VmKey, String>, one: &VirtualMachineInstance| {
            let key = vm_key_of(one.meta());
            let is_held = one.finalizers().iter().any(|one| one == INSTANCE_FINALIZER);
            match node_of(one).filter(|_| is_held || !one.phase().is_final()) {
                Some(node) => drop(guests.insert(key, node.to_owned())),
                None => drop(guests.remove(&key)),
            }
        };
        match seen {
            Seen::All { objects, .. } => {
                self.guests.clear();
                objects.iter().for_each(|one| put(&mut self.guests, one));
            }
            Seen::Now(one) => put(&mut self.guests, one),
            Seen::Unreadable(_) => {}
            Seen::Gone(meta) => drop(self.guests.remove(&vm_key_of(meta))),
        }
    }

    /// What is to be done now.
    pub(super) fn due(&self, timing: Timing, now: Instant) -> Vec<Order> {
        let has_guests: BTreeSet<&String> = self.guests.values().collect();
        let fence = self.silent.iter().filter_map(|(node, since)| {
            let seat = self.nodes.get(node).filter(|seat| !seat.is_off)?;
            let waited = now.duration_since(*since) >= timing.after;
            let over = seat.attempt.as_ref().is_none_or(|(said, since)| {
                now.duration_since(*since) >= timing.limit + pause(number(said))
            });
            (has_guests.contains(node) && waited && over).then(|| Order::Fence {
                node: node.clone(),
                seen: seat.attempt.as_ref().map(|(said, _)| said.clone()),
            })
        });
        let lift = self.nodes.iter().filter(|(node, seat)| {
            seat.is_ours && self.heard.contains(*node) && !has_guests.contains(node)
        });
        fence.chain(lift.map(|(node, _)| Order::Lift { node: node.clone() })).collect()
    }
}

/// An attempt that is to be made.
#[derive(Debug)]
pub(super) struct Attempt {
    /// By what this silence is known.
    pub(super) loss: String,
    pub(super) number: u32,
    /// What is to be written on the Node first.
    pub(super) claim: Value,
}

/// The attempt that an order comes to by the Node as it is now, whose lease says `renewed`.
pub(super) fn attempt(node: &Node, order: &Order, renewed: &str) -> Option<Attempt> {
    let Order::Fence { seen, .. } = order else { return None };
    let said = node.annotations().get(ATTEMPT);
    if lost::is_out_of_service(node) || said != seen.as_ref() {
        return None;
    }
    // What was written of another silence is over.
    let of_this = said.filter(|said| loss(said) == renewed);
    let number = of_this.map_or(1, |said| number(said).saturating_add(1));
    let claim = json!({
        "metadata": guarded(node, json!({ ATTEMPT: format!("{renewed} {number}") })),
    });
    Some(Attempt { loss: renewed.to_owned(), number, claim })
}

/// What says that a node is off.
pub(super) fn off(node: &Node, loss: &str) -> Value {
    let mut taints = taints(node);
    if !taints.iter().any(|taint| taint.key == OUT_OF_SERVICE) {
        taints.push(Taint {
            key: OUT_OF_SERVICE.to_owned(),
            value: Some(OURS.to_owned()),
            effect: "NoExecute".to_owned(),
            ..Taint::default()
        });
    }
    json!({
        "metadata": guarded(node, json!({ LOSS: loss, ATTEMPT: null })),
        "spec": { "taints": taints },
    })
}

/// What takes our taint off a node whose lease says `renewed`, if it was heard since.
pub(super) fn lifted(node: &Node, renewed: &str) -> Option<Value> {
    let told = node.annotations().get(LOSS).map(String::as_str);
    if !is_ours(node) || renewed.is_empty() || told == Some(renewed) {
        return None;
    }
    let mut taints = taints(node);
    taints.retain(|taint| !is_our_taint(taint));
    Some(json!({
        "metadata": guarded(node, json!({ LOSS: null })),
        "spec": { "taints": taints },
    }))
}

fn guarded(node: &Node, annotations: Value) -> Value {
    json!({
        "uid": node.uid(), "resourceVersion": node.resource_version(), "annotations": annotations,
    })
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

fn is_ours(node: &Node) -> bool {
    taints(node).iter().any(is_our_taint)
}

fn is_our_taint(taint: &Taint) -> bool {
    taint.key == OUT_OF_SERVICE && taint.value.as_deref() == Some(OURS)
}

fn loss(said: &str) -> &str {
    said.rsplit_once(' ').map_or("", |(loss, _)| loss)
}

fn number(said: &str) -> u32 {
    said.rsplit_once(' ').and_then(|(_, number)| number.parse().ok()).unwrap_or(1)
}

/// After so many attempts.
fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(attempts.saturating_sub(1).min(LONGEST_DOUBLING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lost::Heartbeats;

    const TIMING: Timing =
        Timing { after: Duration::from_secs(30), limit: Duration::from_secs(60) };

    fn node(version: u64, more: &Value) -> Node {
        let mut node: Node = serde_json::from_value(json!({
            "metadata": { "name": "n1", "uid": "u", "resourceVersion": version.to_string() } }))
        .unwrap();
        if !more.is_null() {
            let mut all = json!(node);
            merge(&mut all, more);
            node = serde_json::from_value(all).unwrap();
        }
        node
    }

    /// A merge patch.
    fn merge(into: &mut Value, patch: &Value) {
        let Some(fields) = patch.as_object() else {
            *into = patch.clone();
            return;
        };
        if !into.is_object() {
            *into = json!({});
        }
        let object = into.as_object_mut().unwrap();
        for (key, value) in fields {
            if value.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
    }

    fn patched(of: &Node, patch: &Value) -> Node {
        let mut all = json!(of);
        merge(&mut all, patch);
        serde_json::from_value(all).unwrap()
    }

    struct Cluster {
        known: Known,
        start: Instant,
    }

    impl Cluster {
        fn new() -> Self {
            let mut cluster = Self { known: Known::default(), start: Instant::now() };
            cluster.see(0, &node(1, &Value::Null));
            let guest = serde_json::from_value(json!({
                "metadata": { "name": "web", "namespace": "a",
                    "labels": { "kubevirt.io/nodeName": "n1" } },
                "spec": { "domain": { "devices": {} } },
                "status": { "phase": "Running", "nodeName": "n1" } }))
            .unwrap();
            cluster.known.apply(&Event::Instance(Seen::all(vec![guest])), cluster.start);
            cluster
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn see(&mut self, at: u64, node: &Node) {
            let now = self.at(at);
            self.known.apply(&Event::Node(Seen::Now(Box::new(node.clone()))), now);
        }

        fn hear(&mut self, at: u64, is_heard: bool) {
            let (mut heard, mut silent) = (BTreeSet::new(), BTreeSet::new());
            if is_heard { &mut heard } else { &mut silent }.insert("n1".to_owned());
            let now = self.at(at);
            self.known.apply(&Event::Heartbeats(Heartbeats { heard, silent }), now);
        }

        fn due(&self, at: u64) -> Vec<Order> {
            self.known.due(TIMING, self.at(at))
        }
    }

    fn fence(seen: Option<&str>) -> Order {
        Order::Fence { node: "n1".to_owned(), seen: seen.map(str::to_owned) }
    }

    #[test]
    fn a_node_is_fenced_once_it_was_silent_for_so_long_and_only_for_guests() {
        let mut cluster = Cluster::new();
        cluster.hear(0, true);
        assert_eq!(cluster.due(100), []);
        cluster.hear(100, false);
        assert_eq!(cluster.due(129), []);
        assert_eq!(cluster.due(130), [fence(None)]);
        cluster.hear(131, true);
        assert_eq!(cluster.due(200), [], "it is heard again");
        cluster.hear(200, false);
        cluster.known.apply(&Event::Instance(Seen::all(vec![])), cluster.start);
        assert_eq!(cluster.due(300), [], "nobody waits for it");
    }

    #[test]
    fn an_attempt_is_one_controllers_and_the_next_comes_later_each_time() {
        let mut cluster = Cluster::new();
        cluster.hear(0, false);
        let first = attempt(&node(1, &Value::Null), &fence(None), "t1").unwrap();
        assert_eq!((first.number, &first.claim["metadata"]["resourceVersion"]), (1, &json!("1")));
        let claimed = patched(&node(1, &Value::Null), &first.claim);
        assert!(attempt(&claimed, &fence(None), "t1").is_none(), "another one was first");
        cluster.see(30, &claimed);
        assert_eq!(cluster.due(99), [], "it may take 60 s, and the next waits for 10 s");
        assert_eq!(cluster.due(100), [fence(Some("t1 1"))]);
        let second = attempt(&claimed, &fence(Some("t1 1")), "t1").unwrap();
        assert_eq!(second.number, 2);
        let claimed = patched(&claimed, &second.claim);
        cluster.see(100, &claimed);
        assert_eq!((cluster.due(179), cluster.due(180).len()), (vec![], 1));
        let other = attempt(&claimed, &fence(Some("t1 2")), "t9").unwrap();
        assert_eq!(other.number, 1, "it was heard in between");
    }

    #[test]
    fn who_was_fenced_is_off_once_and_comes_back_when_it_was_heard_since() {
        let mut cluster = Cluster::new();
        cluster.hear(0, false);
        let theirs = json!({ "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }] } });
        let told = node(1, &theirs);
        let told = patched(&told, &off(&told, "t1"));
        assert!(lost::is_out_of_service(&told));
        cluster.see(40, &told);
        assert_eq!(cluster.due(500), [], "once for each loss");
        cluster.hear(500, true);
        assert_eq!(cluster.due(500), [], "its guests are to be ended first");
        cluster.known.apply(&Event::Instance(Seen::all(vec![])), cluster.start);
        assert_eq!(cluster.due(500), [Order::Lift { node: "n1".to_owned() }]);
        // A controller that was just started takes every lease for one that is renewed.
        assert!(lifted(&told, "t1").is_none());
        let back = patched(&told, &lifted(&told, "t2").unwrap());
        assert!(!lost::is_out_of_service(&back) && taints(&back).len() == 1, "{back:?}");
        let by_hand = json!({ "spec": { "taints":
            [{ "key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute" }] } });
        assert!(lifted(&node(1, &by_hand), "t2").is_none(), "people's stays theirs");
    }
}
