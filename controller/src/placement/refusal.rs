//! Why nodes do not do, counted as kube-scheduler counts it and then said node by node.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// As many nodes are spoken of one by one; in a larger cluster the counts say it.
const SPOKEN_OF: usize = 8;

/// Why a node does not do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// In kube-scheduler's words, to be counted.
    pub reasons: Vec<Cow<'static, str>>,
    /// Of this node, with what to change.
    pub detail: String,
}

impl Refusal {
    /// For one reason.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], detail: detail.into() }
    }
}

/// What is said of all of them. `refusals`: node and reason.
#[must_use]
pub(crate) fn told(refusals: &[(String, Refusal)]) -> String {
    if refusals.is_empty() {
        return "no node is known: start berth-agent on one".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.iter().flat_map(|(_, refusal)| &refusal.reasons) {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counted: Vec<_> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    let mut said = format!("0/{} nodes are available: {}.", refusals.len(), counted.join(", "));
    let mut by_name: Vec<_> = refusals.iter().collect();
    by_name.sort_by(|one, other| one.0.cmp(&other.0));
    for (at, (node, refusal)) in by_name.iter().take(SPOKEN_OF).enumerate() {
        let between = if at == 0 { " " } else { "; " };
        let _ = write!(said, "{between}{node}: {}", refusal.detail);
    }
    if refusals.len() > SPOKEN_OF {
        said.push_str("; …");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_by_reason_as_kube_scheduler_does_and_then_named() {
        let insufficient = || Refusal::new("Insufficient memory", "Insufficient memory");
        let mut both = insufficient();
        both.reasons.push("Insufficient cpu".into());
        let all = [
            ("n3".to_owned(), both),
            ("n1".to_owned(), Refusal::new("node(s) were unschedulable", "it is cordoned")),
            ("n2".to_owned(), insufficient()),
        ];
        assert_eq!(
            told(&all),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 Insufficient memory. \
             n1: it is cordoned; n2: Insufficient memory; n3: Insufficient memory"
        );
    }

    #[test]
    fn of_many_nodes_not_all_are_named() {
        let all: Vec<_> = (0..100)
            .map(|at| {
                (format!("n{at:02}"), Refusal::new("node(s) were unschedulable", "it is cordoned"))
            })
            .collect();
        let said = told(&all);
        assert!(
            said.starts_with("0/100 nodes are available: 100 node(s) were unschedulable. n00: ")
        );
        assert!(said.ends_with("n07: it is cordoned; …"), "{said}");
    }
}
