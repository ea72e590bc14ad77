//! Objects of one kind as a watch tells of them.
//!
//! An object that does not fit its type is there all the same: taking it for gone
//! would give its addresses to others. It stays on the shelf by its metadata, and
//! nothing is done for it until somebody repairs or deletes it.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

/// What a watch says of one kind.
#[derive(Clone, Debug)]
pub enum Seen<K> {
    /// All that there is; what is not named is gone.
    All {
        /// Those that fit their type.
        objects: Vec<K>,
        /// Those that do not.
        unreadable: Vec<ObjectMeta>,
    },
    /// One object as it now is.
    Now(Box<K>),
    /// One object does not fit its type, as it now is.
    Unreadable(Box<ObjectMeta>),
    /// One object is gone.
    Gone(Box<ObjectMeta>),
}

impl<K: Resource> Seen<K> {
    /// All that there is fits its type.
    #[must_use]
    pub const fn all(objects: Vec<K>) -> Self {
        Self::All { objects, unreadable: Vec::new() }
    }

    /// The versions of all that it tells of.
    fn versions(&self) -> impl Iterator<Item = u64> {
        let (objects, metas): (&[K], &[ObjectMeta]) = match self {
            Self::All { objects, unreadable } => (objects, unreadable),
            Self::Now(object) => (std::slice::from_ref(object), &[]),
            Self::Unreadable(meta) | Self::Gone(meta) => (&[], std::slice::from_ref(meta)),
        };
        objects.iter().map(Resource::meta).chain(metas).map(version)
    }

    /// This one is gone.
    pub fn gone(object: &K) -> Self {
        Self::Gone(Box::new(object.meta().clone()))
    }
}

/// Objects of one kind by key, with those of ours that a watch has yet to echo.
#[derive(Debug)]
pub struct Shelf<Key, K> {
    objects: HashMap<Key, Arc<K>>,
    unreadable: HashMap<Key, ObjectMeta>,
    /// The newest version that the watch has told of, be it of what is gone.
    told: u64,
    synced: bool,
}

impl<Key, K> Default for Shelf<Key, K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), unreadable: HashMap::new(), told: 0, synced: false }
    }
}

/// An object before and after. One of the two is absent when it came or went, both
/// when it was never readable.
pub type Change<Key, K> = (Key, Option<Arc<K>>, Option<Arc<K>>);

