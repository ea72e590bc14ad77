//! The JSONPath that printer columns use.
//!
//! `.spec.a`, `['key']`, `[0]`, `[-1]`, `[*]`, `.*`, and filters `[?(@.type=="Ready")]` with
//! `==` and `!=` against a string, number, `true` or `false`. Braces around the path are allowed.

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, Eq, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Every,
    Where { path: Vec<Step>, equal: bool, value: Value },
}

impl JsonPath {
    /// `None` if the path uses something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        steps(inner).map(Self)
    }

    /// Every value the path leads to, in order.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        find(&self.0, object)
    }
}

fn steps(mut text: &str) -> Option<Vec<Step>> {
    let mut steps = vec![];
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix('[') {
            let end = bracket_end(rest)?;
            steps.push(bracket(&rest[..end])?);
            text = &rest[end + 1..];
        } else {
            let rest = text.strip_prefix('.').or_else(|| steps.is_empty().then_some(text))?;
            let (name, after) = field(rest);
            match name.as_str() {
                // A path may be just a dot.
                "" if after.is_empty() || after.starts_with('[') => {}
                "" => return None,
                "*" => steps.push(Step::Every),
                _ => steps.push(Step::Field(name)),
            }
            text = after;
        }
    }
    Some(steps)
}

/// A field name up to the next step; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[at..]),
            _ => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, minding quotes and brackets inside.
fn bracket_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" || inner == ":" {
        return Some(Step::Every);
    }
    if let Some(name) = quoted(inner) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let (equal, at) = match (condition.find("=="), condition.find("!=")) {
            (Some(at), _) => (true, at),
            (None, Some(at)) => (false, at),
            (None, None) => return None,
        };
        let path = steps(condition[..at].trim().strip_prefix('@')?)?;
        return Some(Step::Where { path, equal, value: literal(condition[at + 2..].trim())? });
    }
    inner.parse().ok().map(Step::Index)
}

fn quoted(text: &str) -> Option<&str> {
    let strip = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    strip('\'').or_else(|| strip('"'))
}

fn literal(text: &str) -> Option<Value> {
    match quoted(text) {
        Some(text) => Some(text.into()),
        None => serde_json::from_str(text).ok(),
    }
}

fn find<'a>(steps: &[Step], from: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![from];
    for step in steps {
        found = found.into_iter().flat_map(|value| follow(step, value)).collect();
    }
    found
}

fn follow<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let Some(list) = value.as_array() else { return vec![] };
            let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
            let index = if *index < 0 { length + index } else { *index };
            usize::try_from(index).ok().and_then(|index| list.get(index)).into_iter().collect()
        }
        Step::Every => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => vec![],
        },
        Step::Where { path, equal, value: wanted } => {
            let Some(list) = value.as_array() else { return vec![] };
            let holds = |item: &&Value| find(path, item).contains(&wanted) == *equal;
            list.iter().filter(holds).collect()
        }
    }
}

/// The values as text, the way Go prints them: scalars bare, several separated by commas.
pub(super) fn printed(values: &[&Value]) -> String {
    let one = |value: &&Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    values.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(path: &str, object: &Value) -> String {
        printed(&JsonPath::parse(path).expect("the path is valid").find(object))
    }

    #[test]
    fn a_filter_picks_the_condition_of_a_type() {
        let object = json!({"status": {"conditions": [
            {"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        assert_eq!(text(".status.conditions[?(@.type==\"Ready\")].status", &object), "True");
        assert_eq!(text("{.status.conditions[?(@.type!='Ready')].status}", &object), "False");
        assert_eq!(text(".status.conditions[?(@.type==\"Gone\")].status", &object), "");
    }

    #[test]
    fn fields_can_be_quoted_or_escaped() {
        let object = json!({"metadata": {"annotations": {"a.io/b": "x"}}});
        assert_eq!(text(".metadata.annotations['a.io/b']", &object), "x");
        assert_eq!(text(r".metadata.annotations.a\.io/b", &object), "x");
    }

    #[test]
    fn lists_can_be_indexed_from_both_ends_and_spread() {
        let object = json!({"spec": {"ips": ["10.0.0.1", "fd00::1"]}});
        assert_eq!(text(".spec.ips[0]", &object), "10.0.0.1");
        assert_eq!(text(".spec.ips[-1]", &object), "fd00::1");
        assert_eq!(text(".spec.ips[*]", &object), "10.0.0.1,fd00::1");
    }

    #[test]
    fn what_is_not_spoken_is_refused_and_not_guessed() {
        assert_eq!(JsonPath::parse("..name"), None);
        assert_eq!(JsonPath::parse(".a[1:2]"), None);
        assert_eq!(JsonPath::parse(".a[?(@.b>3)]"), None);
    }
}
