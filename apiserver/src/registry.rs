//! What is served: the built-in kinds and those of the CustomResourceDefinitions in the store.
//!
//! A [`Registry`] is a value. When a definition changes, a new one is built and put in place of
//! the old before the change is answered, so a client that has seen its definition accepted can
//! use the kind at once.

mod builtin;
mod custom;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

pub(crate) use self::custom::{
    CLEANUP_FINALIZER, defaulted_names, settle_status, unenforced_rules, validate,
};
use crate::path::ResourcePath;
use crate::scale::ScalePaths;
use crate::schema::Schema;
use crate::store::{Collection, Stored};
use crate::table::Column;

/// Rules of a kind that its schema cannot say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Strategy {
    /// A built-in kind without rules of its own.
    Plain,
    Namespace,
    Node,
    Secret,
    /// Kinds of RBAC, whose names may be any path segment.
    Role,
    Pod,
    Service,
    PersistentVolume,
    PersistentVolumeClaim,
    /// Kinds that clients may bring into being with a PUT.
    CreateOnUpdate,
    /// Like `CreateOnUpdate`, but replacing one takes its version.
    Lease,
    Definition,
    /// A kind of a CustomResourceDefinition.
    Custom,
    /// A question that is answered and not stored.
    Review,
}

/// How a stored object becomes one of this resource, and back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// The bytes are served as they lie in the store.
    AsStored,
    /// The same fields under another `apiVersion`.
    Renamed,
    /// An `events.k8s.io/v1` view of a core event.
    Event,
}

/// One kind in one version.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Status is written through `/status` only.
    pub(crate) has_status: bool,
    /// Where it keeps what `/scale` shows.
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) counts_generations: bool,
    pub(crate) collection: Collection,
    pub(crate) form: Form,
    pub(crate) strategy: Strategy,
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: Option<Arc<Schema>>,
    /// Sent as a `Warning` header with every answer.
    pub(crate) deprecation: Option<String>,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether a PUT must name the version it replaces.
    pub(crate) fn needs_version(&self) -> bool {
        matches!(self.strategy, Strategy::Custom | Strategy::Definition | Strategy::Lease)
    }

    /// Whether a PUT may make a new object.
    pub(crate) fn creates_on_update(&self) -> bool {
        matches!(self.strategy, Strategy::CreateOnUpdate | Strategy::Lease)
    }

    /// A stored object in the form of this resource.
    pub(crate) fn view(&self, mut object: Value) -> Value {
        match self.form {
            Form::AsStored => {}
            Form::Renamed => object["apiVersion"] = self.api_version().into(),
            Form::Event => {
                crate::event::to_events_v1(&mut object);
            }
        }
        object
    }

    /// An object in the form of this resource as it is stored.
    pub(crate) fn storage(&self, mut object: Value) -> Value {
        if self.form == Form::Event {
            crate::event::to_core(&mut object);
        }
        object
    }

    pub(crate) fn subject<'a>(&'a self, name: &'a str) -> crate::status::Subject<'a> {
        crate::status::Subject { group: &self.group, plural: &self.plural, name }
    }
}

/// The resources that are served, by group, version and plural.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
    /// Per group the versions, the preferred one first.
    versions: BTreeMap<String, Vec<String>>,
}

impl Registry {
    /// The built-in kinds and those of the definitions.
    pub(crate) fn build<'a>(definitions: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut registry = Self::default();
        for resource in builtin::resources() {
            registry.add(resource);
        }
        for definition in definitions {
            for resource in custom::resources(definition) {
                registry.add(resource);
            }
        }
        for versions in registry.versions.values_mut() {
            Self::sort_versions(versions);
        }
        registry
    }

    /// Puts the preferred one first.
    pub(crate) fn sort_versions(versions: &mut [String]) {
        versions.sort_by_key(|version| std::cmp::Reverse(custom::version_order(version)));
    }

    fn add(&mut self, resource: Resource) {
        let versions = self.versions.entry(resource.group.clone()).or_default();
        if !versions.contains(&resource.version) {
            versions.push(resource.version.clone());
        }
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        self.resources.insert(key, Arc::new(resource));
    }

    pub(crate) fn find(&self, path: &ResourcePath) -> Option<&Arc<Resource>> {
        self.get(&path.group, &path.version, &path.plural)
    }

    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Groups in order, the core group (the empty name) first.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.versions.iter().map(|(group, versions)| (group.as_str(), versions.as_slice()))
    }

    pub(crate) fn versions(&self, group: &str) -> Option<&[String]> {
        self.versions.get(group).map(Vec::as_slice)
    }

    /// The resources of one group and version, by plural.
    pub(crate) fn resources(&self, group: &str, version: &str) -> Vec<&Arc<Resource>> {
        let from = (group.to_owned(), version.to_owned(), String::new());
        self.resources
            .range(from..)
            .take_while(|((g, v, _), _)| g == group && v == version)
            .map(|(_, resource)| resource)
            .collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Some version of the kind whose objects lie in `collection`.
    pub(crate) fn of_collection(&self, collection: &Collection) -> Option<&Arc<Resource>> {
        let mut among = self.all().filter(|resource| resource.collection == *collection);
        let first = among.next()?;
        // The events.k8s.io view is never the form things are stored in.
        Some(if first.form == Form::Event { among.next().unwrap_or(first) } else { first })
    }

    /// The kind an owner reference names.
    pub(crate) fn of_kind(&self, group: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.all().find(|resource| resource.group == group && resource.kind == kind)
    }
}

/// The registry in force; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Served(Arc<RwLock<Arc<Registry>>>);

impl Served {
    pub(crate) fn new() -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Registry::build([])))))
    }

    pub(crate) fn now(&self) -> Arc<Registry> {
        self.0.read().clone()
    }

    /// Serves these definitions from now on.
    pub(crate) fn reload(&self, definitions: &[Arc<Stored>]) {
        let definitions: Vec<Value> = definitions.iter().map(|stored| stored.value()).collect();
        *self.0.write() = Arc::new(Registry::build(&definitions));
    }
}

/// Where the definitions are stored.
pub(crate) fn definitions() -> Collection {
    Collection::new("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Where namespaces are stored.
pub(crate) fn namespaces() -> Collection {
    Collection::new("", "namespaces")
}
