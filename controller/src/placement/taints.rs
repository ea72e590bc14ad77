//! Taints of nodes, and who bears them.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

/// What Kubernetes puts on each Node that is made and not every cluster takes off. Whether a
/// node lives its lease says.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// What a cordoned node has.
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The first taint that keeps a guest with these tolerations off a node.
pub(crate) fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration]) -> Option<&'a Taint> {
    let keeps_off = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && taint.key != NOT_READY
            // `spec.unschedulable` says it, too.
            && taint.key != UNSCHEDULABLE
            && !tolerations.iter().any(|one| bears(one, taint))
    };
    taints(node).find(keeps_off)
}

/// How many taints would rather have this guest elsewhere.
pub(crate) fn unwelcome(node: &Node, tolerations: &[Toleration]) -> usize {
    let prefers = |taint: &&Taint| {
        taint.effect == "PreferNoSchedule" && !tolerations.iter().any(|one| bears(one, taint))
    };
    taints(node).filter(prefers).count()
}

/// Whether a cordoned node is none for a guest with these tolerations.
pub(crate) fn bears_cordon(tolerations: &[Toleration]) -> bool {
    let cordon = Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    tolerations.iter().any(|one| bears(one, &cordon))
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = said(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let (key, operator) = (said(&toleration.key), said(&toleration.operator));
    let is_exists = operator.as_deref() == Some("Exists");
    effect
        && match (key, is_exists) {
            (None, exists) => exists,
            (Some(key), true) => key == taint.key,
            (Some(key), false) => {
                let same = said(&toleration.value) == said(&taint.value);
                key == taint.key && same && operator.is_none_or(|one| one == "Equal")
            }
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(taints: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}}))
            .unwrap()
    }

    fn tolerations(written: Value) -> Vec<Toleration> {
        serde_json::from_value(written).unwrap()
    }

    #[test]
    fn a_taint_keeps_off_who_does_not_bear_it() {
        let gpu = node(json!([{"key": "gpu", "value": "a100", "effect": "NoSchedule"}]));
        for (written, bears) in [
            (json!([]), false),
            (json!([{"key": "gpu"}]), false),
            (json!([{"key": "gpu", "value": "a100"}]), true),
            (
                json!([{"key": "gpu", "operator": "Equal", "value": "a100", "effect": "NoSchedule"}]),
                true,
            ),
            (json!([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]), false),
            (json!([{"key": "gpu", "operator": "Exists"}]), true),
            (json!([{"operator": "Exists"}]), true),
            (json!([{"operator": "Equal"}]), false),
            (json!([{"key": "gpu", "operator": "Near", "value": "a100"}]), false),
        ] {
            let found = untolerated(&gpu, &tolerations(written.clone()));
            assert_eq!(found.is_none(), bears, "{written}");
        }
    }

    #[test]
    fn a_node_that_is_not_ready_to_kubernetes_is_asked_by_its_lease_alone() {
        let new = node(json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
        assert_eq!(untolerated(&new, &[]), None);
    }

    #[test]
    fn who_would_rather_be_alone_is_counted_and_keeps_nobody_off() {
        let quiet = node(json!([{"key": "quiet", "effect": "PreferNoSchedule"}]));
        assert_eq!((untolerated(&quiet, &[]), unwelcome(&quiet, &[])), (None, 1));
        assert_eq!(unwelcome(&quiet, &tolerations(json!([{"operator": "Exists"}]))), 0);
        assert!(!bears_cordon(&[]));
        assert!(bears_cordon(&tolerations(json!([{"operator": "Exists"}]))));
    }
}
