//! Which other guests a guest is to be near to, and which far from: `podAffinity` and
//! `podAntiAffinity`, among VMs, by the labels of their instances.
//!
//! Both sides are asked: a guest that is there and wants nobody of this kind near is obeyed by
//! who comes later, as at kube-scheduler.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, Node, PodAffinityTerm, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::Refusal;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A guest that is somewhere, or about to be, as others look at it.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The labels of its instance.
    pub labels: Cow<'a, Labels>,
    /// Where it is.
    pub node: &'a str,
    /// What it asks of others.
    pub terms: Option<Arc<Terms>>,
}

/// Some guests, and how near.
#[derive(Clone, Debug)]
pub struct Term {
    /// None selects nobody.
    selector: Option<Selector>,
    namespaces: BTreeSet<String>,
    by_labels: Option<Selector>,
    /// Nodes with the same value of this label are near.
    pub topology: String,
}

/// What a guest asks of others.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    near: Vec<Term>,
    far: Vec<Term>,
    rather_near: Vec<(i64, Term)>,
    rather_far: Vec<(i64, Term)>,
}

/// The labels of a namespace.
pub type OfNamespaces<'a> = &'a dyn Fn(&str) -> Option<&'a Labels>;

impl Term {
    fn read(written: &PodAffinityTerm, namespace: &str, own: &Labels) -> Result<Self, String> {
        if written.topology_key.is_empty() {
            return Err(
                "topologyKey is missing: write a label of nodes, such as kubernetes.io/hostname"
                    .to_owned(),
            );
        }
        let same = |keys: &Option<Vec<String>>, operator| {
            with_own(keys.as_deref().unwrap_or_default(), operator, own)
        };
        let mut wanted = same(&written.match_label_keys, "In");
        wanted.extend(same(&written.mismatch_label_keys, "NotIn"));
        let by_labels = written.namespace_selector.clone().map(|one| compiled(one, vec![]));
        let by_labels = by_labels.transpose()?;
        let mut namespaces: BTreeSet<String> =
            written.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && by_labels.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let selector = written.label_selector.clone().map(|one| compiled(one, wanted));
        let (selector, topology) = (selector.transpose()?, written.topology_key.clone());
        Ok(Self { selector, namespaces, by_labels, topology })
    }

    /// Whether a guest of this namespace and with these labels is meant.
    fn means(&self, namespace: &str, labels: &Labels, of: OfNamespaces<'_>) -> bool {
        let nothing = Labels::new();
        let in_place = self.namespaces.contains(namespace)
            || self
                .by_labels
                .as_ref()
                .is_some_and(|one| one.matches(of(namespace).unwrap_or(&nothing)));
        in_place && self.selector.as_ref().is_some_and(|one| one.matches(labels))
    }
}

/// The values that a guest itself has of these labels.
pub(super) fn with_own(
    keys: &[String],
    operator: &str,
    own: &Labels,
) -> Vec<LabelSelectorRequirement> {
    let one = |key: &String| LabelSelectorRequirement {
        key: key.clone(),
        operator: operator.to_owned(),
        values: own.get(key).map(|value| vec![value.clone()]),
    };
    keys.iter().filter(|key| own.contains_key(*key)).map(one).collect()
}

pub(super) fn compiled(
    mut selector: LabelSelector,
    more: Vec<LabelSelectorRequirement>,
) -> Result<Selector, String> {
    if !more.is_empty() {
        selector.match_expressions.get_or_insert_default().extend(more);
    }
    Selector::try_from(selector).map_err(|error| format!("a label selector cannot be: {error}"))
}

impl Terms {
    /// What this affinity asks for, of a guest of this namespace and with these labels; none if
    /// it says nothing of other guests.
    ///
    /// # Errors
    /// Which field cannot be.
    pub fn read(
        affinity: &Affinity,
        namespace: &str,
        own: &Labels,
    ) -> Result<Option<Self>, String> {
        let term = |at: &str, one: &PodAffinityTerm| {
            Term::read(one, namespace, own).map_err(|why| format!("{at}: {why}"))
        };
        let all = |at: &str, list: &Option<Vec<PodAffinityTerm>>| {
            let list = list.iter().flatten();
            list.map(|one| term(at, one)).collect::<Result<Vec<_>, _>>()
        };
        let rather = |at: &str, list: &Option<Vec<WeightedPodAffinityTerm>>| {
            let one = |one: &WeightedPodAffinityTerm| {
                Ok((i64::from(one.weight), term(at, &one.pod_affinity_term)?))
            };
            list.iter().flatten().map(one).collect::<Result<Vec<_>, String>>()
        };
        let mut terms = Self::default();
        if let Some(near) = &affinity.pod_affinity {
            let at = "podAffinity";
            terms.near = all(at, &near.required_during_scheduling_ignored_during_execution)?;
            terms.rather_near =
                rather(at, &near.preferred_during_scheduling_ignored_during_execution)?;
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            let at = "podAntiAffinity";
            terms.far = all(at, &far.required_during_scheduling_ignored_during_execution)?;
            terms.rather_far =
                rather(at, &far.preferred_during_scheduling_ignored_during_execution)?;
        }
        let says = !(terms.near.is_empty()
            && terms.far.is_empty()
            && terms.rather_near.is_empty()
            && terms.rather_far.is_empty());
        Ok(says.then_some(terms))
    }
}

