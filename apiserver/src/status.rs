//! Refusals, as the `Status` objects clients decide by.
//!
//! Clients never read our prose: kubectl and kube-rs branch on `code` and `reason` (a 409 is
//! either `AlreadyExists`, which ends a create, or `Conflict`, which is retried with fresh data),
//! and kubectl prints `details.causes` one per line for an invalid object. So the constructors
//! here are the complete list of refusals this server can give, each with the code, the reason and
//! the wording of upstream's `apimachinery/pkg/api/errors`.

use serde_json::{Value, json};

use crate::admission::Refused;

/// A refused request: what goes over the wire instead of the object.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
}

/// One field that is wrong, with the reason names of upstream's `field.Error`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// For programs: `FieldValueInvalid` …
    pub reason: &'static str,
    /// The path of the field.
    pub field: String,
    /// For people.
    pub message: String,
}

impl Cause {
    pub(crate) fn required(field: impl Into<String>) -> Self {
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message: "Required value".to_owned(),
        }
    }

    /// The value is of the right type but not acceptable; `value` is shown as JSON.
    pub(crate) fn invalid(
        field: impl Into<String>,
        value: &Value,
        why: impl std::fmt::Display,
    ) -> Self {
        let message = format!("Invalid value: {}: {why}", shown(value));
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// The value has the wrong JSON type.
    pub(crate) fn type_invalid(field: impl Into<String>, found: &str, want: &str) -> Self {
        let field = field.into();
        let message = format!(
            "Invalid value: \"{found}\": {field} in body must be of type {want}: \"{found}\""
        );
        Self { reason: "FieldValueTypeInvalid", field, message }
    }

    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, among: &[Value]) -> Self {
        let among: Vec<String> = among.iter().map(ToString::to_string).collect();
        let message =
            format!("Unsupported value: {}: supported values: {}", shown(value), among.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    pub(crate) fn forbidden(field: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }

    /// The field may not hold more than `limit` of something.
    pub(crate) fn too_long(field: impl Into<String>, limit: u64) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Self { reason: "FieldValueTooLong", field: field.into(), message }
    }

    pub(crate) fn too_many(field: impl Into<String>, found: u64, limit: u64) -> Self {
        let message = format!("Too many: {found}: must have at most {limit} items");
        Self { reason: "FieldValueTooMany", field: field.into(), message }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

/// JSON, cut to a length a terminal can take.
fn shown(value: &Value) -> String {
    const LIMIT: usize = 256;
    let mut text = value.to_string();
    if text.len() > LIMIT {
        let end = (0..=LIMIT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What an error is about: `vms.kubevirt.io "web"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) name: &'a str,
}

impl Subject<'_> {
    fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    fn details(&self) -> Value {
        let mut details = json!({"name": self.name});
        if !self.group.is_empty() {
            details["group"] = self.group.into();
        }
        details["kind"] = self.plural.into();
        details
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    pub(crate) fn not_found(about: Subject<'_>) -> Self {
        let message = format!("{} \"{}\" not found", about.resource(), about.name);
        Self { details: Some(about.details()), ..Self::new(404, "NotFound", message) }
    }

    /// The path names no resource that is served.
    pub(crate) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: Some(json!({})), ..Self::new(404, "NotFound", message) }
    }

    pub(crate) fn already_exists(about: Subject<'_>) -> Self {
        let message = format!("{} \"{}\" already exists", about.resource(), about.name);
        Self { details: Some(about.details()), ..Self::new(409, "AlreadyExists", message) }
    }

    /// The caller's precondition does not hold any more; fresh data and another try will do.
    pub(crate) fn conflict(about: Subject<'_>, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": {why}",
            about.resource(),
            about.name
        );
        Self { details: Some(about.details()), ..Self::new(409, "Conflict", message) }
    }

    /// Server-side apply met fields of other managers; one cause per field.
    pub(crate) fn apply_conflict(message: String, causes: &[Value]) -> Self {
        Self { details: Some(json!({"causes": causes})), ..Self::new(409, "Conflict", message) }
    }

    pub(crate) fn stale(about: Subject<'_>) -> Self {
        Self::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        )
    }

    /// The object breaks its kind's rules. `kind` is the kind, not the plural.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Self::unfit((group, kind, name), &list, causes)
    }

    /// The object is refused by whoever runs the server.
    pub(crate) fn refused(of: (&str, &str, &str), refused: &Refused) -> Self {
        Self::unfit(of, &refused.message, &refused.causes)
    }

    /// `of`: group, kind and name.
    fn unfit((group, kind, name): (&str, &str, &str), why: &str, causes: &[Cause]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut details = json!({"kind": kind});
        for (field, value) in [("name", name), ("group", group)] {
            if !value.is_empty() {
                details[field] = value.into();
            }
        }
        details["causes"] = causes.iter().map(Cause::json).collect();
        let message = format!("{qualified} \"{name}\" is invalid: {why}");
        Self { details: Some(details), ..Self::new(422, "Invalid", message) }
    }

    /// A patch that cannot be applied to this object (a failed `test`, a path that is not there).
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(about: Subject<'_>, why: &str) -> Self {
        let message = format!("{} \"{}\" is forbidden: {why}", about.resource(), about.name);
        Self { details: Some(about.details()), ..Self::new(403, "Forbidden", message) }
    }

    /// Like `forbidden`, with the machine-readable cause of a namespace that is going away.
    pub(crate) fn namespace_terminating(about: Subject<'_>, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut error = Self::forbidden(about, &why);
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        error
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: Some(json!({})), ..Self::new(405, "MethodNotAllowed", message) }
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        )
    }

    pub(crate) fn unsupported_media_type(allowed: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 {allowed}"
            ),
        )
    }

    /// The version asked for is older than the watch history. In a watch this travels in-stream.
    pub(crate) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// The version asked for is still to come. There is nothing to wait for: all versions are ours.
    pub(crate) fn too_large_version(asked: u64, latest: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {latest}");
        let details = json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            }],
            "retryAfterSeconds": 1,
        });
        Self { details: Some(details), ..Self::new(504, "Timeout", message) }
    }

    pub(crate) fn continue_expired() -> Self {
        Self::new(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result. You \
             must start a new list without the continue parameter.",
        )
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// Our own fault, or the disk's. The message is for the log as well.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// Whoever serves the group cannot be reached.
    pub(crate) fn no_backend(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The server is stopping; the caller may try the next one.
    pub(crate) fn unavailable() -> Self {
        Self {
            details: Some(json!({"retryAfterSeconds": 1})),
            ..Self::new(503, "ServiceUnavailable", "the server is stopping")
        }
    }

    /// The `Status` object.
    pub(crate) fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = self.code.into();
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_object_lists_every_field_and_names_kind_and_group() {
        let causes = [
            Cause::required("spec.cidrBlock"),
            Cause::invalid("spec.mtu", &json!(10), "must be at least 68"),
        ];
        let error = ApiError::invalid("kubeovn.io", "Subnet", "blue", &causes);
        assert_eq!(
            error.message,
            "Subnet.kubeovn.io \"blue\" is invalid: [spec.cidrBlock: Required value, spec.mtu: \
             Invalid value: 10: must be at least 68]"
        );
        let body = error.body();
        assert_eq!(body["code"], 422);
        assert_eq!(body["details"]["causes"][0]["field"], "spec.cidrBlock");
    }

    #[test]
    fn the_two_meanings_of_409_differ_in_their_reason() {
        let about = Subject { group: "", plural: "configmaps", name: "a" };
        assert_eq!(ApiError::already_exists(about).body()["reason"], "AlreadyExists");
        assert_eq!(ApiError::stale(about).body()["reason"], "Conflict");
    }
}
