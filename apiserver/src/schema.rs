//! Structural schemas: what a CustomResourceDefinition says about its objects.
//!
//! An object passes three stages before it is stored, in this order:
//!
//! 1. [`prune`](Schema::prune) removes the fields the schema does not know (and names them, for
//!    clients that want to hear of typing errors);
//! 2. [`fill_defaults`](Schema::fill_defaults) adds what was left out;
//! 3. [`validate`](Schema::validate) lists everything that is wrong, with field paths.
//!
//! `apiVersion`, `kind` and `metadata` of the object, and of embedded resources, belong to the
//! server and are none of the schema's business. Stored objects are not defaulted again when they
//! are read, so a default added to a definition reaches an old object with its next write.

mod default;
mod format;
mod parse;
mod prune;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

/// The JSON type a schema asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    /// No `type`: anything.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
}

/// What `additionalProperties` says.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    /// Nothing: only the listed properties exist.
    #[default]
    Absent,
    /// `true`.
    Anything,
    Like(Box<Schema>),
}

/// How the elements of a list are told apart; drives server-side apply and the check for
/// duplicates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    Set,
    /// By the values of these fields.
    Map(Vec<String>),
}

/// One node of a schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    /// `x-kubernetes-map-type: atomic`.
    pub(crate) atomic_map: bool,
    pub(crate) properties: BTreeMap<String, Schema>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Box<Schema>>,
    pub(crate) list_type: ListType,
    pub(crate) default: Option<Box<Value>>,
    /// Most nodes have none of it.
    pub(crate) limits: Option<Box<Limits>>,
}

/// The value validations of a node.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) required: Vec<String>,
    pub(crate) one_value_of: Vec<Value>,
    pub(crate) format: Option<String>,
    /// Shared between all nodes with the same pattern: a compiled expression is large.
    pub(crate) pattern: Option<Arc<Regex>>,
    pub(crate) minimum: Option<Bound>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Schema>,
}

/// One end of a range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) at: f64,
    pub(crate) exclusive: bool,
}

/// Fields of an object that its own schema does not describe.
fn is_server_field(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

#[cfg(test)]
mod tests;
