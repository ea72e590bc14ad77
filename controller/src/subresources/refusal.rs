//! What is refused, in the codes and words of KubeVirt, by which scripts go.

use serde_json::{Value, json};

/// What a refusal is about: kind (in the singular, as upstream) and name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Machine,
    Instance,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Machine => "virtualmachine",
            Self::Instance => "virtualmachineinstance",
        }
    }
}

/// A refused request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) code: u16,
    reason: &'static str,
    pub(super) message: String,
    about: Option<(Kind, String)>,
}

impl Refusal {
    fn of(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), about: None }
    }

    fn about(code: u16, reason: &'static str, kind: Kind, name: &str, said: &str) -> Self {
        let about = Some((kind, name.to_owned()));
        Self { about, ..Self::of(code, reason, said) }
    }

    /// What is there does not allow it.
    pub(super) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let word = kind.word();
        let said = format!("Operation cannot be fulfilled on {word}.kubevirt.io \"{name}\": {why}");
        Self::about(409, "Conflict", kind, name, &said)
    }

    pub(super) fn not_found(kind: Kind, name: &str) -> Self {
        let said = format!("{}.kubevirt.io \"{name}\" not found", kind.word());
        Self::about(404, "NotFound", kind, name, &said)
    }

    pub(super) fn forbidden(kind: Kind, name: &str, why: &str) -> Self {
        let said = format!("{}.kubevirt.io \"{name}\" is forbidden: {why}", kind.word());
        Self::about(403, "Forbidden", kind, name, &said)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::of(400, "BadRequest", message)
    }

    pub(super) fn internal(why: impl std::fmt::Display) -> Self {
        Self::of(500, "InternalError", format!("Internal error occurred: {why}"))
    }

    pub(super) fn no_such_path() -> Self {
        Self::of(404, "NotFound", "the server could not find the requested resource")
    }

    pub(super) fn wrong_method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::of(405, "MethodNotAllowed", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::of(413, "RequestEntityTooLarge", message)
    }

    /// The `Status` object.
    pub(super) fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some((kind, name)) = &self.about {
            status["details"] =
                json!({"name": name, "group": crds::kubevirt::GROUP, "kind": kind.word()});
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_status_in_upstreams_words() {
        let refusal = Refusal::conflict(Kind::Machine, "till", "VM is already running");
        let body = refusal.body();
        assert_eq!((&body["code"], &body["reason"]), (&json!(409), &json!("Conflict")));
        assert_eq!(
            body["message"],
            "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"till\": VM is already running"
        );
        assert_eq!(body["details"]["kind"], "virtualmachine");
        assert_eq!(
            Refusal::not_found(Kind::Instance, "till").message,
            "virtualmachineinstance.kubevirt.io \"till\" not found"
        );
    }
}
