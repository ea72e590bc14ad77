//! What a guest asks of the node that it is to run on, out of its spec.

use std::collections::BTreeMap;

use crds::affinity::meets;
use crds::kubevirt::{CPU_MANAGER_LABEL, REALTIME_LABEL, VirtualMachineInstanceSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelectorTerm, Toleration, TopologySpreadConstraint,
};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::cpu::Processors;
use super::neighbours::{Labels, Terms};
use super::spread::Spread;
use super::{Amount, Refusal, nodes, taints};

/// The label that says what a node's processors are.
const ARCH: &str = "kubernetes.io/arch";

/// What a guest asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Labels that the node must carry.
    pub selector: BTreeMap<String, String>,
    required: Option<Vec<NodeSelectorTerm>>,
    preferred: Vec<(i64, NodeSelectorTerm)>,
    /// Taints that it bears.
    pub tolerations: Vec<Toleration>,
    /// How evenly guests like it are spread.
    pub(super) spread: Vec<Spread>,
    /// What it asks of other guests.
    pub terms: Option<Terms>,
    processors: Processors,
    /// What it takes.
    pub amount: Amount,
    /// Its namespace.
    pub namespace: String,
    /// The labels that its instance has, or is to have.
    pub labels: Labels,
}

impl Wish {
    /// What an instance with this spec asks for, in this namespace and with these labels.
    ///
    /// # Errors
    /// The field that cannot be, and why.
    pub fn of(
        namespace: &str,
        labels: Labels,
        spec: &VirtualMachineInstanceSpec,
    ) -> Result<Self, String> {
        let affinity = affinity(spec)?.unwrap_or_default();
        let terms = Terms::read(&affinity, namespace, &labels);
        let terms = terms.map_err(|why| format!("spec.affinity.{why}"))?;
        let of_nodes = affinity.node_affinity.unwrap_or_default();
        let spreads: Vec<TopologySpreadConstraint> =
            written(spec, "topologySpreadConstraints")?.unwrap_or_default();
        let spread = spreads.iter().enumerate().map(|(at, one)| {
            let at = |why| format!("spec.topologySpreadConstraints[{at}].{why}");
            Spread::read(one, &labels).map_err(at)
        });
        let spread = spread.collect::<Result<_, _>>()?;
        let mut selector = spec.node_selector.clone().unwrap_or_default();
        if let Some(arch) = spec.architecture.as_ref().filter(|arch| !arch.is_empty()) {
            selector.entry(ARCH.to_owned()).or_insert_with(|| arch.clone());
        }
        let preferred = of_nodes.preferred_during_scheduling_ignored_during_execution;
        let preferred = preferred.into_iter().flatten();
        Ok(Self {
            selector,
            required: of_nodes
                .required_during_scheduling_ignored_during_execution
                .map(|one| one.node_selector_terms),
            preferred: preferred.map(|one| (i64::from(one.weight), one.preference)).collect(),
            tolerations: written(spec, "tolerations")?.unwrap_or_default(),
            spread,
            terms,
            processors: Processors::of(spec.domain.cpu.as_ref()),
            amount: Amount::of_guest(&spec.domain),
            namespace: namespace.to_owned(),
            labels,
        })
    }

    /// Whether it must be known where other guests are.
    #[must_use]
    pub fn looks_at_others(&self) -> bool {
        self.terms.is_some() || !self.spread.is_empty()
    }

    /// Whether the node is one by its labels, and by its taints.
    #[must_use]
    pub fn could_be_on(&self, node: &Node) -> (bool, bool) {
        (
            self.selector_refusal(node).is_none(),
            taints::untolerated(node, &self.tolerations).is_none(),
        )
    }

    /// Why a node does not do by its labels, if so.
    pub(super) fn selector_refusal(&self, node: &Node) -> Option<Refusal> {
        let reason = "node(s) didn't match Pod's node affinity/selector";
        let unmet = nodes::unmet(node, &self.selector);
        let unmet = unmet.map(|(key, value)| format!("nodeSelector {key}={value} does not match"));
        let affinity = || {
            let unmet = self.required.as_ref()?.iter().all(|term| !meets(node, term));
            unmet.then(|| "no term of the required nodeAffinity matches".to_owned())
        };
        let processors = || {
            Some(match self.processors.unmet(node)? {
                CPU_MANAGER_LABEL => "it sets no processors aside for guests to have to \
                    themselves: start its agent with --dedicated-cpus"
                    .to_owned(),
                REALTIME_LABEL => "its kernel takes processors from what nothing should preempt: \
                    set kernel.sched_rt_runtime_us to -1 there"
                    .to_owned(),
                label => format!("its processors are not as spec.domain.cpu asks for ({label})"),
            })
        };
        let detail = unmet.or_else(affinity).or_else(processors)?;
        Some(Refusal::new(reason, detail))
    }

    /// The weights of the preferred terms that a node meets.
    pub(super) fn liking(&self, node: &Node) -> i64 {
        let met = self.preferred.iter().filter(|(_, term)| meets(node, term));
        met.map(|(weight, _)| weight).sum()
    }
}

/// The affinity that a spec has.
///
/// # Errors
/// Why it is none.
pub fn affinity(spec: &VirtualMachineInstanceSpec) -> Result<Option<Affinity>, String> {
    written(spec, "affinity")
}

/// Whether it has one, without reading it.
#[must_use]
pub fn has_terms(spec: &VirtualMachineInstanceSpec) -> bool {
    spec.rest.contains_key("affinity")
}

fn written<T: DeserializeOwned>(
    spec: &VirtualMachineInstanceSpec,
    field: &str,
) -> Result<Option<T>, String> {
    let Some(value) = spec.rest.get(field) else { return Ok(None) };
    Option::<T>::deserialize(value).map_err(|error| format!("spec.{field}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn error(spec: Value) -> String {
        let mut spec = spec;
        spec["domain"] = json!({"devices": {}});
        let spec = serde_json::from_value(spec).unwrap();
        Wish::of("default", Labels::new(), &spec).unwrap_err()
    }

    #[test]
    fn what_cannot_be_is_told_with_its_field() {
        for (spec, words) in [
            (json!({"affinity": {"nodeAffinity": 3}}), "spec.affinity: "),
            (json!({"tolerations": {"key": "a"}}), "spec.tolerations: "),
            (
                json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
                "spec.topologySpreadConstraints[0].maxSkew is 0: write 1 or more",
            ),
            (
                json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Never"}]}),
                "whenUnsatisfiable is \"Never\": write DoNotSchedule or ScheduleAnyway",
            ),
            (
                json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}}}),
                "spec.affinity.podAntiAffinity: topologyKey is missing",
            ),
            (
                json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone",
                    "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}]}}}),
                "spec.affinity.podAffinity: a label selector cannot be",
            ),
        ] {
            let said = error(spec.clone());
            assert!(said.contains(words), "{spec}: {said}");
        }
    }
}
