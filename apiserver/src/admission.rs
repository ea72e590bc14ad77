//! What whoever runs the server may refuse, knowing kinds that the server does not.

use std::fmt;

use serde_json::Value;

/// Looks at objects before they are stored.
///
/// It is asked on the thread that makes every change, so an answer takes microseconds
/// and waits for nothing. A panic in it fails that one request.
pub trait Admission: fmt::Debug + Send + Sync {
    /// Whether objects of this kind are to be shown to [`Admission::review`]; the
    /// others cost nothing.
    fn looks_at(&self, group: &str, plural: &str) -> bool;

    /// Whether `new` may be stored, over `old` if there is one. Also asked of writes
    /// to a status or to metadata alone, and of dry runs.
    ///
    /// # Errors
    /// What the author is told.
    fn review(&self, plural: &str, old: Option<&Value>, new: &Value) -> Result<(), String>;
}

/// Refuses nothing.
#[derive(Clone, Copy, Debug)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn looks_at(&self, _: &str, _: &str) -> bool {
        false
    }

    fn review(&self, _: &str, _: Option<&Value>, _: &Value) -> Result<(), String> {
        Ok(())
    }
}