impl<Key: Clone + Eq + std::hash::Hash, K: Resource + Clone> Shelf<Key, K> {
    /// The object with this key, if it is there and can be read.
    pub fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// All that can be read, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<K>)> {
        self.objects.iter()
    }

    /// All that cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = (&Key, &ObjectMeta)> {
        self.unreadable.iter()
    }

    /// Whether the object with this key is there and cannot be read.
    pub fn is_unreadable(&self, key: &Key) -> bool {
        self.unreadable.contains_key(key)
    }

    /// All that is there.
    pub fn metas(&self) -> impl Iterator<Item = (&Key, &ObjectMeta)> {
        self.objects.iter().map(|(key, object)| (key, object.meta())).chain(&self.unreadable)
    }

    /// The metadata of the object with this key, if it is there.
    pub fn meta(&self, key: &Key) -> Option<&ObjectMeta> {
        self.objects.get(key).map(|object| object.meta()).or_else(|| self.unreadable.get(key))
    }

    /// Whether all that there is has been told.
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Takes in what a watch saw.
    pub fn apply(
        &mut self,
        seen: Seen<K>,
        key_of: impl Fn(&ObjectMeta) -> Key,
    ) -> Vec<Change<Key, K>> {
        self.told = seen.versions().max().map_or(self.told, |newest| self.told.max(newest));
        match seen {
            Seen::Now(object) => self.place(key_of(object.meta()), *object).into_iter().collect(),
            Seen::Unreadable(meta) => {
                let key = key_of(&meta);
                if !self.is_newer(&key, &meta) {
                    return Vec::new();
                }
                let old = self.objects.remove(&key);
                self.unreadable.insert(key.clone(), *meta);
                vec![(key, old, None)]
            }
            Seen::Gone(meta) => {
                let key = key_of(&meta);
                // A successor of the same name may have been put in already.
                let same = self.meta(&key).is_some_and(|held| held.uid == meta.uid);
                if same { self.remove(&key).into_iter().collect() } else { Vec::new() }
            }
            Seen::All { objects, unreadable } => {
                self.synced = true;
                let mut old = std::mem::take(&mut self.objects);
                let mut unclear = std::mem::take(&mut self.unreadable);
                let mut changes = Vec::new();
                for object in objects {
                    let key = key_of(object.meta());
                    let object = Arc::new(object);
                    unclear.remove(&key);
                    let before = old.remove(&key);
                    self.objects.insert(key.clone(), Arc::clone(&object));
                    changes.push((key, before, Some(object)));
                }
                for meta in unreadable {
                    let key = key_of(&meta);
                    unclear.remove(&key);
                    changes.push((key.clone(), old.remove(&key), None));
                    self.unreadable.insert(key, meta);
                }
                changes.extend(old.into_iter().map(|(key, object)| (key, Some(object), None)));
                changes.extend(unclear.into_keys().map(|key| (key, None, None)));
                changes
            }
        }
    }

    /// Puts in an answer of the API, unless it is older than the object held, or than the
    /// news that the object is gone: an answer may come after what its watch told since.
    pub fn put(&mut self, key: Key, object: K) -> Option<Change<Key, K>> {
        if self.meta(&key).is_none() && version(object.meta()) < self.told {
            return None;
        }
        self.place(key, object)
    }

    fn place(&mut self, key: Key, mut object: K) -> Option<Change<Key, K>> {
        if !self.is_newer(&key, object.meta()) {
            return None;
        }
        // An answer of the API has them; nobody here reads them, and they are large.
        object.meta_mut().managed_fields = None;
        self.unreadable.remove(&key);
        let object = Arc::new(object);
        let old = self.objects.insert(key.clone(), Arc::clone(&object));
        Some((key, old, Some(object)))
    }

    /// Puts in newer metadata of the object held, whose other parts are the same.
    pub fn put_meta(&mut self, key: Key, meta: ObjectMeta) -> Option<Change<Key, K>> {
        if let Some(object) = self.objects.get(&key) {
            let mut object = K::clone(object);
            *object.meta_mut() = meta;
            return self.put(key, object);
        }
        if self.is_unreadable(&key) && self.is_newer(&key, &meta) {
            self.unreadable.insert(key, meta);
        }
        None
    }

    /// Takes out the object with this key.
    pub fn remove(&mut self, key: &Key) -> Option<Change<Key, K>> {
        let unreadable = self.unreadable.remove(key).is_some();
        let old = self.objects.remove(key);
        (unreadable || old.is_some()).then(|| (key.clone(), old, None))
    }

    fn is_newer(&self, key: &Key, meta: &ObjectMeta) -> bool {
        self.meta(key).is_none_or(|held| version(held) < version(meta))
    }
}

/// Versions are opaque by contract and numbers in fact.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_ref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::Vpc;

    use super::*;

    fn vpc(version: &str) -> Vpc {
        let mut vpc = Vpc::new("v", Default::default());
        vpc.metadata.resource_version = Some(version.to_owned());
        vpc
    }

    #[test]
    fn an_answer_older_than_the_news_that_the_object_is_gone_brings_nothing_back() {
        let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
        let mut shelf = Shelf::default();
        shelf.apply(Seen::Now(Box::new(vpc("9"))), name);
        shelf.apply(Seen::gone(&vpc("11")), name);
        assert!(
            shelf.put("v".to_owned(), vpc("10")).is_none() && shelf.get(&"v".to_owned()).is_none()
        );
        assert!(shelf.put("v".to_owned(), vpc("12")).is_some(), "one made anew is there");
    }
}
