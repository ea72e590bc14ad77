//! What a name meant when it was last asked for, and for whom: so that an image which is here
//! need not be asked for again, and is given to nobody whom the registry would not give it to.
//!
//! What was pulled without a login is anybody's. What took one is for VMs that bring one of
//! the Secrets with which it was pulled before; others are let in by the registry itself
//! (the kubelet's `KubeletEnsureSecretPulledImages`).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::store::{Store, publish};
use crate::registry::{Digest, Keyring, MAX_JSON, Reference};

/// Secrets that are remembered of one image; who is forgotten asks the registry.
const MAX_SECRETS: usize = 64;

/// One name's record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Name {
    /// In full: two names may have one file only if their hashes are the same.
    pub(super) image: String,
    /// Of the manifest for this node.
    pub(super) digest: String,
    /// Whether the registry gave it to whoever asked.
    pub(super) public: bool,
    /// The uids of Secrets whose holders were given it, the latest last.
    pub(super) secrets: Vec<String>,
}

impl Name {
    /// The record of an image, if there is one that can be read. Blocks.
    pub(super) fn read(store: &Store, reference: &Reference) -> Option<Self> {
        let path = path(store, reference);
        let mut json = Vec::new();
        File::open(&path).ok()?.take(MAX_JSON).read_to_end(&mut json).ok()?;
        let name: Self = serde_json::from_slice(&json).ok()?;
        Store::touch(&path);
        (name.image == reference.to_string()).then_some(name)
    }

    /// Which image it is.
    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.digest)
    }

    /// Whether who has these Secrets may have it.
    pub(super) fn is_for(&self, keyring: &Keyring) -> bool {
        self.public || self.secrets.iter().any(|uid| keyring.secrets().contains(uid))
    }

    /// The record after the registry has given the image `digest` to who has `keyring`;
    /// `public`: without a login.
    pub(super) fn given(
        before: Option<Self>,
        reference: &Reference,
        digest: &Digest,
        public: bool,
        keyring: &Keyring,
    ) -> Self {
        let digest = digest.to_string();
        // Who may have had another image under this name has not been asked for this one.
        let mut secrets = before
            .filter(|name| name.digest == digest)
            .map(|name| name.secrets)
            .unwrap_or_default();
        if !public {
            secrets.retain(|uid| !keyring.secrets().contains(uid));
            secrets.extend_from_slice(keyring.secrets());
        }
        let most = secrets.len().saturating_sub(MAX_SECRETS);
        secrets.drain(..most);
        Self { image: reference.to_string(), digest, public, secrets }
    }

    /// Keeps it. Blocks.
    pub(super) fn write(&self, store: &Store, reference: &Reference) -> io::Result<()> {
        let path = path(store, reference);
        let partial = path.with_extension("partial");
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        let mut file = File::create(&partial)?;
        file.write_all(&json)?;
        file.sync_all()?;
        publish(&partial, &path).inspect_err(|_| drop(fs::remove_file(&partial)))
    }
}

fn path(store: &Store, reference: &Reference) -> PathBuf {
    store.names().join(Digest::of_bytes(reference.to_string().as_bytes()).hex())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn holding(uids: &[&str]) -> Keyring {
        let mut keyring = Keyring::default();
        for uid in uids {
            let text = br#"{"auths":{}}"#.to_vec();
            keyring.add("pull", uid, &BTreeMap::from([(".dockerconfigjson".to_owned(), text)]));
        }
        keyring
    }

    #[test]
    fn what_took_a_login_is_for_those_who_had_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned(), 1 << 20);
        store.make().unwrap();
        let reference = Reference::parse("reg.example/a:1").unwrap();
        assert_eq!(Name::read(&store, &reference), None);
        let (one, two) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        let name = Name::given(None, &reference, &one, false, &holding(&["u1"]));
        name.write(&store, &reference).unwrap();
        let read = Name::read(&store, &reference).unwrap();
        assert_eq!(read, name);
        assert!(read.is_for(&holding(&["u1", "u9"])));
        assert!(!read.is_for(&holding(&["u2"])) && !read.is_for(&Keyring::default()));
        let both = Name::given(Some(read), &reference, &one, false, &holding(&["u2"]));
        assert_eq!(both.secrets, ["u1", "u2"]);
        let moved = Name::given(Some(both.clone()), &reference, &two, false, &holding(&["u2"]));
        assert_eq!(moved.secrets, ["u2"], "another image");
        let public = Name::given(Some(both), &reference, &one, true, &holding(&[]));
        assert!(public.is_for(&Keyring::default()));
    }
}
