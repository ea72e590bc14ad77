//! Which namespaces a Subnet is for: those that it lists, and those whose labels one
//! of its selectors matches. Pure.
//!
//! A selector is what it is everywhere in Kubernetes: all of its labels and
//! expressions must hold, and an empty one matches every namespace. Of several
//! selectors one is enough. A bad one matches nothing and is told of; the list and the
//! other selectors count. A Vpc that lists its namespaces has no others: one that a
//! Subnet of it lists besides does not count, as upstream, and is told of.

use std::collections::{BTreeSet, HashSet};

use crds::kubeovn::{DEFAULT_VPC, SubnetSpec, Vpc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector, SelectorExt as _};

use crate::flaw::Flaw;

/// The longest name of a label, and the longest value, in bytes.
const LONGEST: usize = 63;
/// The longest prefix of a label's key, in bytes.
const LONGEST_PREFIX: usize = 253;

/// The namespaces of a subnet of `vpc`, out of those that `exist` and those that it lists.
#[must_use]
pub fn of<'a>(
    spec: &SubnetSpec,
    vpc: Option<&Vpc>,
    exist: impl IntoIterator<Item = (&'a String, &'a ObjectMeta)>,
) -> BTreeSet<String> {
    let listed = listed(vpc);
    let listed = |name: &&String| listed.as_ref().is_none_or(|all| all.contains(name));
    let mut names: BTreeSet<String> = spec.namespaces.iter().filter(listed).cloned().collect();
    let (selectors, _) = selectors(spec);
    if selectors.is_empty() {
        return names;
    }
    let matches = |meta: &ObjectMeta| {
        let labels = meta.labels.clone().unwrap_or_default();
        selectors.iter().any(|selector| selector.matches(&labels))
    };
    let matching = exist.into_iter().filter(|(_, meta)| matches(meta));
    names.extend(matching.map(|(name, _)| name.clone()));
    names
}

/// The namespaces that a Vpc says are its own; it may leave them open.
fn listed(vpc: Option<&Vpc>) -> Option<HashSet<&String>> {
    let vpc = vpc.filter(|vpc| vpc.metadata.name.as_deref() != Some(DEFAULT_VPC))?;
    let namespaces = &vpc.spec.namespaces;
    (!namespaces.is_empty()).then(|| namespaces.iter().collect())
}

/// The namespaces in `spec` that its Vpc does not list among its own.
#[must_use]
pub fn unlisted(spec: &SubnetSpec, vpc: Option<&Vpc>) -> Vec<Flaw> {
    let (Some(vpc), Some(listed)) = (vpc, listed(vpc)) else { return Vec::new() };
    let others = spec.namespaces.iter().enumerate().filter(|(_, name)| !listed.contains(name));
    let name = vpc.metadata.name.as_deref().unwrap_or_default();
    let flaw = |(at, namespace): (usize, &String)| {
        let advice =
            format!("it is not in spec.namespaces of Vpc {name:?}: add it there, or leave it out");
        Flaw::new(format!("namespaces[{at}]"), namespace, advice)
    };
    others.map(flaw).collect()
}

/// The selectors of `spec` that can be in force, and what is wrong with the others.
#[must_use]
pub fn selectors(spec: &SubnetSpec) -> (Vec<Selector>, Vec<Flaw>) {
    let mut selectors = Vec::new();
    let mut flaws = Vec::new();
    for (at, written) in spec.namespace_selectors.iter().enumerate() {
        match flaw(at, written) {
            Some(flaw) => flaws.push(flaw),
            None => selectors.extend(Selector::try_from(written.clone())),
        }
    }
    (selectors, flaws)
}

/// What is wrong with a selector, if anything.
fn flaw(at: usize, selector: &LabelSelector) -> Option<Flaw> {
    let flaw = |field: String, value: &str, advice: &str| {
        Some(Flaw::new(format!("namespaceSelectors[{at}].{field}"), value, advice))
    };
    let key = "write a label's key, such as team or example.com/team";
    let value = "write a label's value: letters, digits, '-', '_' and '.', 63 at most";
    for (label, wanted) in selector.match_labels.iter().flatten() {
        if !is_key(label) {
            return flaw("matchLabels".to_owned(), label, key);
        }
        if !is_value(wanted) {
            return flaw(format!("matchLabels[{label:?}]"), wanted, value);
        }
    }
    for (nth, one) in selector.match_expressions.iter().flatten().enumerate() {
        let field = |name: &str| format!("matchExpressions[{nth}].{name}");
        let values = one.values.as_deref().unwrap_or_default();
        if !is_key(&one.key) {
            return flaw(field("key"), &one.key, key);
        }
        match one.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let advice = format!("{} needs values: write one at least", one.operator);
                return flaw(field("values"), "", &advice);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let advice = format!("{} takes no values: leave them out", one.operator);
                return flaw(field("values"), &values.join(","), &advice);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                return flaw(field("operator"), other, "write In, NotIn, Exists or DoesNotExist");
            }
        }
        if let Some(bad) = values.iter().find(|one| !is_value(one)) {
            return flaw(field("values"), bad, value);
        }
    }
    None
}

/// Whether Kubernetes takes this as a label's key: `name` or `prefix/name`.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(a, b)| (Some(a), b));
    let is_prefix = |prefix: &str| {
        let word = |char: u8| char.is_ascii_lowercase() || char.is_ascii_digit() || char == b'-';
        (1..=LONGEST_PREFIX).contains(&prefix.len())
            && prefix.split('.').all(|part| !part.is_empty() && part.bytes().all(word))
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_prefix)
}

