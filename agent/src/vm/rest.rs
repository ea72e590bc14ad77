//! Whether a driver is at rest: its guest runs, a list of domains has said so since the
//! driver last did something, and only another list that says otherwise is news. With a
//! thousand guests that do nothing a second would else wake a thousand drivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the driver, read by the fleet.
#[derive(Clone, Debug, Default)]
pub struct Rest(Arc<AtomicBool>);

impl Rest {
    /// Whether lists that say the same as the one before are nothing to it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Ends before the driver asks for a list, so that it is told that one.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::Release);
    }
}
