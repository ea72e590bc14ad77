//! How evenly guests are to be spread: `topologySpreadConstraints`.
//!
//! A domain is all nodes with one value of a label. Only nodes count that could take the guest
//! by its selector and affinity, and by their taints where that is asked for.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Node, TopologySpreadConstraint};
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::Refusal;
use super::neighbours::{Guest, Labels, compiled, with_own};

/// One constraint.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    topology: String,
    selector: Option<Selector>,
    max_skew: i64,
    min_domains: usize,
    is_hard: bool,
    by_affinity: bool,
    by_taints: bool,
}

impl Spread {
    /// # Errors
    /// Which field cannot be.
    pub(crate) fn read(written: &TopologySpreadConstraint, own: &Labels) -> Result<Self, String> {
        let is_hard = match written.when_unsatisfiable.as_str() {
            "" | "DoNotSchedule" => true,
            "ScheduleAnyway" => false,
            other => {
                return Err(format!(
                    "whenUnsatisfiable is {other:?}: write DoNotSchedule or ScheduleAnyway"
                ));
            }
        };
        if written.max_skew < 1 {
            return Err(format!("maxSkew is {}: write 1 or more", written.max_skew));
        }
        if written.topology_key.is_empty() {
            return Err("topologyKey is missing: write a label of nodes".to_owned());
        }
        let min_domains = written.min_domains.unwrap_or(1);
        let min_domains = usize::try_from(min_domains).ok().filter(|count| *count > 0);
        let min_domains =
            min_domains.ok_or_else(|| "minDomains is not above 0: write 1 or more".to_owned())?;
        let same = with_own(written.match_label_keys.as_deref().unwrap_or_default(), "In", own);
        let selector = written.label_selector.clone().map(|one| compiled(one, same));
        let honours = |policy: &Option<String>, default: &str| {
            policy.as_deref().filter(|word| !word.is_empty()).unwrap_or(default) == "Honor"
        };
        Ok(Self {
            topology: written.topology_key.clone(),
            selector: selector.transpose()?,
            max_skew: i64::from(written.max_skew),
            min_domains,
            is_hard,
            by_affinity: honours(&written.node_affinity_policy, "Honor"),
            by_taints: honours(&written.node_taints_policy, "Ignore"),
        })
    }

    fn means(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_some_and(|one| one.matches(labels))
    }
}

/// Whether a node could take the guest by selector and affinity, and by its taints.
pub(crate) type Could<'a> = &'a dyn Fn(&Node) -> (bool, bool);

/// How many there are in each domain, for each constraint.
#[derive(Debug)]
pub(crate) struct Counts<'a>(Vec<Count<'a>>);

#[derive(Debug)]
struct Count<'a> {
    spread: &'a Spread,
    domains: BTreeMap<String, i64>,
    least: i64,
    /// The newcomer itself counts.
    itself: i64,
}

impl<'a> Counts<'a> {
    /// For a guest of this namespace and with these labels.
    #[must_use]
    pub(crate) fn of(
        spreads: &'a [Spread],
        (namespace, labels): (&str, &Labels),
        guests: &[Guest<'_>],
        nodes: &HashMap<&str, &Node>,
        could: Could<'_>,
    ) -> Self {
        let count = |spread: &'a Spread| {
            let counts = |node: &Node| {
                let (by_affinity, by_taints) = could(node);
                (by_affinity || !spread.by_affinity)
                    && (by_taints || !spread.by_taints)
                    && spreads
                        .iter()
                        .filter(|other| other.is_hard == spread.is_hard)
                        .all(|other| node.labels().contains_key(&other.topology))
            };
            let counting: HashMap<&str, &String> = nodes
                .iter()
                .filter(|(_, node)| counts(node))
                .filter_map(|(name, node)| Some((*name, node.labels().get(&spread.topology)?)))
                .collect();
            let mut domains: BTreeMap<String, i64> =
                counting.values().map(|value| ((*value).clone(), 0)).collect();
            for guest in guests.iter().filter(|guest| guest.namespace == namespace) {
                if let Some(value) = counting.get(guest.node)
                    && spread.means(&guest.labels)
                    && let Some(count) = domains.get_mut(*value)
                {
                    *count += 1;
                }
            }
            let least = domains.values().min().copied().unwrap_or(0);
            let least = if domains.len() < spread.min_domains { 0 } else { least };
            Count { spread, domains, least, itself: i64::from(spread.means(labels)) }
        };
        Self(spreads.iter().map(count).collect())
    }

    /// Why this node does not do, if so.
    #[must_use]
    pub(crate) fn refusal(&self, node: &Node) -> Option<Refusal> {
        let reason = "node(s) didn't match pod topology spread constraints";
        for count in self.0.iter().filter(|one| one.spread.is_hard) {
            let key = &count.spread.topology;
            let Some(value) = node.labels().get(key) else {
                let reason = format!("{reason} (missing required label)");
                return Some(Refusal::new(reason, format!("it has no label {key}")));
            };
            let here = count.domains.get(value).copied().unwrap_or(0);
            let skew = here + count.itself - count.least;
            if skew > count.spread.max_skew {
                return Some(Refusal::new(
                    reason,
                    format!(
                        "{here} VMs have {key}={value} already, and elsewhere there are {}",
                        count.least
                    ),
                ));
            }
        }
        None
    }

    /// What the node is worth: the fewer the better.
    #[must_use]
    pub(crate) fn worth(&self, node: &Node) -> i64 {
        let soft = self.0.iter().filter(|one| !one.spread.is_hard);
        let most = |count: &Count<'_>| count.domains.values().max().copied().unwrap_or(0) + 1;
        let here = |count: &Count<'_>| {
            let value = node.labels().get(&count.spread.topology);
            value.and_then(|value| count.domains.get(value)).copied()
        };
        soft.map(|count| -here(count).unwrap_or_else(|| most(count))).sum()
    }
}
