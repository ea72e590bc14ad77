//! What whoever runs the server may refuse, knowing kinds that the server does not.

use std::fmt;

use serde_json::Value;

/// Looks at objects before they are stored.
///
/// It is asked, and told, on the thread that makes every change, so an answer takes
/// microseconds and waits for nothing. A panic in it fails that one request, or leaves
/// that one object out of what it knows.
pub trait Admission: fmt::Debug + Send + Sync {
    /// Whether objects of this kind are to be shown to [`Admission::review`]; the
    /// others cost nothing.
    fn looks_at(&self, group: &str, plural: &str) -> bool;

    /// Whether `new` may be stored, over `old` if there is one; then what the author is
    /// warned of. Also asked of writes to a status or to metadata alone, and of dry runs.
    ///
    /// # Errors
    /// What the author is told.
    fn review(&self, plural: &str, old: Option<&Value>, new: &Value)
    -> Result<Vec<String>, String>;

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

    fn review(&self, _: &str, _: Option<&Value>, _: &Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
