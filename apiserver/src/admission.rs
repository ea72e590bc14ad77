//! What whoever runs the server may refuse, knowing kinds that the server does not.

use std::fmt;

use serde_json::Value;

use crate::Cause;

/// Why an object is not stored: answered with 422, as upstream answers for a webhook that says
/// which fields are wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// All of it in one line, for people.
    pub message: String,
    /// Field by field: what kubectl shows.
    pub causes: Vec<Cause>,
}

/// A write, as it would be stored.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// What is there, if anything is.
    pub old: Option<&'a Value>,
    /// What is to be.
    pub new: &'a Value,
    /// Whose fields these become: the writer's `fieldManager`, or what its user agent is called.
    pub manager: &'a str,
}

/// Looks at objects before they are stored.
///
/// It is asked, and told, on the thread that makes every change, so an answer takes
/// microseconds and waits for nothing. A panic in it fails that one request, or leaves
/// that one object out of what it knows.
pub trait Admission: fmt::Debug + Send + Sync {
    /// Whether objects of this kind are to be shown to [`Admission::review`]; the
    /// others cost nothing.
    fn looks_at(&self, group: &str, plural: &str) -> bool;

    /// Puts into an object that is about to be stored what it is to have and its author left out.
    /// Asked before [`Admission::review`], and as often.
    fn complete(&self, _plural: &str, _object: &mut Value) {}

    /// Whether this may be stored; then what the author is warned of. Also asked of writes to a
    /// status or to metadata alone, and of dry runs.
    ///
    /// # Errors
    /// What the author is told.
    fn review(&self, plural: &str, proposal: Proposal<'_>) -> Result<Vec<String>, Refused>;

    /// Whether `object` may be deleted by whoever asks for it; then what that one is warned
    /// of. Asked once, when the deletion begins.
    ///
    /// # Errors
    /// What whoever asks is told.
    fn leaves(&self, _plural: &str, _object: &Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// Whether it is to be told of objects of this kind, all that there are and all that
    /// change.
    fn follows(&self, _group: &str, _plural: &str) -> bool {
        false
    }

    /// An object is stored as `json` says.
    fn stored(&self, _plural: &str, _json: &[u8]) {}

    /// An object is gone, which was last as `json` says.
    fn removed(&self, _plural: &str, _json: &[u8]) {}
}

/// Refuses nothing.
#[derive(Clone, Copy, Debug)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn looks_at(&self, _: &str, _: &str) -> bool {
        false
    }

    fn review(&self, _: &str, _: Proposal<'_>) -> Result<Vec<String>, Refused> {
        Ok(Vec::new())
    }
}
