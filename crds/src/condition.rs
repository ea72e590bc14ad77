//! Conditions as Kube-OVN writes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One condition in the status of a `kubeovn.io` object
/// (`pkg/apis/kubeovn/v1/condition.go`).
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Ready`, `Validated`, `Error`, or our own `FieldsWithoutEffect` and
    /// `DeletionBlocked`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word, in camel case, for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence, for people: what to change.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the status last changed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// When the condition was last written, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
    /// The generation of the spec that the condition speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The object is in force.
pub const READY: &str = "Ready";
/// The spec could be understood and is consistent with other objects.
pub const VALIDATED: &str = "Validated";
/// Something keeps the object from being in force.
pub const ERROR: &str = "Error";
/// The object is being deleted and still used; the message says by whom and what
/// to do.
pub const DELETION_BLOCKED: &str = "DeletionBlocked";
/// Fields are set that Berth does not act on yet; the message lists them.
pub const FIELDS_WITHOUT_EFFECT: &str = "FieldsWithoutEffect";
/// What guests are to be told is in part not possible; the message says what and what to
/// write instead. The rest is served.
pub const INVALID_DHCP_OPTIONS: &str = "InvalidDHCPOptions";
/// A guest found its address in use by somebody else and declined it; the message says which.
pub const ADDRESS_IN_USE: &str = "AddressInUse";

/// Nothing keeps a guest to what it requests or is limited to; the message says of what, and
/// what the node lacks.
pub const RESOURCES_NOT_ENFORCED: &str = "ResourcesNotEnforced";

/// Whether one of the conditions says that this holds.
#[must_use]
pub fn holds(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|one| one.r#type == kind && one.status == "True")
}

/// `conditions` with `wanted` merged in by type.
///
/// A condition that says the same as before keeps its times, so that writing an
/// unchanged status is no change at all; types not in `wanted` are dropped.
#[must_use]
pub fn merged(conditions: &[Condition], wanted: Vec<Condition>, now: &str) -> Vec<Condition> {
    let merge = |mut want: Condition| {
        let old = conditions.iter().find(|old| old.r#type == want.r#type);
        let same_status = old.is_some_and(|old| old.status == want.status);
        let unchanged = same_status
            && old.is_some_and(|old| {
                old.reason == want.reason
                    && old.message == want.message
                    && old.observed_generation == want.observed_generation
            });
        let time_of = |kept: bool, time: fn(&Condition) -> Option<String>| {
            old.filter(|_| kept).and_then(time).unwrap_or_else(|| now.to_owned())
        };
        want.last_transition_time =
            Some(time_of(same_status, |old| old.last_transition_time.clone()));
        want.last_update_time = Some(time_of(unchanged, |old| old.last_update_time.clone()));
        want
    };
    wanted.into_iter().map(merge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &str, message: &str) -> Condition {
        Condition {
            r#type: READY.to_owned(),
            status: status.to_owned(),
            message: message.to_owned(),
            ..Condition::default()
        }
    }

    #[test]
    fn an_unchanged_condition_keeps_its_times() {
        let first = merged(&[], vec![ready("True", "")], "t1");
        assert_eq!(merged(&first, vec![ready("True", "")], "t2"), first);
    }

    #[test]
    fn a_new_message_moves_the_update_time_and_a_new_status_both() {
        let first = merged(&[], vec![ready("False", "a")], "t1");
        let second = merged(&first, vec![ready("False", "b")], "t2");
        assert_eq!(second[0].last_transition_time.as_deref(), Some("t1"));
        assert_eq!(second[0].last_update_time.as_deref(), Some("t2"));
        let third = merged(&second, vec![ready("True", "")], "t3");
        assert_eq!(third[0].last_transition_time.as_deref(), Some("t3"));
    }
}
