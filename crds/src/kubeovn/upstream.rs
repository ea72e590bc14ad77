//! The fields of Kube-OVN's definitions, none of which may be pruned from what its users
//! wrote. The list is made of its `charts/kube-ovn-v2/crds/kube-ovn-crd.yaml`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

const FIELDS: &str = include_str!("upstream.txt");

/// Whether the schema has the field at this path, as `spec.acls[].action`.
fn has(schema: &JSONSchemaProps, path: &str) -> bool {
    let (field, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let (name, is_list) = field.strip_suffix("[]").map_or((field, false), |name| (name, true));
    let Some(found) = schema.properties.as_ref().and_then(|fields| fields.get(name)) else {
        return false;
    };
    let found = match &found.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) if is_list => item,
        _ => found,
    };
    rest.is_none_or(|rest| has(found, rest))
}

#[test]
fn no_field_of_kube_ovn_is_pruned() {
    let definitions = crate::definitions();
    let schema_of = |kind: &str| {
        let of_kind = |one: &&CustomResourceDefinition| one.spec.names.kind == kind;
        let definition = definitions.iter().find(of_kind).unwrap();
        definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap()
    };
    let mut schema = JSONSchemaProps::default();
    let (mut seen, mut missing) = (0, Vec::new());
    for line in FIELDS.lines() {
        match line.strip_prefix("  ") {
            None => schema = schema_of(line),
            Some(path) => {
                seen += 1;
                if !has(&schema, path) {
                    missing.push(path);
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(seen > 150, "{seen} fields are listed");
}
