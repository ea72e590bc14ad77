//! Our column names against schemas.

use ovn::nb;
use serde_json::Value as Json;

use crate::releases::{self, RELEASES};

/// Table, column, and whether it may be missing.
fn columns() -> impl Iterator<Item = (String, String, bool)> {
    let of_table = |(table, columns): (String, Vec<String>)| {
        columns.into_iter().map(move |column| match column.strip_suffix('?') {
            Some(column) => (table.clone(), column.to_owned(), true),
            None => (table.clone(), column, false),
        })
    };
    nb::tables().into_iter().flat_map(of_table)
}

#[test]
fn what_may_be_missing_is_what_some_release_lacks_and_the_last_one_has_everything() {
    let schemas: Vec<_> = RELEASES.iter().map(releases::schema).collect();
    for (table, column, may_be_missing) in columns() {
        let has = |schema: &Json| schema["tables"][&table]["columns"].get(&column).is_some();
        assert_eq!(!schemas.iter().all(has), may_be_missing, "{table}.{column}");
        assert!(has(schemas.last().unwrap()), "{table}.{column}");
    }
}

#[test]
fn what_we_use_of_the_installed_schema_is_as_our_schema_of_its_release_has_it() {
    let file = "/usr/share/ovn/ovn-nb.ovsschema";
    let text = std::fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{} ({file}: {error})", crate::server::MISSING));
    let installed: Json = serde_json::from_str(&text).unwrap();
    let ours = releases::schema(releases::of(&installed));
    for (table, _) in nb::tables() {
        for property in ["indexes", "isRoot", "maxRows"] {
            let of = |schema: &Json| match &schema["tables"][&table][property] {
                // As RFC 7047 has it where nothing is said.
                Json::Bool(false) => Json::Null,
                said => said.clone(),
            };
            assert_eq!(of(&installed), of(&ours), "{table}: {property}");
        }
    }
    for (table, column, _) in columns() {
        let of = |schema: &Json| schema["tables"][&table]["columns"][&column]["type"].clone();
        assert_eq!(of(&installed), of(&ours), "{table}.{column}");
    }
}
