//! The definitions in `manifests/crds/` are what the types say.

use std::path::Path;

#[test]
fn the_yaml_in_manifests_is_generated_from_the_types() {
    let of_others = crds::definitions_of_others();
    for (name, definitions) in [("crds", crds::definitions()), ("cdi", of_others)] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests").join(name);
        for definition in &definitions {
            let name = definition.metadata.name.clone().unwrap();
            let path = directory.join(format!("{name}.yaml"));
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            let generated = serde_norway::to_string(definition).unwrap();
            assert!(kept == generated, "{} is out of date: run `make generate`", path.display());
        }
        let files = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(files, definitions.len(), "a file in {} has no type", directory.display());
    }
}

#[test]
fn every_kind_says_what_it_is() {
    for definition in crds::definitions().into_iter().chain(crds::definitions_of_others()) {
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let said = schema.description.as_deref().unwrap_or_default();
            assert!(said.ends_with('.') && !said.contains("derived type"), "{said:?}");
        }
    }
}
