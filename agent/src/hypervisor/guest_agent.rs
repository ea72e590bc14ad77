//! Words with the agent in a guest, over the channel that each domain has for it.
//!
//! Its socket is libvirt's, which speaks the protocol: it begins with `guest-sync-delimited`,
//! waits no longer than it is told to, and takes no answer that is longer than its own
//! messages are (4 MiB). Whatever comes back was written by the guest.

use std::time::Duration;

use super::{Hypervisor, HypervisorError};

/// How urgent it is. Each kind has threads of its own: guests that do not answer hold up
/// no others but of that kind, and each of them has one call of a kind at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    /// All guests are asked in turn.
    Round,
    /// Whether they are well.
    Probe,
    /// Somebody waits for it.
    Now,
    /// File systems are to go on, which nobody's questions may hold up.
    Thaw,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GuestError {
    /// Nobody listens in the guest, or does not answer in time.
    #[error("the guest agent does not answer")]
    Silent,
    /// The guest stands still, or does not run.
    #[error("the guest does not run at the moment")]
    Still,
    /// It answered with an error; the text is the guest's.
    #[error("the guest agent refused: {0}")]
    Refused(String),
    /// It answered what nobody has asked for.
    #[error("the guest agent's answer cannot be used: {0}")]
    Unfit(String),
    /// It was not asked.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}

impl Hypervisor {
    /// Asks the agent in a guest for `words`, a line of JSON, and gives its answer.
    /// `patience`, in whole seconds, counts from when it has proved to listen, for which it
    /// has five.
    ///
    /// # Errors
    /// See [`GuestError`]. Whether it was done is not known where it was `Silent`.
    pub async fn ask_guest(
        &self,
        domain: &str,
        words: &str,
        patience: Duration,
        lane: Lane,
    ) -> Result<String, GuestError> {
        self.ask_guest_timed(domain, words, patience, lane).await.0
    }

    /// The same, and how long the guest took: without the time that others took before it.
    pub async fn ask_guest_timed(
        &self,
        domain: &str,
        words: &str,
        patience: Duration,
        lane: Lane,
    ) -> (Result<String, GuestError>, Duration) {
        match self {
            Self::Libvirt(libvirt) => libvirt.ask_guest(domain, words, patience, lane).await,
            Self::Fake(fake) => (fake.ask_guest(domain, words).await, Duration::ZERO),
        }
    }
}
