//! Which node a VM runs on: filter, then score. Pure.
//!
//! ```text
//!  wish (spec) ─┐                ┌─ why not: agent, cordon, taints, labels, room, disks,
//!               ├─► each node ───┤           spread, neighbours
//!  scene ───────┘                └─ of those that do: the best; among equals the one with
//!                                   the fewest VMs, then the first by name
//! ```
//!
//! Filters, their order and their words are kube-scheduler's, and so are the weights of the
//! scores. Where other guests are is looked at only if somebody asks for it: what a node has
//! left is kept as a sum.

pub mod amount;
mod cpu;
pub mod neighbours;
pub mod nodes;
pub mod pods;
mod refusal;
mod spread;
mod taints;
mod wish;

use std::cmp::Reverse;
use std::collections::HashMap;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crds::kubevirt::SCHEDULABLE_LABEL;

use crate::lost;

pub use amount::Amount;
pub use neighbours::{Guest, Labels, Terms};
use neighbours::{Neighbours, Newcomer, OfNamespaces};
pub use refusal::Refusal;
use refusal::told;
use spread::Counts;
pub use wish::{Wish, affinity, has_terms};

/// What there is.
pub struct Scene<'a> {
    /// The nodes, in any order.
    pub nodes: Vec<&'a Node>,
    /// Guests that are somewhere: all if the wish looks at others, else those that ask
    /// something of others themselves.
    pub guests: Vec<Guest<'a>>,
    /// The labels of a namespace.
    pub namespaces: OfNamespaces<'a>,
    /// What else keeps the VM off a node.
    pub refuse: &'a dyn Fn(&Node) -> Option<Refusal>,
    /// What is taken of a node.
    pub taken: &'a dyn Fn(&str) -> Amount,
    /// How many VMs a node has.
    pub load: &'a dyn Fn(&str) -> usize,
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Scene").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

/// The node for a VM with this wish.
///
/// # Errors
/// Why no node does: how many do not for each reason, and which for which.
pub fn choose(wish: &Wish, scene: &Scene<'_>) -> Result<String, String> {
    let by_name: HashMap<&str, &Node> = scene
        .nodes
        .iter()
        .filter_map(|node| Some((node.metadata.name.as_deref()?, *node)))
        .collect();
    let who =
        Newcomer { namespace: &wish.namespace, labels: &wish.labels, terms: wish.terms.as_ref() };
    let neighbours = Neighbours::of(&who, &scene.guests, &by_name, scene.namespaces);
    let could = |node: &Node| {
        let (by_labels, by_taints) = wish.could_be_on(node);
        (by_labels && is_served(node), by_taints)
    };
    let of = (wish.namespace.as_str(), &wish.labels);
    let counts = Counts::of(&wish.spread, of, &scene.guests, &by_name, &could);

    let mut refusals = Vec::new();
    let mut fit = Vec::new();
    for node in &scene.nodes {
        let refusal = refusal(wish, scene, node)
            .or_else(|| counts.refusal(node))
            .or_else(|| neighbours.refusal(node));
        match refusal {
            Some(refusal) => refusals.push((node.name_any(), refusal)),
            None => fit.push(*node),
        }
    }
    let worths = [
        (3, scaled(&fit, |node| -count(taints::unwelcome(node, &wish.tolerations)))),
        (2, scaled(&fit, |node| wish.liking(node))),
        (2, scaled(&fit, |node| counts.worth(node))),
        (2, scaled(&fit, |node| neighbours.worth(node))),
        (1, fit.iter().map(|node| left(wish, scene, node)).collect()),
    ];
    let worth = |at: usize| -> i64 { worths.iter().map(|(weight, all)| weight * all[at]).sum() };
    let best = fit.iter().enumerate().min_by_key(|(at, node)| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        (Reverse(worth(*at)), (scene.load)(name), name)
    });
    best.map(|(_, node)| node.name_any()).ok_or_else(|| told(&refusals))
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// What each is worth, from 0 for the worst to 100 for the best.
fn scaled(nodes: &[&Node], worth: impl Fn(&Node) -> i64) -> Vec<i64> {
    let all: Vec<i64> = nodes.iter().map(|node| worth(node)).collect();
    let (least, most) = (all.iter().min().copied(), all.iter().max().copied());
    let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
    let span = most.saturating_sub(least).max(1);
    all.into_iter().map(|one| one.saturating_sub(least).saturating_mul(100) / span).collect()
}

/// How much of a node is left, in hundredths, with this guest on it.
fn left(wish: &Wish, scene: &Scene<'_>, node: &Node) -> i64 {
    let Some(has) = allocatable(node) else { return 0 };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let room = has.without((scene.taken)(name)).without(wish.amount);
    let share = |room: u64, has: u64| {
        let share = u128::from(room) * 100 / u128::from(has.max(1));
        i64::try_from(share).unwrap_or(0)
    };
    i64::midpoint(share(room.milli, has.milli), share(room.bytes, has.bytes))
}

/// What a node has for guests and pods; none of one that does not say.
fn allocatable(node: &Node) -> Option<Amount> {
    let listed = node.status.as_ref()?.allocatable.as_ref().filter(|all| !all.is_empty())?;
    let mut has = Amount::listed(listed, u64::MAX);
    // Of huge pages and processors for one guest alone a node has those that it names.
    let named = Amount::listed(listed, 0);
    (has.pages, has.dedicated) = (named.pages, named.dedicated);
    Some(has)
}

/// What a node has left of which so much is taken; none of one that does not say what it has.
#[must_use]
pub fn room(node: &Node, taken: Amount) -> Option<Amount> {
    Some(allocatable(node)?.without(taken))
}

fn is_served(node: &Node) -> bool {
    node.labels().get(SCHEDULABLE_LABEL).map(String::as_str) == Some("true")
}

/// Why a node does not do, whatever other guests there are.
fn refusal(wish: &Wish, scene: &Scene<'_>, node: &Node) -> Option<Refusal> {
    if !is_served(node) {
        let detail = format!("no agent serves it (label {SCHEDULABLE_LABEL} is not \"true\")");
        return Some(Refusal::new("node(s) had no berth-agent", detail));
    }
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if cordoned && !taints::bears_cordon(&wish.tolerations) {
        return Some(Refusal::new("node(s) were unschedulable", "it is cordoned"));
    }
    if let Some(taint) = lost::away(node) {
        let (reason, detail) = of_taint(&taint.key, taint.value.as_deref());
        return Some(Refusal::new(reason, detail));
    }
    (scene.refuse)(node)
        .or_else(|| {
            let taint = taints::untolerated(node, &wish.tolerations)?;
            let (reason, detail) = of_taint(&taint.key, taint.value.as_deref());
            Some(Refusal::new(reason, detail))
        })
        .or_else(|| wish.selector_refusal(node))
        .or_else(|| no_room(wish, scene, node))
}

fn of_taint(key: &str, value: Option<&str>) -> (String, String) {
    let value = value.unwrap_or_default();
    (format!("node(s) had untolerated taint {{{key}: {value}}}"), format!("it has the taint {key}"))
}

fn no_room(wish: &Wish, scene: &Scene<'_>, node: &Node) -> Option<Refusal> {
    let room = room(node, (scene.taken)(node.metadata.name.as_deref()?))?;
    let lacks: Vec<_> = wish.amount.lacks(room).collect();
    (!lacks.is_empty()).then(|| Refusal {
        detail: lacks.join(", "),
        reasons: lacks.into_iter().map(Into::into).collect(),
    })
}

#[cfg(test)]
mod tests;
