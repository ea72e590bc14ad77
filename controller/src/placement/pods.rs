//! What pods take of nodes, where pods are served and may be read. Of each is kept what it
//! requests and where it is, and nothing else: there are many of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Pod as Whole;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::Amount;
use crate::ledger::VmKey;
use crate::shelf::Seen;
use crate::world::vm_key_of;

/// A pod, as far as it is of interest.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
    overhead: Option<BTreeMap<String, Quantity>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    resources: Resources,
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: Option<BTreeMap<String, Quantity>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        <Whole as Resource>::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        <Whole as Resource>::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        <Whole as Resource>::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        <Whole as Resource>::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Pod {
    /// Where it is and what it takes there; none of one that is nowhere, or has ended.
    fn share(&self) -> Option<(String, Amount)> {
        let ended = matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let node = self.spec.node_name.clone().filter(|node| !ended && !node.is_empty())?;
        let of = |one: &Container| {
            let requests = one.resources.requests.as_ref();
            requests.map(|requests| Amount::listed(requests, 0)).unwrap_or_default()
        };
        let all = self.spec.containers.iter().map(of).fold(Amount::default(), Amount::and);
        // Those that go on are beside the others, the rest comes before them, one by one.
        let (mut beside, mut before) = (Amount::default(), Amount::default());
        for one in self.spec.init_containers.iter().flatten() {
            if one.restart_policy.as_deref() == Some("Always") {
                beside = beside.and(of(one));
            } else {
                before = before.or(beside.and(of(one)));
            }
        }
        let overhead = self.spec.overhead.as_ref().map(|one| Amount::listed(one, 0));
        Some((node, all.and(beside).or(before).and(overhead.unwrap_or_default())))
    }
}

/// What pods take, by node.
#[derive(Debug, Default)]
pub struct Pods {
    shares: HashMap<VmKey, (String, Amount)>,
    taken: HashMap<String, Amount>,
    known: bool,
}

impl Pods {
    /// Whether they were listed, or cannot be: before that a full node looks as if it were free.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// They are not served, or may not be read: they count as nothing.
    pub const fn cannot_be_listed(&mut self) {
        self.known = true;
    }

    /// Takes in what a watch saw; says whether something has become free.
    pub fn apply(&mut self, seen: &Seen<Pod>) -> bool {
        match seen {
            Seen::All { objects, .. } => {
                let before = std::mem::replace(self, Self { known: true, ..Self::default() });
                for pod in objects {
                    self.put(vm_key_of(&pod.metadata), pod.share());
                }
                before.taken.iter().any(|(node, was)| self.on(node) != *was)
            }
            Seen::Now(pod) => self.put(vm_key_of(&pod.metadata), pod.share()),
            Seen::Gone(meta) => self.put(vm_key_of(meta), None),
            // What it takes nobody knows.
            Seen::Unreadable(_) => false,
        }
    }

    /// What they take of this node.
    #[must_use]
    pub fn on(&self, node: &str) -> Amount {
        self.taken.get(node).copied().unwrap_or_default()
    }

    fn put(&mut self, key: VmKey, share: Option<(String, Amount)>) -> bool {
        let old = match &share {
            Some(share) => self.shares.insert(key, share.clone()),
            None => self.shares.remove(&key),
        };
        if old == share {
            return false;
        }
        let freed = old.is_some();
        if let Some((node, amount)) = old {
            let taken = self.taken.entry(node).or_default();
            *taken = taken.without(amount);
        }
        if let Some((node, amount)) = share {
            let taken = self.taken.entry(node).or_default();
            *taken = taken.and(amount);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: Value, phase: &str, cpu: &str) -> Seen<Pod> {
        let pod = json!({
            "metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {
                "nodeName": node,
                "containers": [{"resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}}, {}],
                "initContainers": [
                    {"resources": {"requests": {"cpu": "50m"}}, "restartPolicy": "Always"},
                    {"resources": {"requests": {"memory": "8Mi"}}},
                ],
                "overhead": {"cpu": "10m"},
            },
            "status": {"phase": phase},
        });
        Seen::Now(Box::new(serde_json::from_value(pod).unwrap()))
    }

    #[test]
    fn a_pod_takes_its_requests_of_its_node_until_it_has_ended() {
        let mut pods = Pods::default();
        assert!(!pods.is_known());
        assert!(!pods.apply(&pod("p", Value::Null, "Pending", "1")));
        assert!(!pods.apply(&pod("p", json!("n1"), "Running", "1")));
        let taken = pods.on("n1");
        assert_eq!((taken.milli, taken.bytes), (1060, 8 << 20));
        assert!(pods.apply(&pod("p", json!("n1"), "Running", "500m")), "less than before");
        pods.apply(&pod("q", json!("n1"), "Running", "1"));
        assert_eq!(pods.on("n1").milli, 560 + 1060);
        assert!(pods.apply(&pod("q", json!("n1"), "Succeeded", "1")));
        assert_eq!(pods.on("n1").milli, 560);
        assert!(pods.apply(&Seen::all(vec![])));
        assert_eq!(pods.on("n1"), Amount::default());
        assert!(pods.is_known());
    }
}
