//! The northbound database as `ovn-nbctl` shows it: a view that owes nothing to
//! our own OVSDB client.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;

/// One logical switch port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Port {
    /// MAC and addresses, as OVN writes them.
    pub addresses: BTreeSet<String>,
    /// What the port may send as.
    pub port_security: BTreeSet<String>,
    /// Options, among them the node.
    pub options: BTreeMap<String, String>,
    /// Whether a node has bound it.
    pub up: bool,
    /// Empty for a VM's port.
    pub kind: String,
}

/// The database behind a socket.
#[derive(Clone, Debug)]
pub struct Northbound {
    remote: String,
}

/// The southbound database behind a socket, as `ovn-sbctl` shows it.
#[derive(Clone, Debug)]
pub struct Southbound {
    remote: String,
}

impl Southbound {
    /// Of a remote such as `unix:/…/sb.sock`.
    #[must_use]
    pub fn at(remote: String) -> Self {
        Self { remote }
    }

    /// These columns of every row of a table, as `ovn-sbctl` prints them in JSON.
    ///
    /// # Errors
    /// When the database does not answer within ten seconds.
    pub async fn rows(
        &self,
        table: &str,
        columns: &str,
    ) -> anyhow::Result<Vec<BTreeMap<String, Value>>> {
        rows_of("ovn-sbctl", &self.remote, table, columns).await
    }
}

impl Northbound {
    /// Of a remote such as `unix:/…/nb.sock`.
    #[must_use]
    pub fn at(remote: String) -> Self {
        Self { remote }
    }

    /// The ports of VMs (those without a type), by name.
    ///
    /// # Errors
    /// When the database does not answer within ten seconds.
    pub async fn vm_ports(&self) -> anyhow::Result<BTreeMap<String, Port>> {
        let columns = "name,type,addresses,port_security,options,up";
        let rows = self.rows("Logical_Switch_Port", columns).await?;
        let port = |row: BTreeMap<String, Value>| {
            let port = Port {
                addresses: set(&row["addresses"]).into_iter().collect(),
                port_security: set(&row["port_security"]).into_iter().collect(),
                options: map(&row["options"]),
                up: row["up"] == true,
                kind: text(&row["type"]),
            };
            (text(&row["name"]), port)
        };
        Ok(rows.into_iter().map(port).filter(|(_, port)| port.kind.is_empty()).collect())
    }

    /// How many ports of VMs there are; cheaper than `vm_ports`.
    ///
    /// # Errors
    /// When the database does not answer within ten seconds.
    pub async fn count_vm_ports(&self) -> anyhow::Result<usize> {
        let rows = self.rows("Logical_Switch_Port", "type").await?;
        Ok(rows.iter().filter(|row| text(&row["type"]).is_empty()).count())
    }

    /// The names in a table.
    ///
    /// # Errors
    /// When the database does not answer within ten seconds.
    pub async fn names(&self, table: &str) -> anyhow::Result<BTreeSet<String>> {
        let rows = self.rows(table, "name").await?;
        Ok(rows.iter().map(|row| text(&row["name"])).collect())
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// When the database does not answer within ten seconds.
    pub async fn count(&self, table: &str) -> anyhow::Result<usize> {
        Ok(self.rows(table, "_uuid").await?.len())
    }

    /// Writes with `ovn-nbctl`, as others do; `commands` are separated by `--`.
    ///
    /// # Errors
    /// When the database refuses them or does not answer within ten seconds.
    pub async fn write(&self, commands: &[&str]) -> anyhow::Result<()> {
        let output = Command::new("ovn-nbctl")
            .args(["--timeout=10", "--no-leader-only", &format!("--db={}", self.remote)])
            .args(commands)
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "ovn-nbctl {commands:?}: {}", said.trim());
        Ok(())
    }

    /// These columns of every row of a table, as `ovn-nbctl` prints them in JSON.
    ///
    /// # Errors
    /// When the database does not answer within ten seconds.
    pub async fn rows(
        &self,
        table: &str,
        columns: &str,
    ) -> anyhow::Result<Vec<BTreeMap<String, Value>>> {
        rows_of("ovn-nbctl", &self.remote, table, columns).await
    }
}

async fn rows_of(
    program: &str,
    remote: &str,
    table: &str,
    columns: &str,
) -> anyhow::Result<Vec<BTreeMap<String, Value>>> {
    let output = Command::new(program)
        .args(["--timeout=10", "--no-leader-only", "--format=json", "--data=json"])
        .arg(format!("--db={remote}"))
        .arg(format!("--columns={columns}"))
        .args(["list", table])
        .kill_on_drop(true)
        .output()
        .await?;
    anyhow::ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let headings = answer["headings"].as_array().context("a table has headings")?;
    let headings: Vec<String> = headings.iter().map(text).collect();
    let rows = answer["data"].as_array().context("a table has data")?;
    Ok(rows
        .iter()
        .map(|row| {
            let cells = row.as_array().into_iter().flatten().cloned();
            headings.iter().cloned().zip(cells).collect()
        })
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An OVSDB set: `["set", [a, b]]`, or the single element itself.
fn set(value: &Value) -> Vec<String> {
    match value.as_array().map(Vec::as_slice) {
        Some([tag, Value::Array(items)]) if tag == "set" => items.iter().map(text).collect(),
        _ => vec![text(value)],
    }
}

/// An OVSDB map: `["map", [[key, value], …]]`.
fn map(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.get(1).and_then(Value::as_array).into_iter().flatten();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}
