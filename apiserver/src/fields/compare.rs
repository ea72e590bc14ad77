//! What differs between two objects, as sets of fields.

use serde_json::Value;

use super::{FieldSet, Typed};

/// The fields in which two objects differ.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Difference {
    /// In the new object with a value they did not have: added or modified.
    pub(crate) set: FieldSet,
    /// Not in the new object.
    pub(crate) removed: FieldSet,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    fn put(&mut self, element: String, below: Self) {
        if !below.set.is_empty() {
            self.set.below.insert(element.clone(), below.set);
        }
        if !below.removed.is_empty() {
            self.removed.below.insert(element, below.removed);
        }
    }
}

/// What must be said to get from `old` to `new`.
pub(crate) fn difference(old: Option<&Value>, new: Option<&Value>, typed: Typed<'_>) -> Difference {
    match (old, new) {
        (None, None) => Difference::default(),
        (None, Some(new)) => Difference { set: FieldSet::of(new, typed), ..Difference::default() },
        (Some(old), None) => {
            Difference { removed: FieldSet::of(old, typed), ..Difference::default() }
        }
        (Some(old), Some(new)) if old == new => Difference::default(),
        (Some(old), Some(new)) => changed(old, new, typed),
    }
}

fn changed(old: &Value, new: &Value, typed: Typed<'_>) -> Difference {
    let mut all = Difference::default();
    match (old, new) {
        (Value::Object(before), Value::Object(after)) if !typed.is_atomic() => {
            let names =
                before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
            for name in names {
                let below = difference(before.get(name), after.get(name), typed.member(name));
                if !below.is_empty() {
                    all.put(format!("f:{name}"), below);
                }
            }
            // `{}` is a field of its own; between `{}` and something only members differ.
            if all.is_empty() || before.is_empty() || after.is_empty() {
                all.set.here |= after.is_empty();
                all.removed.here |= before.is_empty();
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let (Some(before), Some(after)) = (typed.elements(before), typed.elements(after))
            else {
                all.set.here = true;
                return all;
            };
            let find = |list: &super::Elements<'_>, element: &str| -> Option<Value> {
                list.iter().find(|(e, _)| e == element).map(|(_, item)| (*item).clone())
            };
            for (element, item) in &before {
                let new = find(&after, element);
                let mut below = difference(Some(item), new.as_ref(), typed.items());
                below.removed.here |= new.is_none();
                if !below.is_empty() {
                    all.put(element.clone(), below);
                }
            }
            for (element, item) in &after {
                if find(&before, element).is_none() {
                    let mut below = difference(None, Some(item), typed.items());
                    below.set.here = true;
                    all.put(element.clone(), below);
                }
            }
        }
        _ => all.set.here = true,
    }
    all
}
