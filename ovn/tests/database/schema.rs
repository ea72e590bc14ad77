//! Our column names against schemas.

use ovn::nb;
use serde_json::Value as Json;

/// In schemas after that of OVN 23.03.
const NEWER: &[&str] = &["ACL.tier"];

/// What we use of the schema of OVN 23.03, for tests without a server.
const PINNED: &str = include_str!("../../schema/nb.json");

fn columns() -> impl Iterator<Item = (String, String)> {
    let of_table = |(table, columns): (String, Vec<String>)| {
        columns.into_iter().map(move |column| (table.clone(), column))
    };
    nb::tables().into_iter().flat_map(of_table)
}

#[test]
fn every_column_we_use_is_in_the_pinned_schema_or_known_to_be_newer() {
    let pinned: Json = serde_json::from_str(PINNED).unwrap();
    for (table, column) in columns() {
        let name = format!("{table}.{column}");
        let known = pinned["tables"][&table]["columns"].get(&column).is_some();
        assert!(known != NEWER.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn every_column_we_use_is_in_the_installed_schema_with_the_type_we_pinned() {
    let file = "/usr/share/ovn/ovn-nb.ovsschema";
    let text = std::fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{} ({file}: {error})", crate::server::MISSING));
    let installed: Json = serde_json::from_str(&text).unwrap();
    let pinned: Json = serde_json::from_str(PINNED).unwrap();
    for (table, column) in columns() {
        let here = &installed["tables"][&table]["columns"][&column]["type"];
        let there = &pinned["tables"][&table]["columns"][&column]["type"];
        // Newer schemas know further actions of a rule.
        if !there.is_null() && (table.as_str(), column.as_str()) != ("ACL", "action") {
            assert_eq!(here, there, "{table}.{column}");
        }
    }
}
