use serde_json::{Value, json};

use super::Schema;

fn schema(json: &Value) -> Schema {
    Schema::parse(json).unwrap()
}

/// Field and message of everything that is wrong with `object`.
fn wrong(properties: &Value, object: &Value) -> Vec<String> {
    let schema = schema(&json!({"type": "object", "properties": properties}));
    let causes = schema.validate(object);
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn unknown_fields_are_removed_and_named() {
    let schema = schema(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "object",
                "properties": {"a": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object",
                "properties": {"a": {"type": "string"}}}},
            "any": {"type": "object", "additionalProperties": true},
            "open": {"x-kubernetes-preserve-unknown-fields": true, "type": "object",
                "properties": {"known": {"type": "object"}}},
        }},
    }}));
    let mut object = json!({
        "apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "top": 1,
        "spec": {"list": [{"a": "x", "b": 1}], "map": {"k": {"a": "x", "b": 1}},
                 "any": {"b": {"c": 1}}, "open": {"b": 1, "known": {"c": 1}}},
    });
    let unknown = schema.prune(&mut object);
    assert_eq!(unknown, ["top", "spec.list[0].b", "spec.map.k.b", "spec.open.known.c"]);
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "n"},
            "spec": {"list": [{"a": "x"}], "map": {"k": {"a": "x"}},
                     "any": {"b": {"c": 1}}, "open": {"b": 1, "known": {}}},
        })
    );
}

#[test]
fn an_embedded_resource_keeps_what_is_the_servers() {
    let schema = schema(&json!({"type": "object", "properties": {"template": {
        "type": "object", "x-kubernetes-embedded-resource": true,
        "properties": {"spec": {"type": "object"}},
    }}}));
    let mut object = json!({"template": {"kind": "K", "apiVersion": "v1",
        "metadata": {"labels": {"a": "b"}}, "spec": {}, "other": 1}});
    assert_eq!(schema.prune(&mut object), ["template.other"]);
    assert_eq!(object["template"]["metadata"]["labels"]["a"], "b");
}

#[test]
fn defaults_fill_what_is_missing_and_what_they_bring_along() {
    let schema = schema(&json!({"type": "object", "properties": {
        "outer": {"type": "object", "default": {}, "properties": {
            "inner": {"type": "string", "default": "x"},
            "nullable": {"type": "string", "nullable": true, "default": "y"},
        }},
        "list": {"type": "array", "items": {"type": "object", "properties": {
            "on": {"type": "boolean", "default": true}}}},
    }}));
    let mut object = json!({"list": [{}, {"on": false}]});
    schema.fill_defaults(&mut object);
    let outer = json!({"inner": "x", "nullable": "y"});
    assert_eq!(object, json!({"list": [{"on": true}, {"on": false}], "outer": outer}));
    let mut object = json!({"outer": {"inner": null, "nullable": null}});
    schema.fill_defaults(&mut object);
    assert_eq!(object["outer"], json!({"inner": "x", "nullable": null}));
}

#[test]
fn a_null_that_is_not_allowed_is_as_good_as_nothing() {
    let schema = schema(&json!({"type": "object", "properties": {
        "plain": {"type": "string"},
        "nullable": {"type": "string", "nullable": true},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    }}));
    let mut object = json!({"plain": null, "nullable": null, "map": {"a": null, "b": "c"}});
    schema.fill_defaults(&mut object);
    assert_eq!(object, json!({"nullable": null, "map": {"b": "c"}}));
}

#[test]
fn types_are_checked_and_named_as_upstream_does() {
    let found = wrong(&json!({"a": {"type": "integer"}}), &json!({"a": "x"}));
    assert_eq!(
        found,
        ["a: Invalid value: \"string\": a in body must be of type integer: \"string\""]
    );
    assert!(wrong(&json!({"a": {"type": "integer"}}), &json!({"a": 1.0})).is_empty());
    assert!(!wrong(&json!({"a": {"type": "string"}}), &json!({"a": null})).is_empty());
    let nullable = json!({"a": {"type": "string", "nullable": true}});
    assert!(wrong(&nullable, &json!({"a": null})).is_empty());
    let either = json!({"a": {"x-kubernetes-int-or-string": true}});
    assert!(wrong(&either, &json!({"a": 1})).is_empty());
    assert!(wrong(&either, &json!({"a": "1"})).is_empty());
    assert!(!wrong(&either, &json!({"a": 1.5})).is_empty());
}

