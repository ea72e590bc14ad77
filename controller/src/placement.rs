//! Which node a VM runs on: filter, then score. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crds::kubevirt::SCHEDULABLE_LABEL;

use crate::lost;

/// The node for a VM with this node selector: of those that an agent serves and
/// that the selector allows and `refuse` says nothing against, the one with the fewest
/// VMs; among equals the first by name.
///
/// # Errors
/// One sentence that says for each node why it does not do.
pub fn choose<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    selector: Option<&BTreeMap<String, String>>,
    refuse: impl Fn(&Node) -> Option<String>,
    load: impl Fn(&str) -> usize,
) -> Result<String, String> {
    let mut refusals = Vec::new();
    let mut best: Option<(usize, String)> = None;
    for node in nodes {
        let name = node.name_any();
        match refuse(node).or_else(|| refusal(node, selector)) {
            Some(reason) => refusals.push(format!("{name}: {reason}")),
            None => {
                let candidate = (load(&name), name);
                if best.as_ref().is_none_or(|best| candidate < *best) {
                    best = Some(candidate);
                }
            }
        }
    }
    best.map(|(_, name)| name).ok_or_else(|| {
        if refusals.is_empty() {
            "no node is known: start berth-agent on one".to_owned()
        } else {
            format!("no node takes the VM: {}", refusals.join("; "))
        }
    })
}

fn refusal(node: &Node, selector: Option<&BTreeMap<String, String>>) -> Option<String> {
    let labels = node.labels();
    if labels.get(SCHEDULABLE_LABEL).map(String::as_str) != Some("true") {
        return Some(format!("no agent serves it (label {SCHEDULABLE_LABEL} is not \"true\")"));
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return Some("it is cordoned".to_owned());
    }
    if let Some(why) = lost::away(node) {
        return Some(why);
    }
    let unmet =
        selector.into_iter().flatten().find(|(key, value)| labels.get(*key) != Some(*value));
    unmet.map(|(key, value)| format!("nodeSelector {key}={value} does not match"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::NodeSpec;

    use super::*;

    fn node(name: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.labels_mut().insert(SCHEDULABLE_LABEL.to_owned(), "true".to_owned());
        node
    }

    #[test]
    fn the_node_with_the_fewest_vms_is_chosen_and_names_break_ties() {
        let nodes = [node("n2"), node("n1"), node("n3")];
        let load = |name: &str| usize::from(name == "n1");
        assert_eq!(choose(&nodes, None, |_| None, load).as_deref(), Ok("n2"));
        assert_eq!(choose(&nodes, None, |_| None, |_| 0).as_deref(), Ok("n1"));
    }

    #[test]
    fn a_refusal_says_why_for_each_node() {
        let mut cordoned = node("n1");
        cordoned.spec = Some(NodeSpec { unschedulable: Some(true), ..NodeSpec::default() });
        let mut unserved = node("n2");
        unserved.metadata.labels = None;
        let selector = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        let error = choose([&cordoned, &unserved, &node("n3")], Some(&selector), |_| None, |_| 0)
            .unwrap_err();
        assert!(error.contains("n1: it is cordoned"), "{error}");
        assert!(error.contains("n2: no agent"), "{error}");
        assert!(error.contains("n3: nodeSelector disk=ssd"), "{error}");
        assert!(choose([], None, |_| None, |_| 0).unwrap_err().contains("start berth-agent"));
    }
}
