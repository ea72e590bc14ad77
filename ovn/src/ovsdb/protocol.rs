//! One connection's conversation, without its socket: messages in, bytes out.
//!
//! ```text
//! Greeting  ── set_db_change_aware, monitor _Server, get_schema ──▶
//!           ◀─ is it the leader? what does it have? ─────────────
//! Loading   ── monitor_cond_since, from the last version seen ───▶
//!           ◀─ the difference, or everything ────────────────────
//! Following ◀─ update3 ─── transact ──▶ ◀─ its update, its answer
//! ```
//!
//! The server sends the update that a transaction causes before its answer, so
//! a transaction whose answer is passed on is in the replica.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::replica::{Replica, UpdateError};
use super::rpc::{self, Message, RpcError};
use super::schema::{Missing, Schema, SchemaError};
use super::server::{Server, ServerError};
use super::transaction::{Params, TransactError, rejected};
use super::{Command, Config, View};

/// The monitor of the database itself; the server's own is `_Server`.
const MONITOR: &str = "replica";
const SERVER: &str = "_Server";

/// Where a replica stands in the server's history; what a new connection resumes from.
#[derive(Debug, Default)]
pub(crate) struct Position {
    schema: Schema,
    /// The last transaction seen; `None` before the first load.
    last: Option<String>,
    /// The highest index of the cluster's log seen, and of which cluster.
    pub(crate) cluster: Option<(String, i64)>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The peer closed.
    #[error("the server closed the connection")]
    Closed,
    /// Silence for two probe intervals.
    #[error("the server does not answer")]
    Silent,
    /// Not a conversation.
    #[error("the server speaks something else")]
    Rpc(#[from] RpcError),
    /// The replica no longer follows.
    #[error("an update could not be applied")]
    Update(#[from] UpdateError),
    /// No schema.
    #[error("the schema is not one to work with")]
    Schema(#[from] SchemaError),
    /// Not a server to follow.
    #[error("the server is not one to follow")]
    Server(#[from] ServerError),
    /// Fewer parts than the message must have.
    #[error("the server left out a part of {0}")]
    Short(&'static str),
    /// A request of ours was refused.
    #[error("the server refused {0}: {1}")]
    Refused(&'static str, Json),
    /// The server took the database away, or converted it.
    #[error("the database was replaced")]
    Replaced,
    /// The outcome of a transaction is not known while the connection is up: what the
    /// replica says must not be planned upon before it has been loaded again.
    #[error("the server gave a transaction up and does not say whether it happened")]
    Unknown,
}

/// So many bytes may wait to be sent; beyond, whoever transacts waits.
const SEND_AHEAD: usize = 1024 * 1024;

#[derive(Debug)]
enum Awaited {
    ChangeAware,
    Server,
    Schema,
    Load,
    Echo,
    Transaction { command: Command, deadline: Instant },
}

/// The state of one conversation.
#[derive(Debug)]
pub(crate) struct Protocol<'a> {
    config: &'a Config,
    view: &'a View,
    position: &'a mut Position,
    server: Server,
    /// Requests without an answer yet, oldest first.
    awaited: BTreeMap<u64, Awaited>,
    next_id: u64,
    following: Option<Instant>,
    out: Vec<u8>,
}

impl<'a> Protocol<'a> {
    /// Begins a conversation.
    pub(crate) fn begin(config: &'a Config, view: &'a View, position: &'a mut Position) -> Self {
        let server = Server::new(&config.database, config.leader_only);
        let mut this = Self {
            config,
            view,
            position,
            server,
            awaited: BTreeMap::new(),
            next_id: 0,
            following: None,
            out: Vec::new(),
        };
        this.request("set_db_change_aware", &[true], Awaited::ChangeAware);
        let own = json!([SERVER, SERVER, this.server.monitor(), NO_TRANSACTION]);
        this.request("monitor_cond_since", &own, Awaited::Server);
        this.request("get_schema", &[&config.database], Awaited::Schema);
        this
    }

    /// Bytes to be sent; whoever sends some removes them.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether more may be asked of the server before it has read what it was asked.
    pub(crate) const fn has_room(&self) -> bool {
        self.out.len() < SEND_AHEAD
    }

    /// Whether the replica follows the server.
    pub(crate) const fn following(&self) -> bool {
        self.following.is_some()
    }

    /// For how long the replica has followed the server.
    pub(crate) fn followed(&self) -> Option<Duration> {
        self.following.map(|since| since.elapsed())
    }

    /// When the oldest transaction has waited too long for its answer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.awaited.values().find_map(|awaited| match awaited {
            Awaited::Transaction { deadline, .. } => Some(*deadline),
            _ => None,
        })
    }

    /// Asks the server for a sign of life.
    pub(crate) fn probe(&mut self) {
        self.request("echo", &json!([]), Awaited::Echo);
    }

    /// Sends a transaction.
    pub(crate) fn transact(&mut self, command: Command, patience: Duration) {
        let id = self.next_id;
        self.next_id += 1;
        let params = Params { database: &self.config.database, transaction: &command.transaction };
        rpc::write_request(&mut self.out, "transact", &params, id);
        let deadline = Instant::now() + patience;
        self.awaited.insert(id, Awaited::Transaction { command, deadline });
    }

    fn request(
        &mut self,
        method: &'static str,
        params: &(impl Serialize + ?Sized),
        awaited: Awaited,
    ) {
        let id = self.next_id;
        self.next_id += 1;
        rpc::write_request(&mut self.out, method, &params, id);
        self.awaited.insert(id, awaited);
    }

    /// Takes one message from the server.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        match Message::parse(bytes)? {
            Message::Reply { id, outcome } => match self.awaited.remove(&id) {
                Some(awaited) => self.answered(awaited, outcome),
                None => Err(RpcError::NotAMessage(format!("reply to unknown id {id}")).into()),
            },
            Message::Request { method, params, id } => self.requested(&method, params, &id),
        }
    }