#[test]
fn every_limit_is_enforced() {
    let limits = json!({
        "number": {"type": "integer", "minimum": 1, "maximum": 5, "exclusiveMaximum": true,
                   "multipleOf": 2},
        "text": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^a"},
        "list": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}},
        "word": {"type": "string", "enum": ["a", "b"]},
        "map": {"type": "object", "required": ["k"], "maxProperties": 1,
                "additionalProperties": {"type": "integer"}},
    });
    let good = json!({"number": 4, "text": "abc", "list": [1], "word": "a", "map": {"k": 1}});
    assert!(wrong(&limits, &good).is_empty());
    for (object, field) in [
        (json!({"number": 0}), "number"),
        (json!({"number": 5}), "number"),
        (json!({"number": 3}), "number"),
        (json!({"text": "a"}), "text"),
        (json!({"text": "abcde"}), "text"),
        (json!({"text": "bcd"}), "text"),
        (json!({"list": []}), "list"),
        (json!({"list": [1, 2, 3]}), "list"),
        (json!({"list": ["x"]}), "list[0]"),
        (json!({"word": "c"}), "word"),
        (json!({"map": {"x": 1}}), "map.k"),
        (json!({"map": {"k": 1, "x": 1}}), "map"),
        (json!({"map": {"k": "x"}}), "map.k"),
    ] {
        let found = wrong(&limits, &object);
        assert!(found.iter().any(|text| text.starts_with(&format!("{field}: "))), "{found:?}");
    }
}

#[test]
fn formats_tell_good_from_bad() {
    for (format, good, bad) in [
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "fd00::1", "fd00:::1"),
        ("cidr", "fd00::/64", "10.0.0.0/33"),
        ("mac", "00:00:00:aa:bb:cc", "00:00:00:aa:bb"),
        ("date-time", "2026-01-01T00:00:00Z", "yesterday"),
        ("duration", "1h30m", "1 hour"),
        ("uuid", "67e55044-10b1-426f-9247-bb680e5fe0c8", "x"),
        ("hostname", "a.example.io", "-a"),
        ("unheard-of", "x", ""),
    ] {
        let property = json!({"a": {"type": "string", "format": format}});
        assert!(wrong(&property, &json!({"a": good})).is_empty(), "{format} {good}");
        let refused = !wrong(&property, &json!({"a": bad})).is_empty();
        assert_eq!(refused, format != "unheard-of", "{format} {bad}");
    }
}

#[test]
fn branches_are_counted() {
    let branches = |kind: &str| json!({"a": {kind: [{"required": ["x"]}, {"required": ["y"]}]}});
    let (one, both) = (json!({"a": {"x": 1}}), json!({"a": {"x": 1, "y": 1}}));
    let none = json!({"a": {}});
    for (kind, object, holds) in [
        ("anyOf", &none, false),
        ("anyOf", &one, true),
        ("anyOf", &both, true),
        ("oneOf", &none, false),
        ("oneOf", &one, true),
        ("oneOf", &both, false),
        ("allOf", &one, false),
        ("allOf", &both, true),
    ] {
        assert_eq!(wrong(&branches(kind), object).is_empty(), holds, "{kind} {object}");
    }
    let not = json!({"a": {"not": {"required": ["x"]}}});
    assert!(wrong(&not, &none).is_empty());
    assert!(!wrong(&not, &one).is_empty());
}

#[test]
fn a_schema_that_cannot_be_understood_says_where() {
    let bad = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}});
    assert_eq!(Schema::parse(&bad).unwrap_err().field, ".properties[a].pattern");
    let bad = json!({"type": "thing"});
    assert_eq!(Schema::parse(&bad).unwrap_err().field, ".type");
}
