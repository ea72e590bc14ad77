//! What is asked of a node's processors, by the labels that agents write from what libvirt says
//! of them, as KubeVirt's node labeller does. A node without such labels says nothing of its
//! processors (software emulation has none to be like), and whoever asks for a model is let
//! start there.

use std::collections::BTreeMap;

use crds::kubevirt::{CPU_FEATURE_LABEL, CPU_MANAGER_LABEL, CPU_MODEL_LABEL, Cpu, REALTIME_LABEL};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

/// A model and features, by their labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Processors {
    wanted: Vec<String>,
    unwanted: Vec<String>,
    /// Labels that a node must have whatever else it says: those of what few nodes are set up for.
    needed: Vec<&'static str>,
}

impl Processors {
    /// What a guest with these asks for.
    #[must_use]
    pub(crate) fn of(cpu: Option<&Cpu>) -> Self {
        let Some(cpu) = cpu else { return Self::default() };
        let is_model = |model: &&str| !matches!(*model, "" | "host-model" | "host-passthrough");
        let model = cpu.model.as_deref().filter(is_model);
        let mut asked = Self::default();
        asked.wanted.extend(model.map(|model| format!("{CPU_MODEL_LABEL}{model}")));
        for feature in &cpu.features {
            let label = format!("{CPU_FEATURE_LABEL}{}", feature.name);
            match feature.policy.as_deref().unwrap_or_default() {
                "" | "require" => asked.wanted.push(label),
                "forbid" => asked.unwanted.push(label),
                _ => {}
            }
        }
        asked.needed.extend(cpu.is_dedicated().then_some(CPU_MANAGER_LABEL));
        asked.needed.extend(cpu.realtime.as_ref().map(|_| REALTIME_LABEL));
        asked
    }

    /// The label that a node lacks, or has and should not.
    #[must_use]
    pub(crate) fn unmet(&self, node: &Node) -> Option<&str> {
        let labels = node.labels();
        let is_set = |label: &str| labels.get(label).is_some_and(|value| value == "true");
        if let Some(label) = self.needed.iter().find(|label| !is_set(label)) {
            return Some(label);
        }
        if !says_something(labels) {
            return None;
        }
        let has = |label: &&String| labels.get(*label).is_some_and(|value| value == "true");
        let lacking = self.wanted.iter().find(|label| !has(label));
        lacking.or_else(|| self.unwanted.iter().find(has)).map(String::as_str)
    }
}

fn says_something(labels: &BTreeMap<String, String>) -> bool {
    let next = labels.range(CPU_MODEL_LABEL.to_owned()..).next();
    next.is_some_and(|(label, _)| label.starts_with(CPU_MODEL_LABEL))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn unmet(cpu: Value, labels: Value) -> Option<String> {
        let node = json!({"metadata": {"name": "n1", "labels": labels}});
        let cpu: Cpu = serde_json::from_value(cpu).unwrap();
        let node = serde_json::from_value(node).unwrap();
        Processors::of(Some(&cpu)).unmet(&node).map(str::to_owned)
    }

    #[test]
    fn a_model_and_its_features_are_looked_for_where_a_node_says_which_it_has() {
        let labels = || json!({"cpu-model.node.kubevirt.io/Haswell": "true", "cpu-feature.node.kubevirt.io/vmx": "true"});
        assert_eq!(unmet(json!({"model": "Haswell"}), labels()), None);
        let lacks = unmet(json!({"model": "EPYC"}), labels());
        assert_eq!(lacks.as_deref(), Some("cpu-model.node.kubevirt.io/EPYC"));
        for model in ["host-model", "host-passthrough"] {
            assert_eq!(unmet(json!({"model": model}), labels()), None);
        }
        let feature = |name: &str, policy: &str| {
            unmet(json!({"features": [{"name": name, "policy": policy}]}), labels())
        };
        assert_eq!(feature("vmx", "require"), None);
        assert!(feature("avx512f", "require").is_some() && feature("avx512f", "").is_some());
        assert_eq!(feature("avx512f", "optional"), None);
        assert!(feature("vmx", "forbid").is_some() && feature("avx512f", "forbid").is_none());
        assert_eq!(unmet(json!({"model": "EPYC"}), json!({"a": "b"})), None);
    }

    #[test]
    fn processors_for_one_guest_alone_are_only_where_they_are_set_aside() {
        let own = || json!({"dedicatedCpuPlacement": true});
        let (set, unset) = (json!({"cpumanager": "true"}), json!({"cpumanager": "false"}));
        assert_eq!(unmet(own(), set.clone()), None);
        assert_eq!(unmet(own(), unset).as_deref(), Some("cpumanager"));
        assert_eq!(unmet(own(), json!({})).as_deref(), Some("cpumanager"));
        let realtime = json!({"dedicatedCpuPlacement": true, "realtime": {}});
        assert_eq!(unmet(realtime, set).as_deref(), Some("kubevirt.io/realtime"));
    }
}