/// Whether Kubernetes takes this as a label's value, which may be empty.
fn is_value(value: &str) -> bool {
    let within = |char: u8| char.is_ascii_alphanumeric() || matches!(char, b'-' | b'_' | b'.');
    let at_end = |char: Option<&u8>| char.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    value.len() <= LONGEST
        && value.bytes().all(within)
        && at_end(bytes.first())
        && at_end(bytes.last())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(selectors: &Value) -> SubnetSpec {
        serde_json::from_value(json!({
            "namespaces": ["listed"], "namespaceSelectors": selectors,
        }))
        .unwrap()
    }

    /// The namespaces that these selectors choose of `red`, `blue`, `bare`.
    fn chosen(selectors: &Value) -> Vec<String> {
        let meta = |labels: Value| -> ObjectMeta {
            serde_json::from_value(json!({ "labels": labels })).unwrap()
        };
        let exist = [
            ("red".to_owned(), meta(json!({"team": "red", "tier": "web"}))),
            ("blue".to_owned(), meta(json!({"team": "blue"}))),
            ("bare".to_owned(), ObjectMeta::default()),
        ];
        let names = of(&spec(selectors), None, exist.iter().map(|(name, meta)| (name, meta)));
        names.into_iter().collect()
    }

    fn flaw_of(selector: Value) -> String {
        let sound = json!({"matchLabels": {"team": "blue"}});
        let (selectors, flaws) = selectors(&spec(&json!([sound, selector])));
        assert_eq!((selectors.len(), flaws.len()), (1, 1), "{flaws:?}");
        flaws[0].to_string()
    }

    #[test]
    fn a_namespace_is_chosen_by_list_or_by_any_one_selector() {
        assert_eq!(chosen(&json!([])), ["listed"]);
        assert_eq!(chosen(&json!([{"matchLabels": {"team": "red"}}])), ["listed", "red"]);
        let two = json!([{"matchLabels": {"team": "red"}}, {"matchLabels": {"team": "blue"}}]);
        assert_eq!(chosen(&two), ["blue", "listed", "red"]);
        assert_eq!(chosen(&json!([{}])), ["bare", "blue", "listed", "red"]);
    }

    #[test]
    fn a_namespace_that_the_vpc_does_not_list_does_not_count_and_is_named() {
        let vpc = |name: &str, namespaces: &[&str]| {
            let namespaces = namespaces.iter().map(|one| (*one).to_owned()).collect();
            Vpc::new(name, crds::kubeovn::VpcSpec { namespaces, ..Default::default() })
        };
        let said = |vpc: &Vpc| {
            let spec = spec(&json!([]));
            let flaws: Vec<_> =
                unlisted(&spec, Some(vpc)).iter().map(ToString::to_string).collect();
            (of(&spec, Some(vpc), []).len(), flaws.concat())
        };
        let (count, flaws) = said(&vpc("v", &["other"]));
        assert_eq!(count, 0);
        assert_eq!(
            flaws,
            r#"spec.namespaces[0] is "listed": it is not in spec.namespaces of Vpc "v": add it there, or leave it out"#
        );
        let sound = (1, String::new());
        assert_eq!(said(&vpc("v", &["other", "listed"])), sound);
        assert_eq!(said(&vpc("v", &[])), sound);
        assert_eq!(said(&vpc(DEFAULT_VPC, &["other"])), sound);
    }

    #[test]
    fn all_that_a_selector_says_must_hold() {
        let by = |expressions: Value| chosen(&json!([{"matchExpressions": expressions}]));
        let one = |operator: &str, values: Value| {
            by(json!([{"key": "team", "operator": operator, "values": values}]))
        };
        assert_eq!(one("In", json!(["red", "green"])), ["listed", "red"]);
        assert_eq!(one("NotIn", json!(["red"])), ["bare", "blue", "listed"]);
        assert_eq!(one("Exists", json!([])), ["blue", "listed", "red"]);
        assert_eq!(one("DoesNotExist", json!([])), ["bare", "listed"]);
        let both = json!([{"matchLabels": {"tier": "web"},
            "matchExpressions": [{"key": "team", "operator": "In", "values": ["blue"]}]}]);
        assert_eq!(chosen(&both), ["listed"]);
    }

    #[test]
    fn a_bad_selector_matches_nothing_and_is_named_with_what_to_write() {
        let expression = |key: &str, operator: &str, values: Value| {
            let one = json!({"key": key, "operator": operator, "values": values});
            flaw_of(json!({"matchExpressions": [one]}))
        };
        let message = expression("team", "Is", json!(["red"]));
        assert_eq!(
            message,
            r#"spec.namespaceSelectors[1].matchExpressions[0].operator is "Is": write In, NotIn, Exists or DoesNotExist"#
        );
        assert!(expression("team", "In", json!([])).contains("In needs values"));
        assert!(expression("team", "Exists", json!(["x"])).contains("takes no values"));
        assert!(expression("", "Exists", json!([])).contains("write a label's key"));
        assert!(expression("team", "In", json!(["a b"])).contains("write a label's value"));
        assert!(flaw_of(json!({"matchLabels": {"-x": "a"}})).contains("label's key"));
        assert!(flaw_of(json!({"matchLabels": {"x": "a/b"}})).contains(r#"matchLabels["x"]"#));
        let (sound, _) = selectors(&spec(&json!([{"matchLabels": {"example.com/team": ""}}])));
        assert_eq!(sound.len(), 1);
    }
}
