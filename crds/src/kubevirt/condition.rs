//! Conditions as KubeVirt writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rest;

/// One condition of a machine or an instance.
///
/// Unlike `metav1.Condition` every field but the first two may be absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about: `Ready`, `Synchronized`, `LiveMigratable` …
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One sentence, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Condition {
    /// A condition of this type without time of change.
    #[must_use]
    pub fn new(r#type: &str, status: ConditionStatus) -> Self {
        Self {
            r#type: r#type.to_owned(),
            status,
            reason: None,
            message: None,
            last_transition_time: None,
            rest: Rest::new(),
        }
    }

    /// The same with a reason and a message.
    #[must_use]
    pub fn because(mut self, reason: &str, message: impl Into<String>) -> Self {
        self.reason = Some(reason.to_owned());
        self.message = Some(message.into());
        self
    }

    /// Whether the condition of this type is there and holds.
    #[must_use]
    pub fn holds(conditions: &[Self], r#type: &str) -> bool {
        conditions.iter().any(|one| one.r#type == r#type && one.status == ConditionStatus::True)
    }

    /// Puts this condition in the place of the one of its type. The time of
    /// change is `now` if the status is another one, else the old time.
    pub fn merge_into(mut self, conditions: &mut Vec<Self>, now: Time) {
        match conditions.iter_mut().find(|one| one.r#type == self.r#type) {
            Some(old) => {
                self.last_transition_time = if old.status == self.status {
                    old.last_transition_time.clone()
                } else {
                    Some(now)
                };
                *old = self;
            }
            None => {
                self.last_transition_time = Some(now);
                conditions.push(self);
            }
        }
    }
}
