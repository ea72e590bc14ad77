//! Why a claim is not filled.

use std::fmt::Display;

/// Why, in words for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It would end so again: something has to be changed.
    #[error("{0}")]
    Final(String),
    /// It is tried again.
    #[error("{0}")]
    Passing(String),
    /// Nothing is wrong: it is looked at again.
    #[error("{0}")]
    Waits(String),
    /// The claim is not ours to fill any more.
    #[error("the claim is filled no longer")]
    Over,
}

impl Fault {
    /// For `map_err` on what may pass.
    pub(super) fn passing<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Passing(format!("{what}: {error}"))
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Passing(error.to_string())
    }
}
