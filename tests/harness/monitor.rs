//! Every state that a database goes through, transaction by transaction (RFC 7047,
//! section 4.1.5): what lasts a moment is seen as well as what stays.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde_json::{Deserializer, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Rows by table and identity: what each column says.
pub type Rows = BTreeMap<String, BTreeMap<String, Value>>;

/// A look at each state of some tables, until it is ended.
#[derive(Debug)]
pub struct Monitor {
    end: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<usize>>,
}

impl Monitor {
    /// Looks at these tables and columns of `database`, behind `unix:/…`, with `check`; the
    /// present state is the first.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn of(
        remote: &str,
        database: &str,
        tables: &[(&str, &[&str])],
        check: impl FnMut(&Rows) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let path = remote.strip_prefix("unix:").context("a socket of this machine")?;
        let mut stream = UnixStream::connect(path).await?;
        let columns = tables.iter().map(|(table, columns)| (*table, json!({"columns": columns})));
        let columns: BTreeMap<_, _> = columns.collect();
        ask(&mut stream, "monitor", &json!([database, null, columns]), "monitor").await?;
        let (end, ended) = oneshot::channel();
        Ok(Self { end, task: tokio::spawn(follow(stream, check, ended)) })
    }

    /// All states up to now were looked at: how many.
    ///
    /// # Errors
    /// What `check` said of one of them.
    pub async fn ended(self) -> anyhow::Result<usize> {
        // It has ended already if something was wrong.
        let _ = self.end.send(());
        self.task.await?
    }
}

async fn ask(
    stream: &mut UnixStream,
    method: &str,
    params: &Value,
    id: &str,
) -> anyhow::Result<()> {
    let request = json!({"method": method, "params": params, "id": id});
    Ok(stream.write_all(request.to_string().as_bytes()).await?)
}

async fn follow(
    mut stream: UnixStream,
    mut check: impl FnMut(&Rows) -> anyhow::Result<()>,
    mut ended: oneshot::Receiver<()>,
) -> anyhow::Result<usize> {
    let (mut rows, mut text, mut states) = (Rows::new(), Vec::new(), 0);
    let mut ending = false;
    loop {
        tokio::select! {
            read = stream.read_buf(&mut text) => ensure!(read? > 0, "the database went away"),
            // What was told before this is answered, was told before.
            _ = &mut ended, if !ending => {
                ending = true;
                ask(&mut stream, "echo", &json!([]), "end").await?;
            }
        }
        let mut messages = Deserializer::from_slice(&text).into_iter::<Value>();
        let mut whole = Vec::new();
        let read = loop {
            match messages.next() {
                Some(Ok(message)) => whole.push(message),
                Some(Err(error)) if !error.is_eof() => bail!("no JSON: {error}"),
                _ => break messages.byte_offset(),
            }
        };
        text.drain(..read);
        for message in whole {
            match (message["method"].as_str(), message["id"].as_str()) {
                (Some("echo"), _) => {
                    let answer =
                        json!({"id": message["id"], "result": message["params"], "error": null});
                    stream.write_all(answer.to_string().as_bytes()).await?;
                }
                (Some("update"), _) => {
                    take_in(&mut rows, &message["params"][1]);
                    states += 1;
                    check(&rows).with_context(|| format!("state {states}, after {message}"))?;
                }
                (None, Some("monitor")) => {
                    ensure!(message["error"].is_null(), "{message}");
                    take_in(&mut rows, &message["result"]);
                    states += 1;
                    check(&rows).context("the state at the beginning")?;
                }
                (None, Some("end")) => return Ok(states),
                _ => bail!("an unexpected message: {message}"),
            }
        }
    }
}

fn take_in(rows: &mut Rows, updates: &Value) {
    for (table, changes) in updates.as_object().into_iter().flatten() {
        let table = rows.entry(table.clone()).or_default();
        for (uuid, change) in changes.as_object().into_iter().flatten() {
            match change.get("new") {
                Some(row) => drop(table.insert(uuid.clone(), row.clone())),
                None => drop(table.remove(uuid)),
            }
        }
    }
}

/// The identities in a column that refers to rows.
#[must_use]
pub fn uuids(value: &Value) -> Vec<&str> {
    let one = |value: &'_ Value| value[0] == "uuid";
    let all = match value[1].as_array() {
        Some(items) if value[0] == "set" => items.iter().collect(),
        _ if one(value) => vec![value],
        _ => vec![],
    };
    all.into_iter().filter_map(|item| item[1].as_str()).collect()
}