    fn requested(&mut self, method: &str, mut params: Json, id: &Json) -> Result<(), SessionError> {
        match method {
            "echo" => rpc::write_reply(&mut self.out, &params, id),
            "update3" if params[0] == SERVER => {
                self.server_changed(take(&mut params, 2, "an update")?)?;
            }
            "update3" if params[0] == MONITOR => {
                self.update(take(&mut params, 2, "an update")?)?;
                self.position.last = params[1].as_str().map(str::to_owned);
            }
            "monitor_canceled" => {
                *self.position = Position::default();
                return Err(SessionError::Replaced);
            }
            _ => tracing::debug!(method, "Ignoring a request we do not know"),
        }
        Ok(())
    }

    fn answered(
        &mut self,
        awaited: Awaited,
        outcome: Result<Json, Json>,
    ) -> Result<(), SessionError> {
        let or_refused = |request, outcome: Result<Json, Json>| {
            outcome.map_err(|error| SessionError::Refused(request, error))
        };
        match awaited {
            Awaited::Echo | Awaited::ChangeAware => Ok(()),
            Awaited::Server => {
                let mut loaded = or_refused("to tell about itself", outcome)?;
                self.server_changed(take(&mut loaded, 2, "what it says of itself")?)
            }
            Awaited::Schema => self.greeted(&or_refused("its schema", outcome)?),
            Awaited::Load => self.loaded(or_refused("to be monitored", outcome)?),
            Awaited::Transaction { command, .. } => {
                let results = match outcome {
                    Ok(answer) => command.transaction.results(answer),
                    Err(error) if error == "canceled" => Err(TransactError::Disconnected),
                    Err(error) => Err(rejected("transact", &error.to_string())),
                };
                let unknown = results == Err(TransactError::Disconnected);
                if unknown {
                    // Before the answer: who then waits for `synced` must not go on
                    // with what the replica says now.
                    self.view.synced.send_replace(false);
                }
                // The caller may have stopped waiting; the transaction stands.
                let _ = command.answer.send(results);
                if unknown { Err(SessionError::Unknown) } else { Ok(()) }
            }
        }
    }

    fn server_changed(&mut self, updates: Json) -> Result<(), SessionError> {
        self.server.update(updates)?;
        // A server that will not do changes nothing about what we have seen.
        self.position.cluster = self.server.check(self.position.cluster.as_ref())?;
        Ok(())
    }

    fn greeted(&mut self, schema: &Json) -> Result<(), SessionError> {
        let (schema, missing) = Schema::select(schema, &self.config.tables)?;
        report_missing(&self.config.database, &missing);
        if schema != self.position.schema {
            self.position.schema = schema;
            self.position.last = None;
        }
        let tables = self.position.schema.tables.iter().map(|(table, selected)| {
            let columns: Vec<_> = selected.columns.keys().collect();
            (
                table.to_string(),
                json!([{"columns": columns.iter().map(|column| &***column).collect::<Vec<_>>()}]),
            )
        });
        let tables: serde_json::Map<_, _> = tables.collect();
        let since = self.position.last.as_deref().unwrap_or(NO_TRANSACTION);
        let params = json!([self.config.database, MONITOR, tables, since]);
        self.request("monitor_cond_since", &params, Awaited::Load);
        Ok(())
    }

    fn loaded(&mut self, mut answer: Json) -> Result<(), SessionError> {
        let resumed = answer[0] == true && self.position.last.is_some();
        let updates = take(&mut answer, 2, "the rows")?;
        if resumed {
            self.update(updates)?;
        } else {
            self.position.last = None;
            let mut loaded = Replica::new(&self.position.schema);
            loaded.apply(updates)?;
            // Readers see the old state or the new one, never an empty one between.
            self.view.change(|replica| *replica = loaded);
        }
        self.position.last = answer[1].as_str().map(str::to_owned);
        self.following = Some(Instant::now());
        self.view.trouble.send_replace(None);
        self.view.synced.send_replace(true);
        tracing::info!(database = %self.config.database, resumed, "Following the database");
        Ok(())
    }

    fn update(&mut self, updates: Json) -> Result<(), SessionError> {
        let applied = self.view.change(|replica| replica.apply(updates));
        if applied.is_err() {
            // What was applied half is not a state to resume from.
            self.position.last = None;
        }
        applied?;
        Ok(())
    }
}

impl Drop for Protocol<'_> {
    /// Nobody waits for an answer that cannot come.
    fn drop(&mut self) {
        self.view.synced.send_replace(false);
        for awaited in std::mem::take(&mut self.awaited).into_values() {
            if let Awaited::Transaction { command, .. } = awaited {
                let _ = command.answer.send(Err(TransactError::Disconnected));
            }
        }
    }
}

/// Takes an element out of what should be an array with at least so many.
fn take(array: &mut Json, at: usize, of: &'static str) -> Result<Json, SessionError> {
    array.get_mut(at).map(Json::take).ok_or(SessionError::Short(of))
}

/// The version to ask from that no server has: everything is sent.
const NO_TRANSACTION: &str = "00000000-0000-0000-0000-000000000000";

fn report_missing(database: &str, missing: &Missing) {
    if !missing.is_empty() {
        tracing::info!(database, missing = %missing.join(" "), "Leaving out columns that the server's schema lacks");
    }
}

#[cfg(test)]
mod tests;
