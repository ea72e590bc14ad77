//! An object as its type, or else its metadata; without what nobody here reads.
//!
//! Managed fields are most of an object's text and would take several times that once
//! they are read, so they are cut out before. What is left out here is never written
//! back: we write patches and statuses, and whole objects only where we make them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tracing::warn;

use crate::shelf::Seen;

/// What `kubectl apply` notes on an object for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How they are called in an object.
const MANAGED_FIELDS: &str = "\"managedFields\"";

/// One object that a watch told of.
#[derive(Clone, Debug)]
pub(super) enum Read<K> {
    /// It fits its type.
    Object(Box<K>),
    /// It does not.
    Unreadable(Box<ObjectMeta>),
}

impl<K: Resource> Read<K> {
    pub(super) fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Object(object) => object.meta(),
            Self::Unreadable(meta) => meta,
        }
    }

    pub(super) fn version(&self) -> String {
        self.meta().resource_version.clone().unwrap_or_default()
    }

    /// That this one is gone.
    pub(super) fn gone(self) -> Seen<K> {
        match self {
            Self::Object(object) => Seen::gone(&*object),
            Self::Unreadable(meta) => Seen::Gone(meta),
        }
    }
}

impl<K> From<Read<K>> for Seen<K> {
    fn from(object: Read<K>) -> Self {
        match object {
            Read::Object(object) => Self::Now(object),
            Read::Unreadable(meta) => Self::Unreadable(meta),
        }
    }
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Read<K>
where
    K::DynamicType: Default,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        read(text.get()).map_err(D::Error::custom)
    }
}

fn read<K: Resource + DeserializeOwned>(text: &str) -> Result<Read<K>, serde_json::Error>
where
    K::DynamicType: Default,
{
    let short = without_managed_fields(text);
    let text = short.as_deref().unwrap_or(text);
    match serde_json::from_str::<K>(text) {
        Ok(mut object) => {
            let meta = object.meta_mut();
            meta.annotations.as_mut().and_then(|notes| notes.remove(LAST_APPLIED));
            // serde leaves room for four.
            meta.owner_references.as_mut().into_iter().for_each(Vec::shrink_to_fit);
            meta.finalizers.as_mut().into_iter().for_each(Vec::shrink_to_fit);
            Ok(Read::Object(Box::new(object)))
        }
        Err(error) => {
            let Named { metadata } = serde_json::from_str(text)?;
            let of = K::DynamicType::default();
            let kind = K::kind(&of);
            let (namespace, name) = (&metadata.namespace, &metadata.name);
            warn!(%kind, namespace, name, %error, "An object does not fit its type; nothing of it is touched");
            Ok(Read::Unreadable(Box::new(metadata)))
        }
    }
}

/// An object of which only that much can be read.
#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

/// The object without its managed fields, if it has any.
fn without_managed_fields(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Outline<'a> {
        #[serde(borrow)]
        metadata: Metadata<'a>,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, rename = "managedFields")]
        managed_fields: &'a RawValue,
    }
    // Most objects of the embedded API have none, and looking for the word is cheaper.
    if !text.contains(MANAGED_FIELDS) {
        return None;
    }
    let fields = serde_json::from_str::<Outline<'_>>(text).ok()?.metadata.managed_fields.get();
    let begin = (fields.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    Some([text.get(..begin)?, "null", text.get(begin + fields.len()..)?].concat())
}

#[cfg(test)]
mod tests {
    use crds::kubevirt::VirtualMachine;
    use kube::ResourceExt as _;
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: Value) -> Read<VirtualMachine> {
        let object = json!({
            "metadata": {
                "name": "web",
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
                "annotations": {LAST_APPLIED: "{}", "mine": "kept"},
                "uid": "u1",
            },
            "spec": spec,
        });
        serde_json::from_str(&object.to_string()).unwrap()
    }

    #[test]
    fn an_object_that_does_not_fit_its_type_is_known_by_its_metadata() {
        let Read::Unreadable(meta) = object(json!({ "running": "perhaps" })) else {
            panic!("it does not fit");
        };
        assert_eq!((meta.name.as_deref(), meta.managed_fields), (Some("web"), None));
    }

    #[test]
    fn what_nobody_reads_is_left_out_and_nothing_else() {
        let spec = json!({ "template": { "spec": { "domain": { "devices": {} } } } });
        let Read::Object(vm) = object(spec) else { panic!("it fits") };
        assert_eq!(vm.uid().as_deref(), Some("u1"), "what follows the managed fields is there");
        assert_eq!(vm.metadata.managed_fields, None);
        assert_eq!(vm.annotations().keys().collect::<Vec<_>>(), ["mine"]);
    }
}
