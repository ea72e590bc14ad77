//! Which nodes a volume is of: what the controller places by, and an agent looks at before it
//! takes a disk into a guest that runs.

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
};
use kube::ResourceExt as _;

/// The terms of which a node must meet one; none if any node does.
#[must_use]
pub fn terms(volume: &PersistentVolume) -> Option<Vec<NodeSelectorTerm>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    Some(affinity.required.as_ref()?.node_selector_terms.clone())
}

/// Whether a node is as a term wants it. One that wants nothing takes nobody, as upstream.
#[must_use]
pub fn meets(node: &Node, term: &NodeSelectorTerm) -> bool {
    let labels = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let name = node.name_any();
    let is_empty = labels.clone().next().is_none() && fields.clone().next().is_none();
    let of_labels = labels.into_iter().all(|one| holds(one, node.labels().get(&one.key)));
    let of_fields = fields
        .into_iter()
        .all(|one| holds(one, Some(&name).filter(|_| one.key == "metadata.name")));
    !is_empty && of_labels && of_fields
}

fn holds(wanted: &NodeSelectorRequirement, has: Option<&String>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = has.is_some_and(|has| values.contains(has));
    let beyond = |is: fn(&i64, &i64) -> bool| {
        let number = |text: &String| text.parse::<i64>().ok();
        let pair = has.and_then(number).zip(values.first().and_then(number));
        pair.is_some_and(|(has, bound)| is(&has, &bound))
    };
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => beyond(i64::gt),
        "Lt" => beyond(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_operator_holds_as_upstream() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1",
            "labels": {"disk": "ssd", "slots": "8"}}}))
        .unwrap();
        let holds = |key: &str, operator: &str, values: Value| {
            let term =
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
            meets(&node, &serde_json::from_value(term).unwrap())
        };
        assert!(holds("disk", "In", json!(["hdd", "ssd"])) && !holds("disk", "In", json!(["hdd"])));
        assert!(holds("none", "NotIn", json!(["x"])) && !holds("disk", "NotIn", json!(["ssd"])));
        assert!(holds("disk", "Exists", json!([])) && !holds("none", "Exists", json!([])));
        assert!(
            holds("none", "DoesNotExist", json!([])) && !holds("disk", "DoesNotExist", json!([]))
        );
        assert!(holds("slots", "Gt", json!(["7"])) && !holds("slots", "Gt", json!(["8"])));
        assert!(holds("slots", "Lt", json!(["9"])) && !holds("disk", "Lt", json!(["9"])));
        assert!(!holds("disk", "Is", json!(["ssd"])));
        let by_name =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]});
        assert!(meets(&node, &serde_json::from_value(by_name).unwrap()));
        assert!(!meets(&node, &NodeSelectorTerm::default()), "what wants nothing takes nobody");
    }
}
