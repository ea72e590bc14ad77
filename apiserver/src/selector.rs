//! Label and field selectors.
//!
//! ```text
//! labels   a=b  a==b  a!=b  a  !a  a in (b,c)  a notin (b,c)  a>3  a<3     joined by commas
//! fields   path=value  path==value  path!=value                            joined by commas
//! ```
//!
//! A field is any path through the object (`metadata.name`, `spec.nodeName`,
//! `involvedObject.uid`). Upstream allows a few paths per kind and refuses the others; here every
//! path works, and one that leads nowhere has the empty value.

use serde_json::Value;

use crate::object;
use crate::status::ApiError;

/// Which objects of a list or a watch are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// Also holds where the label is missing.
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct FieldRequirement {
    path: Vec<String>,
    equal: bool,
    value: String,
}

impl Selector {
    /// From the `labelSelector` and `fieldSelector` of a request.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(fields)? })
    }

    /// Every object is wanted.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that a wanted object can have, if that is said.
    pub(crate) fn name(&self) -> Option<&str> {
        let says = |field: &&FieldRequirement| field.equal && field.path == ["metadata", "name"];
        self.fields.iter().find(says).map(|field| &*field.value)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = object::metadata(object).get("labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
        self.labels.iter().all(|requirement| requirement.holds(label(&requirement.key)))
            && self.fields.iter().all(|field| field.holds(object))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl FieldRequirement {
    fn holds(&self, object: &Value) -> bool {
        let found = self.path.iter().try_fold(object, |value, step| value.get(step));
        let text = match found {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        (text == self.value) == self.equal
    }
}

fn parse_fields(text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = term.split_once("==") {
                (path, true, value)
            } else if let Some((path, value)) = term.split_once('=') {
                (path, true, value)
            } else {
                let why = format!("invalid selector: '{text}'; can't understand '{term}'");
                return Err(ApiError::bad_request(why));
            };
            let path = path.trim().split('.').map(str::to_owned).collect();
            Ok(FieldRequirement { path, equal, value: value.trim().to_owned() })
        })
        .collect()
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, ApiError> {
    let bad = || ApiError::bad_request(format!("unable to parse requirement: {text:?}"));
    let terms = split_terms(text).into_iter().filter(|term| !term.is_empty());
    terms.map(|term| parse_requirement(term).ok_or_else(bad)).collect()
}

/// Splits at commas outside of parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let separator = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(separator).map(str::trim).collect()
}

fn parse_requirement(term: &str) -> Option<Requirement> {
    let requirement = |key: &str, test| {
        let key = key.trim();
        let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let is_key = !key.is_empty() && key.chars().all(valid);
        is_key.then(|| Requirement { key: key.to_owned(), test })
    };
    if let Some((head, values)) = term.split_once('(') {
        let values = values.strip_suffix(')')?.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next()?, words.next()?, words.next()) {
            (key, "in", None) => requirement(key, Test::In(values)),
            (key, "notin", None) => requirement(key, Test::NotIn(values)),
            _ => None,
        };
    }
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = term.split_once("!=") {
        requirement(key, Test::NotIn(one(value)))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        requirement(key, Test::In(one(value)))
    } else if let Some((key, value)) = term.split_once('>') {
        requirement(key, Test::Above(value.trim().parse().ok()?))
    } else if let Some((key, value)) = term.split_once('<') {
        requirement(key, Test::Below(value.trim().parse().ok()?))
    } else if let Some(key) = term.strip_prefix('!') {
        requirement(key, Test::Absent)
    } else {
        requirement(term, Test::Exists)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn by_labels(selector: &str) -> bool {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "1", "a.io/b": "c"}}});
        Selector::parse(selector, "").expect("the selector is valid").matches(&object)
    }

    #[test]
    fn every_form_of_label_requirement_is_understood() {
        for selector in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "app",
            "!gone",
            "app in (db, web)",
            "app notin (db)",
            "gone notin (a)",
            "gone!=x",
            "tier>0",
            "tier<2",
            "app=web,a.io/b=c,!gone",
        ] {
            assert!(by_labels(selector), "{selector}");
        }
        for selector in ["app=db", "app in (db,x)", "app,gone", "tier>1", "!app", "gone in (a)"] {
            assert!(!by_labels(selector), "{selector}");
        }
    }

    #[test]
    fn a_name_is_known_where_no_other_can_be_meant() {
        for (fields, name) in [
            ("metadata.name=web", Some("web")),
            ("spec.nodeName=n1,metadata.name==web", Some("web")),
            ("metadata.name!=web", None),
            ("spec.name=web", None),
            ("", None),
        ] {
            let selector = Selector::parse("", fields).expect("the selector is valid");
            assert_eq!(selector.name(), name, "{fields}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for selector in ["a in b", "a in (b", "=x", "a b", "a > x"] {
            assert_eq!(Selector::parse(selector, "").map_err(|e| e.code), Err(400), "{selector}");
        }
        assert_eq!(Selector::parse("", "spec").map_err(|e| e.code), Err(400));
    }

    #[test]
    fn fields_are_paths_through_the_object() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1", "on": true}});
        let matches = |fields: &str| Selector::parse("", fields).expect("valid").matches(&object);
        assert!(matches("metadata.name=a,spec.nodeName==n1"));
        assert!(matches("spec.on=true,spec.gone="));
        assert!(!matches("metadata.name!=a"));
    }
}