/// What follows from all guests for one that is to be placed.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// For each required term, the values of its label at which a guest is that it means.
    near: Vec<(String, HashSet<String>)>,
    /// Nobody is meant by any of them yet but the guest itself: it is the first.
    is_first: bool,
    far: Vec<(String, HashSet<String>)>,
    /// Where others are that want nobody like this one near.
    barred: HashMap<String, HashSet<String>>,
    /// What a place is worth, by label and value.
    worth: HashMap<(String, String), i64>,
}

/// Who is to be placed.
#[derive(Debug)]
pub struct Newcomer<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The labels that its instance is to have.
    pub labels: &'a Labels,
    /// What it asks of others.
    pub terms: Option<&'a Terms>,
}

impl Neighbours {
    /// Of these guests on these nodes.
    #[must_use]
    pub fn of(
        who: &Newcomer<'_>,
        guests: &[Guest<'_>],
        nodes: &HashMap<&str, &Node>,
        namespaces: OfNamespaces<'_>,
    ) -> Self {
        let mut all = Self::default();
        let value = |node: &str, key: &str| nodes.get(node)?.labels().get(key).cloned();
        let nothing = Terms::default();
        let asked = who.terms.unwrap_or(&nothing);
        let of_term = |term: &Term| (term.topology.clone(), HashSet::new());
        all.near = asked.near.iter().map(of_term).collect();
        all.far = asked.far.iter().map(of_term).collect();
        let mut worth = HashMap::new();
        let mut weigh = |term: &Term, node: &str, weight: i64| {
            if let Some(value) = value(node, &term.topology) {
                *worth.entry((term.topology.clone(), value)).or_default() += weight;
            }
        };
        let mut is_met = false;
        for guest in guests {
            let means = |term: &Term| term.means(guest.namespace, &guest.labels, namespaces);
            // One is near only whom all terms mean, as at kube-scheduler.
            if !asked.near.is_empty() && asked.near.iter().all(means) {
                is_met = true;
                for (key, values) in &mut all.near {
                    values.extend(value(guest.node, key));
                }
            }
            for (term, (key, values)) in asked.far.iter().zip(&mut all.far) {
                values.extend(value(guest.node, key).filter(|_| means(term)));
            }
            for (weight, term) in asked.rather_near.iter().filter(|(_, term)| means(term)) {
                weigh(term, guest.node, *weight);
            }
            for (weight, term) in asked.rather_far.iter().filter(|(_, term)| means(term)) {
                weigh(term, guest.node, -weight);
            }
            let Some(theirs) = &guest.terms else { continue };
            let means_us = |term: &Term| term.means(who.namespace, who.labels, namespaces);
            for term in theirs.far.iter().filter(|term| means_us(term)) {
                let values = all.barred.entry(term.topology.clone()).or_default();
                values.extend(value(guest.node, &term.topology));
            }
            for term in theirs.near.iter().filter(|term| means_us(term)) {
                weigh(term, guest.node, 1);
            }
            for (weight, term) in theirs.rather_near.iter().filter(|(_, term)| means_us(term)) {
                weigh(term, guest.node, *weight);
            }
            for (weight, term) in theirs.rather_far.iter().filter(|(_, term)| means_us(term)) {
                weigh(term, guest.node, -weight);
            }
        }
        let means_itself = |term: &Term| term.means(who.namespace, who.labels, namespaces);
        all.is_first = !is_met && asked.near.iter().all(means_itself);
        all.worth = worth;
        all
    }

    /// Why this node does not do, if so.
    #[must_use]
    pub fn refusal(&self, node: &Node) -> Option<Refusal> {
        let labels = node.labels();
        for (key, values) in &self.near {
            let is_near = match labels.get(key) {
                Some(value) => self.is_first || values.contains(value),
                None => false,
            };
            if !is_near {
                let reason = "node(s) didn't match pod affinity rules";
                return Some(Refusal::new(
                    reason,
                    format!("no VM that podAffinity asks for has the same {key}"),
                ));
            }
        }
        let here = |(key, values): &(&String, &HashSet<String>)| {
            labels.get(*key).is_some_and(|value| values.contains(value))
        };
        let mut far = self.far.iter().map(|(key, values)| (key, values));
        if let Some((key, _)) = far.find(here) {
            let reason = "node(s) didn't match pod anti-affinity rules";
            return Some(Refusal::new(
                reason,
                format!("a VM that podAntiAffinity is about has the same {key}"),
            ));
        }
        let (key, _) = self.barred.iter().find(here)?;
        let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
        Some(Refusal::new(
            reason,
            format!("a VM of the same {key} has a podAntiAffinity against this one"),
        ))
    }

    /// What the node is worth.
    #[must_use]
    pub fn worth(&self, node: &Node) -> i64 {
        if self.worth.is_empty() {
            return 0;
        }
        let places = node.labels().iter().map(|(key, value)| (key.clone(), value.clone()));
        places.filter_map(|place| self.worth.get(&place)).sum()
    }
}
