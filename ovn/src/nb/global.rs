//! The one row of `NB_Global`: how far a change has come.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Table;
use crate::ovsdb::{Condition, Mutation, Replica, Row, Transaction};

/// The row of `NB_Global`. A number written to `nb_cfg` comes back in `sb_cfg` when
/// northd has translated everything before it, and in `hv_cfg` when every chassis
/// has its flows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Global {
    /// Identity.
    pub uuid: Uuid,
    /// The number asked for last.
    pub nb_cfg: i64,
    /// The number northd has reached.
    pub sb_cfg: i64,
    /// The number the slowest chassis has reached.
    pub hv_cfg: i64,
    /// Global settings.
    pub options: BTreeMap<String, String>,
}

impl Global {
    /// Asks for one more round: what is written in the same transaction, or was
    /// before, is done when `sb_cfg` or `hv_cfg` is at least the `nb_cfg` that
    /// results. Nothing happens where nobody has initialised the database.
    pub fn bump(replica: &Replica, transaction: &mut Transaction) {
        if let Some((uuid, _)) = replica.rows(Self::TABLE).next() {
            let add = vec![Mutation::add("nb_cfg", 1)];
            transaction.mutate(Self::TABLE, Condition::row(uuid), add);
        }
    }
}

impl Table for Global {
    const TABLE: &'static str = "NB_Global";
    const COLUMNS: &'static [&'static str] = &["nb_cfg", "sb_cfg", "hv_cfg", "options"];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        let number = |column| row.integer(column).unwrap_or_default();
        Self {
            uuid,
            nb_cfg: number("nb_cfg"),
            sb_cfg: number("sb_cfg"),
            hv_cfg: number("hv_cfg"),
            options: row.map("options"),
        }
    }
}
