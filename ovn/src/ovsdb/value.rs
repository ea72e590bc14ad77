//! What a column can hold (RFC 7047, section 5.1).
//!
//! A value is a set of atoms or a map between atoms; a scalar is a set of one,
//! as it is on the wire. Both are kept sorted and free of duplicates, so equal
//! contents are equal values whatever order the server sent them in.

use std::collections::BTreeMap;

use uuid::Uuid;

mod delta;
mod json;

pub use json::ValueError;

/// One indivisible value.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Atom {
    /// A 64-bit signed integer.
    Integer(i64),
    /// A floating-point number.
    Real(Real),
    /// True or false.
    Boolean(bool),
    /// Text.
    String(Box<str>),
    /// A reference to a row that exists, or that row's own identity.
    Uuid(Uuid),
    /// A reference to a row that the same transaction inserts.
    Named(Named),
}

/// A floating-point number with a total order, so that it can be in a set.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A row that a transaction inserts, known by number until the server has
/// given it a uuid. Given out by [`Transaction::insert`] and valid only there.
///
/// [`Transaction::insert`]: super::Transaction::insert
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Named(u32);

impl Named {
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(super) const fn shifted(self, by: u32) -> Self {
        Self(self.0 + by)
    }
}

/// Distinct atoms in ascending order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Set(Vec<Atom>);

/// Pairs with distinct keys, in ascending order of key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Map(Vec<(Atom, Atom)>);

/// The value of a column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A set; a scalar is a set of one and an absent optional value an empty one.
    Set(Set),
    /// A map.
    Map(Map),
}

impl Set {
    /// How many atoms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no atom.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `atom` is one of them.
    #[must_use]
    pub fn contains(&self, atom: &Atom) -> bool {
        self.0.binary_search(atom).is_ok()
    }

    /// The atoms in ascending order.
    pub fn iter(&self) -> std::slice::Iter<'_, Atom> {
        self.0.iter()
    }

    /// The one atom of a scalar, or of an optional value that is there.
    #[must_use]
    pub fn single(&self) -> Option<&Atom> {
        match self.0.as_slice() {
            [atom] => Some(atom),
            _ => None,
        }
    }
}

impl FromIterator<Atom> for Set {
    fn from_iter<I: IntoIterator<Item = Atom>>(atoms: I) -> Self {
        let mut atoms: Vec<_> = atoms.into_iter().collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self(atoms)
    }
}

impl<'a> IntoIterator for &'a Set {
    type Item = &'a Atom;
    type IntoIter = std::slice::Iter<'a, Atom>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Map {
    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text under `key`, where both are text.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(have, _)| match have {
            Atom::String(have) => (**have).cmp(key),
            Atom::Integer(_) | Atom::Real(_) | Atom::Boolean(_) => std::cmp::Ordering::Less,
            Atom::Uuid(_) | Atom::Named(_) => std::cmp::Ordering::Greater,
        });
        self.0[at.ok()?].1.as_str()
    }

    /// The pairs in ascending order of key.
    pub fn iter(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        self.0.iter()
    }
}

impl FromIterator<(Atom, Atom)> for Map {
    /// Where a key comes twice, the last pair counts.
    fn from_iter<I: IntoIterator<Item = (Atom, Atom)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Atom, Atom);
    type IntoIter = std::slice::Iter<'a, (Atom, Atom)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Atom {
    /// The text, if it is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The uuid, if it is one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }
}

impl Value {
    /// The value that is not there: no atom, no pair.
    pub const EMPTY: Self = Self::Set(Set(Vec::new()));

    /// A set of these atoms.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A map of these pairs; where a key comes twice, the last counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The one atom of a scalar or of an optional value that is there.
    #[must_use]
    pub fn single(&self) -> Option<&Atom> {
        match self {
            Self::Set(set) => set.single(),
            Self::Map(_) => None,
        }
    }

    /// The atoms of a set; none for a map.
    pub fn atoms(&self) -> std::slice::Iter<'_, Atom> {
        match self {
            Self::Set(set) => set.iter(),
            Self::Map(_) => [].iter(),
        }
    }

    /// The pairs of a map; none for a set.
    pub fn pairs(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        match self {
            Self::Map(map) => map.iter(),
            Self::Set(_) => [].iter(),
        }
    }

    /// The texts in it, keys of maps among them.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let pairs = self.pairs().flat_map(|(key, value)| [key, value]);
        self.atoms().chain(pairs).filter_map(Atom::as_str)
    }

    /// Every atom within, for rewriting the references to inserted rows.
    pub(super) fn shift_named(&mut self, by: u32) {
        let shift = |atom: &mut Atom| {
            if let Atom::Named(named) = atom {
                *named = named.shifted(by);
            }
        };
        // Adding the same number to all of them does not change their order.
        match self {
            Self::Set(set) => set.0.iter_mut().for_each(shift),
            Self::Map(map) => map.0.iter_mut().for_each(|(_, value)| shift(value)),
        }
    }
}

macro_rules! atom_from {
    ($($from:ty => |$value:ident| $atom:expr),* $(,)?) => {
        $(
            impl From<$from> for Atom {
                fn from($value: $from) -> Self {
                    $atom
                }
            }

            impl From<$from> for Value {
                fn from(value: $from) -> Self {
                    Self::Set(Set(vec![Atom::from(value)]))
                }
            }
        )*
    };
}

atom_from! {
    i64 => |value| Self::Integer(value),
    f64 => |value| Self::Real(Real(value)),
    bool => |value| Self::Boolean(value),
    &str => |value| Self::String(value.into()),
    &String => |value| Self::String(value.as_str().into()),
    String => |value| Self::String(value.into()),
    Uuid => |value| Self::Uuid(value),
    Named => |value| Self::Named(value),
}

impl From<Atom> for Value {
    fn from(atom: Atom) -> Self {
        Self::Set(Set(vec![atom]))
    }
}

impl<A: Into<Atom>> From<Option<A>> for Value {
    fn from(atom: Option<A>) -> Self {
        Self::set(atom)
    }
}

#[cfg(test)]
mod tests;
