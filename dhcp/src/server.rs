//! The server for every port of this host: one task, and handles on it.
//!
//! ```text
//! set_port, remove_port ──> wanted ports ──wake──> task: sockets, responder, periodic RAs
//! ports() <───────────────── reports <──────────────┘
//! ```
//!
//! Handles change what is wanted and wake the task, which makes it so; setting
//! the same twice is setting it once. The task ends with the last handle.

mod advertiser;
mod port;
mod segment;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, mpsc};

use crate::binding::Binding;
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::poller::Poller;

/// A handle on the server; clones serve the same ports.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
    wake: mpsc::Sender<()>,
}

/// What is known about one port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PortReport {
    /// The name the port was set by.
    pub name: String,
    /// The interface it is served on.
    pub ifname: String,
    /// Whether the interface is there and its socket open.
    pub open: bool,
    /// When the guest's first DHCPACK left, since this server knows the port.
    pub first_ack_v4: Option<SystemTime>,
    /// When the first DHCPv6 Reply with the address left.
    pub first_ack_v6: Option<SystemTime>,
    /// How often the guest declined its address, in either family: a sign that someone else uses it.
    pub declines: u64,
    /// When it last did so, as long as it seems to hold: until the guest is given the
    /// address again and says nothing against it for a while.
    pub conflict: Option<SystemTime>,
    /// Router advertisements sent, solicited or not.
    pub ra_sent: u64,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A metric of the same name is registered already.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The kernel refused what waiting for frames takes.
    #[error("the server cannot wait for frames")]
    Io(#[from] io::Error),
}

/// Memory that handles and task share; locked briefly, never across an await.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever a port has been opened.
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeMap<String, Wanted>,
    /// The names whose entry in `wanted` came, changed or went since the task last looked.
    changed: BTreeSet<String>,
    /// One for each of `wanted`.
    reports: BTreeMap<String, PortReport>,
    /// How often a conflict came or went.
    conflicts: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Wanted {
    ifname: String,
    /// One for handles and task.
    binding: Arc<Binding>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Starts the server on the current tokio runtime and registers its metrics.
    ///
    /// Interfaces are those of the network namespace of the runtime's threads.
    ///
    /// # Errors
    /// A metric of the same name is registered already, or the kernel gave no epoll instance.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(metrics: &prometheus::Registry) -> Result<Self, StartError> {
        Self::start_limited(metrics, Limit::default())
    }

    /// Like [`start`](Self::start), with another limit on what each port may send.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_limited(metrics: &prometheus::Registry, limit: Limit) -> Result<Self, StartError> {
        let metrics = Metrics::register(metrics)?;
        let poller = Poller::new()?;
        let shared = Arc::new(Shared::default());
        // One waiting wake-up stands for all: the task then looks at everything that changed.
        let (wake, wakes) = mpsc::channel(1);
        let task = task::Task::new(Arc::clone(&shared), metrics, limit, poller);
        tokio::spawn(task.run(wakes));
        Ok(Self { shared, wake })
    }

    /// Serves `binding` on the interface `ifname` from now on, replacing what the port had.
    /// Several ports may be on one interface, each with a MAC address of its own.
    ///
    /// Returns at once. An interface that does not exist yet, or goes and comes
    /// back, is served as soon as it is there. The same again changes nothing; other
    /// advertisements than before are sent at once, the report goes on.
    pub fn set_port(&self, name: &str, ifname: &str, binding: Binding) {
        let wanted = Wanted { ifname: ifname.to_owned(), binding: Arc::new(binding) };
        let mut state = self.shared.lock();
        if state.wanted.get(name) == Some(&wanted) {
            return;
        }
        state.wanted.insert(name.to_owned(), wanted);
        let report = state.reports.entry(name.to_owned()).or_default();
        (report.name, report.ifname) = (name.to_owned(), ifname.to_owned());
        self.announce(state, name);
    }

    /// Stops serving the port and forgets its report. Unknown names are fine.
    ///
    /// The guest is told nothing: it may be on its way to another node.
    pub fn remove_port(&self, name: &str) {
        let mut state = self.shared.lock();
        state.wanted.remove(name);
        state.reports.remove(name);
        self.announce(state, name);
    }

    /// What is known about each port, by name.
    #[must_use]
    pub fn ports(&self) -> Vec<PortReport> {
        self.shared.lock().reports.values().cloned().collect()
    }

    /// What is known about one port, if there is one of this name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<PortReport> {
        self.shared.lock().reports.get(name).cloned()
    }

    /// How often a [`conflict`](PortReport::conflict) of any port came or went: as long as
    /// that is the same, none has.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.shared.lock().conflicts
    }

    /// Returns as soon as whatever the port's guest sends is heard: its interface is there,
    /// with a socket on it. Waits for ever for a port that nobody sets.
    pub async fn opened(&self, name: &str) {
        loop {
            let mut opened = pin!(self.shared.opened.notified());
            // From now on none is missed.
            opened.as_mut().enable();
            if self.port(name).is_some_and(|report| report.open) {
                return;
            }
            opened.await;
        }
    }

    /// Returns when the server's task has ended, which it does only by a panic
    /// as long as there is a handle: to be watched by whoever depends on it.
    pub async fn ended(&self) {
        self.wake.closed().await;
    }

    fn announce(&self, mut state: MutexGuard<'_, State>, name: &str) {
        state.changed.insert(name.to_owned());
        drop(state);
        // Full: the task is about to look. Closed: it has panicked, see `ended`.
        let _ = self.wake.try_send(());
    }
}
