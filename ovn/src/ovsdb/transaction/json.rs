//! Transactions and their results as JSON (RFC 7047, sections 4.1.3 and 5.2).

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Columns, Condition, Function, Mutation, Mutator, OpResult, Operation, Transaction};

/// Why a transaction is not known to have happened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TransactError {
    /// The session was not up, or ended before the answer, or the cluster changed its
    /// leader under the transaction: the outcome is unknown.
    /// Wait for [`synced`](crate::ovsdb::Client::synced), then plan anew from what is there.
    #[error("the connection to the database ended before the answer")]
    Disconnected,
    /// A guard did not hold, or another client inserted the same name: nothing
    /// happened. Plan anew from fresh data.
    #[error("another client changed the rows in between")]
    Conflict,
    /// The server refuses these operations: trying again will not help.
    #[error("the database refused the transaction: {error}: {details}")]
    Rejected {
        /// The `<error>` tag of RFC 7047, such as `constraint violation`.
        error: String,
        /// What the server says about it.
        details: String,
    },
}

/// The parameters of `transact`.
#[derive(Debug)]
pub(in crate::ovsdb) struct Params<'a> {
    pub(in crate::ovsdb) database: &'a str,
    pub(in crate::ovsdb) transaction: &'a Transaction,
}

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Transaction { guards, operations, names: _, durable, comment } = self.transaction;
        let mut params = serializer.serialize_seq(None)?;
        params.serialize_element(self.database)?;
        guards.iter().chain(operations).try_for_each(|op| params.serialize_element(op))?;
        if let Some(comment) = comment {
            params.serialize_element(&serde_json::json!({"op": "comment", "comment": comment}))?;
        }
        if *durable {
            params.serialize_element(&serde_json::json!({"op": "commit", "durable": true}))?;
        }
        params.end()
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut op = serializer.serialize_map(None)?;
        match self {
            Self::Insert { table, name, row } => {
                op.serialize_entry("op", "insert")?;
                op.serialize_entry("table", table)?;
                op.serialize_entry("uuid-name", &name.id())?;
                op.serialize_entry("row", &Fields(row))?;
            }
            Self::Update { table, rows, row } => {
                op.serialize_entry("op", "update")?;
                op.serialize_entry("table", table)?;
                op.serialize_entry("where", rows)?;
                op.serialize_entry("row", &Fields(row))?;
            }
            Self::Mutate { table, rows, mutations } => {
                op.serialize_entry("op", "mutate")?;
                op.serialize_entry("table", table)?;
                op.serialize_entry("where", rows)?;
                op.serialize_entry("mutations", mutations)?;
            }
            Self::Delete { table, rows } => {
                op.serialize_entry("op", "delete")?;
                op.serialize_entry("table", table)?;
                op.serialize_entry("where", rows)?;
            }
            Self::Select { table, rows, columns } => {
                op.serialize_entry("op", "select")?;
                op.serialize_entry("table", table)?;
                op.serialize_entry("where", rows)?;
                op.serialize_entry("columns", columns)?;
            }
            Self::Wait { table, rows, columns, expected } => {
                let expected: Vec<_> = expected.iter().map(Fields).collect();
                op.serialize_entry("op", "wait")?;
                op.serialize_entry("table", table)?;
                op.serialize_entry("timeout", &0)?;
                op.serialize_entry("where", rows)?;
                op.serialize_entry("columns", columns)?;
                op.serialize_entry("until", "==")?;
                op.serialize_entry("rows", &expected)?;
            }
        }
        op.end()
    }
}

/// A row as an object.
struct Fields<'a>(&'a Columns);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(column, value)| (column, value)))
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let function = match self.1 {
            Function::Equal => "==",
            Function::Includes => "includes",
            Function::Excludes => "excludes",
        };
        (self.0, function, &self.2).serialize(serializer)
    }
}

impl Serialize for Mutation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mutator = match self.1 {
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
            Mutator::Add => "+=",
        };
        (self.0, mutator, &self.2).serialize(serializer)
    }
}

impl Transaction {
    /// The operations as they are sent, guards first.
    #[cfg(test)]
    pub(crate) fn to_json(&self) -> Vec<Json> {
        match serde_json::to_value(Params { database: "", transaction: self }) {
            Ok(Json::Array(params)) => params.into_iter().skip(1).collect(),
            other => panic!("parameters are an array, not {other:?}"),
        }
    }

    /// Reads the answer to `transact`: one result per operation, and at the end
    /// one more where the commit itself failed.
    pub(in crate::ovsdb) fn results(&self, answer: Json) -> Result<Vec<OpResult>, TransactError> {
        let Json::Array(results) = answer else {
            return Err(rejected("bad answer", &answer.to_string()));
        };
        if let Some(failed) = results.iter().find(|result| result.get("error").is_some()) {
            return Err(failure(failed));
        }
        let wanted = self.operations.len();
        let results: Vec<_> =
            results.into_iter().skip(self.guards.len()).take(wanted).map(result).collect();
        if results.len() == wanted {
            Ok(results)
        } else {
            Err(rejected("bad answer", "fewer results than operations"))
        }
    }
}

fn result(mut json: Json) -> OpResult {
    if let Some(uuid) = json["uuid"][1].as_str().and_then(|text| Uuid::parse_str(text).ok()) {
        return OpResult::Inserted(uuid);
    }
    if let Some(count) = json["count"].as_u64() {
        return OpResult::Count(count);
    }
    match json.get_mut("rows").map(Json::take) {
        Some(Json::Array(rows)) => OpResult::Rows(rows),
        _ => OpResult::Held,
    }
}

/// What a failed result asks of the caller.
///
/// A wait with timeout 0 that does not hold is reported as "timed out". Two rows
/// of one name are found at the commit, and are what a guard on the name would
/// have found: the replica was behind.
fn failure(result: &Json) -> TransactError {
    let error = result["error"].as_str().unwrap_or_default();
    let details = result["details"].as_str().unwrap_or_default();
    match error {
        "timed out" => TransactError::Conflict,
        "cluster error" => TransactError::Disconnected,
        "constraint violation" if details.contains("to have identical values") => {
            TransactError::Conflict
        }
        _ => rejected(error, details),
    }
}

pub(in crate::ovsdb) fn rejected(error: &str, details: &str) -> TransactError {
    TransactError::Rejected { error: error.to_owned(), details: details.to_owned() }
}
