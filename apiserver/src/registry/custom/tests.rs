use super::*;

fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "metadata": {"name": format!("{plural}.example.io")},
        "spec": {
            "group": "example.io",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true,
                          "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    })
}

fn settled(mut definition: Value, others: &[Value]) -> Value {
    defaulted_names(&mut definition);
    settle_status(&mut definition, others.iter());
    definition
}

#[test]
fn versions_are_ranked_as_people_expect() {
    let mut versions = ["v1alpha1", "foo", "v1", "v2beta1", "v10", "v2", "v1beta2", "v1beta10"];
    versions.sort_by_key(|version| Reverse(version_order(version)));
    assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
}

#[test]
fn names_that_are_left_out_follow_from_the_kind() {
    let definition = settled(definition("widgets", "Widget"), &[]);
    let names = &definition["spec"]["names"];
    assert_eq!((&names["singular"], &names["listKind"]), (&json!("widget"), &json!("WidgetList")));
    assert_eq!(definition["status"]["acceptedNames"], *names);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(resources(&definition).len(), 1);
}

#[test]
fn a_name_that_is_taken_keeps_the_second_definition_from_being_served() {
    let first = settled(definition("widgets", "Widget"), &[]);
    let second = settled(definition("others", "Widget"), std::slice::from_ref(&first));
    assert_eq!(condition(&second, "NamesAccepted"), Some("False"));
    assert_eq!(condition(&second, "Established"), Some("False"));
    assert!(resources(&second).is_empty());
    let again = settled(first.clone(), &[first]);
    assert_eq!(condition(&again, "NamesAccepted"), Some("True"));
}

#[test]
fn rules_that_are_not_run_are_announced() {
    let mut body = definition("widgets", "Widget");
    let schema = &mut body["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"] = json!({"type": "object",
        "x-kubernetes-validations": [{"rule": "self.a > 1"}, {"rule": "self.b > 1"}]});
    let definition = settled(body, &[]);
    assert_eq!(condition(&definition, "NonEnforcedRules"), Some("True"));
    let said = unenforced_rules(&definition).unwrap();
    assert!(said.contains("2 rules"), "{said}");
}

#[test]
fn several_versions_serve_the_same_objects() {
    let mut body = definition("widgets", "Widget");
    let old = json!({"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                     "schema": {"openAPIV3Schema": {"type": "object"}}});
    body["spec"]["versions"].as_array_mut().unwrap().push(old);
    let resources = resources(&settled(body, &[]));
    assert_eq!(resources[0].collection, resources[1].collection);
    let viewed = resources[1].view(json!({"apiVersion": "example.io/v1", "kind": "Widget"}));
    assert_eq!(viewed["apiVersion"], "example.io/v1beta1");
    assert!(resources[1].deprecation.is_some());
}

#[test]
fn the_place_of_a_definition_cannot_change() {
    let before = settled(definition("widgets", "Widget"), &[]);
    let mut after = before.clone();
    after["spec"]["scope"] = "Cluster".into();
    let fields: Vec<String> =
        validate(&after, Some(&before)).into_iter().map(|cause| cause.field).collect();
    assert_eq!(fields, ["spec.scope"]);
    assert!(validate(&before, Some(&before)).is_empty());
}
