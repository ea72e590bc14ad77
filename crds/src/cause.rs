//! What is wrong with one field, as an API server tells it (`metav1.StatusCause`).

use serde::Serialize;

/// As many causes does an answer tell in full (KubeVirt's `ToAdmissionResponse`).
pub const TOLD: usize = 10;

/// The longest message, in characters: one that quotes a mistake is no longer for the length of
/// the mistake.
const LONGEST: usize = 1024;

/// One field, and what is wrong with it.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct Cause {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// The path of the field; empty where it is none in particular.
    pub field: String,
}

/// In which way a field is wrong (`metav1.CauseType`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
pub enum Reason {
    /// What it says cannot be.
    #[serde(rename = "FieldValueInvalid")]
    Invalid,
    /// It is absent and must not be.
    #[serde(rename = "FieldValueRequired")]
    Required,
    /// Another says the same and must not.
    #[serde(rename = "FieldValueDuplicate")]
    Duplicate,
    /// What it says is none of those possible.
    #[serde(rename = "FieldValueNotSupported")]
    NotSupported,
}

impl Reason {
    /// As it is called on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
        }
    }
}

impl Cause {
    fn new(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(end);
            message.push('…');
        }
        Self { reason, message, field: field.into() }
    }

    /// What the field says cannot be.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, field, message)
    }

    /// The field is absent.
    pub fn required(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::Required, field, message)
    }

    /// Another field says the same.
    pub fn duplicate(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::Duplicate, field, message)
    }

    /// In one line, with the field, which not every message names.
    #[must_use]
    pub fn told(&self) -> String {
        let Self { field, message, .. } = self;
        if message.contains(field.as_str()) {
            message.clone()
        } else {
            format!("{field}: {message}")
        }
    }

    /// The field says none of what it may.
    pub fn not_supported(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::NotSupported, field, message)
    }
}

/// All of them in one line, as upstream: the first ten, and how many more there are.
#[must_use]
pub fn message(causes: &[Cause]) -> String {
    let told: Vec<&str> = causes.iter().take(TOLD).map(|cause| cause.message.as_str()).collect();
    match causes.len().saturating_sub(TOLD) {
        0 => told.join(", "),
        more => format!("{}, and {more} more validation errors", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_ten_causes_and_counts_the_others() {
        let causes: Vec<_> =
            (0..12).map(|at| Cause::invalid("spec", format!("bad {at}"))).collect();
        assert_eq!(message(&causes[..2]), "bad 0, bad 1");
        let all = message(&causes);
        assert!(all.starts_with("bad 0, ") && all.contains("bad 9, and 2 more validation errors"));
    }

    #[test]
    fn a_long_mistake_is_quoted_in_part() {
        let cause = Cause::invalid("spec.hostname", "ä".repeat(1_000_000));
        assert_eq!(cause.message.chars().count(), LONGEST + 1);
    }

    #[test]
    fn one_line_names_the_field_once() {
        let told = |message: &str| Cause::invalid("spec.a", message).told();
        assert_eq!(told("spec.a is wrong"), "spec.a is wrong");
        assert_eq!(told("it is wrong"), "spec.a: it is wrong");
    }

    #[test]
    fn a_reason_is_written_as_it_is_called() {
        for reason in [Reason::Invalid, Reason::Required, Reason::Duplicate, Reason::NotSupported] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
