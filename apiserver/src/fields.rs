//! Sets of fields, the way `managedFields` writes them down.
//!
//! A set is a tree of path elements: `f:name` a member of an object, `k:{"name":"x"}` an element of
//! a list by its keys, `v:"x"` an element of a set by its value. A node can be in the set itself
//! and have nodes below it. Which lists have keys is the business of [`Typed`].

mod compare;
mod typed;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(crate) use self::compare::difference;
pub(crate) use self::typed::{Elements, Typed};

/// A set of fields.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct FieldSet {
    /// Whether this very field is in the set.
    pub(crate) here: bool,
    pub(crate) below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Just the field itself.
    pub(crate) fn leaf() -> Self {
        Self { here: true, below: BTreeMap::new() }
    }

    /// All fields of a value.
    pub(crate) fn of(value: &Value, typed: Typed<'_>) -> Self {
        match value {
            Value::Object(map) if !map.is_empty() && !typed.is_atomic() => {
                let members = map.iter().map(|(name, value)| {
                    (format!("f:{name}"), Self::of(value, typed.member(name)))
                });
                Self { here: false, below: members.collect() }
            }
            Value::Array(list) => match typed.elements(list) {
                None => Self::leaf(),
                Some(elements) => {
                    let below = elements.into_iter().map(|(element, item)| {
                        let set = Self::of(item, typed.items());
                        (element, Self { here: true, below: set.below })
                    });
                    Self { here: false, below: below.collect() }
                }
            },
            _ => Self::leaf(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.here && self.below.is_empty()
    }

    pub(crate) fn get(&self, element: &str) -> Option<&Self> {
        self.below.get(element)
    }

    pub(crate) fn union(&mut self, other: &Self) {
        self.here |= other.here;
        for (element, set) in &other.below {
            self.below.entry(element.clone()).or_default().union(set);
        }
    }

    /// Takes out the members of `other`; fields below a member stay if they are members themselves.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.here &= !other.here;
        for (element, set) in &other.below {
            if let Some(mine) = self.below.get_mut(element) {
                mine.subtract(set);
                if mine.is_empty() {
                    self.below.remove(element);
                }
            }
        }
    }

    /// The members that are in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let below = self.below.iter().filter_map(|(element, set)| {
            let both = set.intersection(other.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { here: self.here && other.here, below: below.collect() }
    }

    /// Takes out a whole branch.
    pub(crate) fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => drop(self.below.remove(*last)),
            [first, rest @ ..] => {
                if let Some(set) = self.below.get_mut(*first) {
                    set.cut(rest);
                    if set.is_empty() {
                        self.below.remove(*first);
                    }
                }
            }
        }
    }

    /// Paths of the members, as conflicts print them: `.spec.disks[name="a"].bus`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = vec![];
        self.add_paths("", &mut paths);
        paths
    }

    fn add_paths(&self, at: &str, paths: &mut Vec<String>) {
        if self.here {
            paths.push(at.to_owned());
        }
        for (element, set) in &self.below {
            set.add_paths(&format!("{at}{}", printed(element)), paths);
        }
    }

    /// The `fieldsV1` form.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.here && !self.below.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, set) in &self.below {
            map.insert(element.clone(), set.to_json());
        }
        Value::Object(map)
    }

    pub(crate) fn from_json(json: &Value) -> Self {
        let map = json.as_object();
        let below: BTreeMap<String, Self> = map
            .into_iter()
            .flatten()
            .filter(|(element, _)| *element != ".")
            .map(|(element, set)| (element.clone(), Self::from_json(set)))
            .collect();
        let here = below.is_empty() || map.is_some_and(|map| map.contains_key("."));
        Self { here, below }
    }
}

fn printed(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    if let Some(keys) = element.strip_prefix("k:") {
        let keys = json(keys);
        let keys = keys.as_object().into_iter().flatten();
        let keys: Vec<String> = keys.map(|(name, value)| format!("{name}={value}")).collect();
        return format!("[{}]", keys.join(","));
    }
    element.strip_prefix("v:").map_or_else(|| element.to_owned(), |value| format!("[={value}]"))
}

#[cfg(test)]
mod tests;
