//! An OVSDB client (RFC 7047 and ovsdb-server(7)): a session that keeps a
//! replica of the tables asked for, and transactions on them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};

mod protocol;
mod remote;
mod replica;
mod row;
mod rpc;
mod schema;
mod server;
mod session;
mod transaction;
mod value;

pub use remote::{ParseRemoteError, Remote};
pub use replica::Replica;
pub use row::Row;
pub use transaction::{Columns, Condition, Mutation, OpResult, TransactError, Transaction};
pub use value::{Atom, Map, Named, Real, Set, Value, ValueError};

/// Which server, and what of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Servers of one database, tried in turn.
    pub remotes: Vec<Remote>,
    /// `OVN_Northbound`, `Open_vSwitch` …
    pub database: String,
    /// Tables with the columns to mirror. A server whose schema lacks one of them is
    /// not followed. A name that ends in `?` may be missing: it is left out, with one
    /// log line, and [`Replica::has_column`] says so.
    pub tables: Vec<(String, Vec<String>)>,
    /// Follow only the leader of a cluster. A standalone server is its own leader.
    pub leader_only: bool,
}

/// How patient a session is.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// After this long without a word from the server we ask for one; after as
    /// long again the connection counts as dead.
    pub probe: Duration,
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a transaction may wait for its answer before the connection counts as dead.
    pub transact: Duration,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest wait between attempts.
    pub backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            transact: Duration::from_secs(30),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(3),
        }
    }
}

/// A handle on the session; clones share it, and it ends with the last of them.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    replica: Arc<RwLock<Replica>>,
    generation: watch::Receiver<u64>,
    synced: watch::Receiver<bool>,
    trouble: watch::Receiver<Option<String>>,
}

/// What a client asks of the session.
#[derive(Debug)]
struct Command {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Vec<OpResult>, TransactError>>,
}

/// How many transactions may wait to be sent before `transact` waits itself.
const COMMANDS: usize = 64;

impl Client {
    /// Starts a session on the current runtime; it connects by itself, for ever.
    #[must_use]
    pub fn spawn(config: Config) -> Self {
        Self::spawn_with(config, Timing::default())
    }

    /// As [`spawn`](Self::spawn), with other patience.
    #[must_use]
    pub fn spawn_with(config: Config, timing: Timing) -> Self {
        let replica = Arc::new(RwLock::new(Replica::default()));
        let (commands, commands_rx) = mpsc::channel(COMMANDS);
        let (generation_tx, generation) = watch::channel(0);
        let (synced_tx, synced) = watch::channel(false);
        let (trouble_tx, trouble) = watch::channel(None);
        let view = View {
            replica: Arc::clone(&replica),
            generation: generation_tx,
            synced: synced_tx,
            trouble: trouble_tx,
        };
        tokio::spawn(session::run(config, timing, commands_rx, view));
        Self { commands, replica, generation, synced, trouble }
    }

    /// Waits until the replica follows the server; at once if it does.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        synced.wait_for(|synced| *synced).await.expect("the session outlives its clients");
    }

    /// Whether the replica follows the server now. While it does not, it holds
    /// what was last known.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Why the last attempt to follow a server ended, for people to read; `None`
    /// while one is followed, and before the first attempt has ended.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// A number that grows with every change to the replica.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.clone()
    }

    /// Looks at the replica. The session waits meanwhile: do not block in there.
    pub fn read<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.replica.read())
    }

    /// Waits until `look` finds something in the replica.
    pub async fn wait_for<T>(&self, mut look: impl FnMut(&Replica) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.read(&mut look) {
                return found;
            }
            changes.changed().await.expect("the session outlives its clients");
        }
    }

    /// Does it all or nothing; the results are those of the operations, in order.
    ///
    /// When this returns `Ok`, the replica contains the effect. An empty transaction
    /// is not sent, and one with a text that no server takes is refused here, as the session
    /// would end over it. Where the session is not up this fails at once; see
    /// [`TransactError`] for what a caller does about each failure. Dropping the
    /// future does not take the transaction back.
    pub async fn transact(&self, transaction: Transaction) -> Result<Vec<OpResult>, TransactError> {
        if transaction.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(text) = transaction.unspeakable() {
            let details = format!("{:?} holds a NUL, which no string may", net::shown(text));
            return Err(transaction::rejected("syntax error", &details));
        }
        let (answer, answered) = oneshot::channel();
        let command = Command { transaction, answer };
        self.commands.send(command).await.map_err(|_| TransactError::Disconnected)?;
        answered.await.unwrap_or(Err(TransactError::Disconnected))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = *self.generation.borrow();
        out.debug_struct("Client")
            .field("synced", &self.is_synced())
            .field("generation", &generation)
            .finish_non_exhaustive()
    }
}

/// The session's side of what clients see.
#[derive(Debug)]
struct View {
    replica: Arc<RwLock<Replica>>,
    generation: watch::Sender<u64>,
    synced: watch::Sender<bool>,
    trouble: watch::Sender<Option<String>>,
}

impl View {
    /// Changes the replica and says so.
    fn change<T>(&self, change: impl FnOnce(&mut Replica) -> T) -> T {
        let changed = change(&mut self.replica.write());
        self.generation.send_modify(|generation| *generation += 1);
        changed
    }
}
