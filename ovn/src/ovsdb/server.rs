//! What a server says of itself in its database `_Server`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::value::{Value, ValueError};

/// The row of `_Server.Database` for our database.
#[derive(Debug)]
pub(crate) struct Server {
    database: String,
    leader_only: bool,
    row: Option<BTreeMap<String, Value>>,
}

/// Why a server is not followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// It does not have the database, or no longer.
    #[error("it does not serve {0}")]
    NoDatabase(String),
    /// A member that has lost its cluster.
    #[error("it is cut off from its cluster")]
    CutOff,
    /// A follower, where only the leader will do.
    #[error("it is not the cluster's leader")]
    NotLeader,
    /// A member that has not yet heard of what we have seen.
    #[error("it is at entry {has} of the cluster's log and we have seen {seen}")]
    Behind {
        /// Where the server is.
        has: i64,
        /// Where we are.
        seen: i64,
    },
    /// The row is not as ovsdb-server(5) has it.
    #[error("it says of itself what cannot be read")]
    Value(#[from] ValueError),
}

impl Server {
    pub(crate) fn new(database: &str, leader_only: bool) -> Self {
        Self { database: database.to_owned(), leader_only, row: None }
    }

    /// The monitor request for the row.
    pub(crate) fn monitor(&self) -> Json {
        json!({"Database": [{
            "columns": ["name", "model", "connected", "leader", "cid", "index"],
            "where": [["name", "==", self.database]],
        }]})
    }

    /// Takes an update. No column here has more than one element, so each is told whole.
    pub(crate) fn update(&mut self, mut updates: Json) -> Result<(), ServerError> {
        let rows = updates.get_mut("Database").and_then(Json::as_object_mut);
        let Some(rows) = rows else { return Ok(()) };
        for update in rows.values_mut().filter_map(Json::as_object_mut) {
            for (kind, columns) in std::mem::take(update) {
                if kind == "delete" {
                    self.row = None;
                    continue;
                }
                let row = self.row.get_or_insert_default();
                let Json::Object(columns) = columns else { continue };
                for (column, value) in columns {
                    row.insert(column, Value::from_json(value)?);
                }
            }
        }
        Ok(())
    }

    /// Whether it is one to follow, given the cluster and the log index we have
    /// seen; the new ones if so.
    pub(crate) fn check(
        &self,
        seen: Option<&(String, i64)>,
    ) -> Result<Option<(String, i64)>, ServerError> {
        let row =
            self.row.as_ref().ok_or_else(|| ServerError::NoDatabase(self.database.clone()))?;
        let is = |column: &str| row.get(column) == Some(&Value::from(true));
        if row.get("model") != Some(&Value::from("clustered")) {
            return Ok(None);
        }
        if !is("connected") {
            return Err(ServerError::CutOff);
        }
        if self.leader_only && !is("leader") {
            return Err(ServerError::NotLeader);
        }
        let cluster = row.get("cid").and_then(Value::single).and_then(super::Atom::as_uuid);
        let index = match row.get("index").and_then(Value::single) {
            Some(super::Atom::Integer(index)) => *index,
            _ => 0,
        };
        let cluster = cluster.map(|cid| cid.to_string()).unwrap_or_default();
        match seen {
            Some((same, seen)) if *same == cluster && index < *seen => {
                Err(ServerError::Behind { has: index, seen: *seen })
            }
            _ => Ok(Some((cluster, index))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(leader_only: bool, row: Json) -> Server {
        let mut server = Server::new("D", leader_only);
        server.update(json!({"Database": {"u": {"initial": row}}})).unwrap();
        server
    }

    #[test]
    fn a_standalone_server_is_followed_and_has_no_cluster() {
        let standalone = server(true, json!({"name": "D", "model": "standalone"}));
        assert!(matches!(standalone.check(None), Ok(None)));
    }

    #[test]
    fn a_follower_will_do_unless_only_the_leader_does() {
        let row = json!({"model": "clustered", "connected": true, "index": 7});
        assert!(matches!(server(false, row.clone()).check(None), Ok(Some((_, 7)))));
        assert!(matches!(server(true, row).check(None), Err(ServerError::NotLeader)));
    }

    #[test]
    fn a_leader_that_stops_leading_is_left() {
        let mut leader =
            server(true, json!({"model": "clustered", "connected": true, "leader": true}));
        leader.check(None).unwrap();
        leader.update(json!({"Database": {"u": {"modify": {"leader": false}}}})).unwrap();
        assert!(matches!(leader.check(None), Err(ServerError::NotLeader)));
    }

    #[test]
    fn a_member_that_is_behind_what_we_saw_is_refused() {
        let row = json!({"model": "clustered", "connected": true, "index": 7});
        let (cid, index) = server(false, row.clone()).check(None).unwrap().unwrap();
        assert!(matches!(
            server(false, row.clone()).check(Some(&(cid, index + 1))),
            Err(ServerError::Behind { has: 7, seen: 8 })
        ));
        server(false, row).check(Some(&("another".into(), 99))).unwrap();
    }

    #[test]
    fn a_server_without_the_database_or_without_its_cluster_is_refused() {
        assert!(matches!(Server::new("D", false).check(None), Err(ServerError::NoDatabase(_))));
        let cut_off = server(false, json!({"model": "clustered", "connected": false}));
        assert!(matches!(cut_off.check(None), Err(ServerError::CutOff)));
    }
}
