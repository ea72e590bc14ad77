//! What a node asks a registry of container images: the manifest of an image, and blobs.
//!
//! ```text
//!   "image: …" ──► Reference ──┐
//!   pull secrets ─► Keyring ───┴► Session ──► manifest (verified) ──► Descriptor of each layer
//!                                    │                                       │
//!                                    └── 401 ─► token, Basic                 └─► blob, from any byte on
//! ```
//!
//! Whoever may make a VM names the host that is asked here, so each answer is taken for
//! hostile: nothing is read without a limit, nobody is waited for without one, a redirect
//! leads from TLS to nothing but TLS, and a login goes to no other host than its own.
//! What comes is written to disk by others (`volumes::images`); nothing here touches one.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

mod digest;
mod http;
mod keyring;
mod login;
mod manifest;
mod reference;
mod session;
#[cfg(test)]
pub(crate) mod tests;

pub use self::digest::Digest;
pub use self::http::Http;
pub use self::keyring::{Keyring, Login};
pub use self::manifest::{Descriptor, Document, MAX_JSON, architecture, chosen};
pub use self::reference::{NotAReference, Reference};
pub use self::session::{Blob, Session};

/// Why a registry did not give what it was asked for, for people. None is final: what is
/// missing may be pushed, a login be mended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RegistryError {
    /// Another login may be let in.
    #[error("{0}")]
    Denied(String),
    /// It is not there, for whoever asked.
    #[error("{0}")]
    NotFound(String),
    /// The registry, or the way to it, is not as it should be.
    #[error("{0}")]
    Failed(String),
}

impl RegistryError {
    fn failed(why: impl std::fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}
