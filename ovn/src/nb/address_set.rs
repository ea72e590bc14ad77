//! Networks and addresses under one name, for the expressions of rules and policies.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Table;
use crate::ovsdb::Row;

/// A row of `Address_Set`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressSet {
    /// Identity.
    pub uuid: Uuid,
    /// What expressions call it, with a `$` before; unique.
    pub name: String,
    /// Addresses and networks, all of one family.
    pub addresses: BTreeSet<String>,
    /// Marker and the like.
    pub external_ids: BTreeMap<String, String>,
}

/// What an address set is to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressSetWant {
    /// Addresses and networks, all of one family.
    pub addresses: BTreeSet<String>,
}

impl Table for AddressSet {
    const TABLE: &'static str = "Address_Set";
    const COLUMNS: &'static [&'static str] = &["name", "addresses", "external_ids"];

    fn from_row(uuid: Uuid, row: &Row) -> Self {
        Self {
            uuid,
            name: row.str("name").to_owned(),
            addresses: row.strings("addresses"),
            external_ids: row.map("external_ids"),
        }
    }
}
