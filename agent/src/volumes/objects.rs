//! What volumes refer to in the API; fetched by the caller, never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crds::kubevirt::{CloudInit, NameReference, VirtualMachineInstance, Volume};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::VolumeError;
use crate::registry::Keyring;

/// Where each namespace has the certificate of its API.
pub const API_AUTHORITY: &str = "kube-root-ca.crt";

/// The names of what a VMI's volumes refer to, all in its own namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct References {
    pub secrets: BTreeSet<String>,
    pub config_maps: BTreeSet<String>,
    pub accounts: BTreeSet<String>,
    pub claims: BTreeSet<String>,
    /// Secrets with logins of registries.
    pub pull_secrets: BTreeSet<String>,
}

impl References {
    /// What has to be fetched for `vmi`. What cannot be had is left out of [`Objects`];
    /// `prepare` then says which volume asked for it.
    #[must_use]
    pub fn of(vmi: &VirtualMachineInstance) -> Self {
        let mut all = Self::default();
        vmi.spec.volumes.iter().for_each(|volume| all.add(volume));
        let keys = vmi.spec.access_credentials.iter().filter_map(|one| one.ssh_public_key.as_ref());
        let secrets = keys.filter_map(|keys| keys.source.secret.as_ref());
        all.secrets.extend(secrets.map(|secret| secret.secret_name.clone()));
        let firmware = vmi.spec.domain.firmware.as_ref();
        let kernel =
            firmware.and_then(|firmware| firmware.kernel_boot.as_ref()?.container.as_ref());
        all.pull_secrets.extend(kernel.and_then(|kernel| kernel.image_pull_secret.clone()));
        if !all.accounts.is_empty() {
            all.config_maps.insert(API_AUTHORITY.to_owned());
        }
        let Self { secrets, config_maps, accounts, claims, pull_secrets } = &mut all;
        for names in [secrets, config_maps, accounts, claims, pull_secrets] {
            names.retain(|name| !name.is_empty());
        }
        all
    }

    fn add(&mut self, volume: &Volume) {
        let of_cloud_init = |source: &CloudInit| {
            [source.secret_ref.clone(), source.network_data_secret_ref.clone()]
        };
        let cloud_inits = [&volume.cloud_init_no_cloud, &volume.cloud_init_config_drive];
        let references = cloud_inits.into_iter().flatten().flat_map(of_cloud_init);
        let sysprep = volume.sysprep.clone().unwrap_or_default();
        let references = references.chain([sysprep.secret]).flatten();
        self.secrets.extend(references.map(|reference| reference.name));
        self.secrets.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
        self.config_maps.extend(volume.config_map.as_ref().and_then(|map| map.name.clone()));
        self.config_maps.extend(sysprep.config_map.map(|reference| reference.name));
        let account = volume.service_account.as_ref();
        self.accounts.extend(account.map(|account| account.service_account_name.clone()));
        self.claims.extend(volume.claim().map(|(name, _)| name.to_owned()));
        let disk = volume.container_disk.as_ref();
        self.pull_secrets.extend(disk.and_then(|disk| disk.image_pull_secret.clone()));
    }
}

/// Named values of one object.
pub(super) type Entries = BTreeMap<String, Vec<u8>>;

/// What was found of the objects of one namespace, by kind and name.
#[derive(Clone, Default)]
pub struct Objects {
    secrets: BTreeMap<String, Entries>,
    config_maps: BTreeMap<String, Entries>,
    tokens: BTreeMap<String, String>,
    claims: BTreeMap<String, (PersistentVolumeClaim, Option<PersistentVolume>)>,
    /// By namespace and name: volumes name them wherever they are.
    logins: BTreeMap<(String, String), Entries>,
    keyring: Keyring,
}

/// Names and keys, no values.
impl fmt::Debug for Objects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |all: &BTreeMap<String, Entries>| {
            let keys =
                all.iter().map(|(name, data)| (name.clone(), data.keys().cloned().collect()));
            keys.collect::<BTreeMap<String, Vec<String>>>()
        };
        out.debug_struct("Objects")
            .field("secrets", &keys(&self.secrets))
            .field("config_maps", &keys(&self.config_maps))
            .field("tokens", &self.tokens.keys().collect::<Vec<_>>())
            .field("claims", &self.claims.keys().collect::<Vec<_>>())
            .field("logins", &self.logins.keys().collect::<Vec<_>>())
            .field("keyring", &self.keyring)
            .finish()
    }
}

impl Objects {
    /// Adds a Secret with its decoded data.
    pub fn insert_secret(&mut self, name: impl Into<String>, data: BTreeMap<String, Vec<u8>>) {
        self.secrets.insert(name.into(), data);
    }

    /// Adds a ConfigMap with its data, text or not.
    pub fn insert_config_map(&mut self, name: impl Into<String>, data: BTreeMap<String, Vec<u8>>) {
        self.config_maps.insert(name.into(), data);
    }

    /// Adds a token by which this service account logs in.
    pub fn insert_token(&mut self, account: impl Into<String>, token: String) {
        self.tokens.insert(account.into(), token);
    }

    /// Adds a claim and, if it is bound to one that is there, its volume.
    pub fn insert_claim(
        &mut self,
        name: impl Into<String>,
        claim: PersistentVolumeClaim,
        volume: Option<PersistentVolume>,
    ) {
        self.claims.insert(name.into(), (claim, volume));
    }

    /// Adds the Secret by which a volume's server is logged in to.
    pub fn insert_login(&mut self, namespace: &str, name: &str, data: BTreeMap<String, Vec<u8>>) {
        self.logins.insert((namespace.to_owned(), name.to_owned()), data);
    }

    /// Adds the logins of a pull Secret. As in a pod all of a VM's are for all of its images.
    pub fn insert_pull_secret(&mut self, name: &str, uid: &str, data: &BTreeMap<String, Vec<u8>>) {
        self.keyring.add(name, uid, data);
    }

    /// Notes that a pull Secret is not there: an image may be had without.
    pub fn miss_pull_secret(&mut self, name: &str) {
        self.keyring.miss(name);
    }

    pub(super) fn login(&self, namespace: &str, name: &str) -> Option<&Entries> {
        self.logins.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub(super) fn secret(&self, name: &str) -> Option<&Entries> {
        self.secrets.get(name)
    }

    pub(super) fn config_map(&self, name: &str) -> Option<&Entries> {
        self.config_maps.get(name)
    }

    pub(super) fn token(&self, account: &str) -> Option<&str> {
        self.tokens.get(account).map(String::as_str)
    }

    pub(crate) fn claim(
        &self,
        name: &str,
    ) -> Option<(&PersistentVolumeClaim, Option<&PersistentVolume>)> {
        self.claims.get(name).map(|(claim, volume)| (claim, volume.as_ref()))
    }

    /// The value under the first of these keys that the Secret has.
    pub(super) fn value(
        &self,
        reference: &NameReference,
        keys: [&str; 2],
        field: &str,
    ) -> Result<Vec<u8>, VolumeError> {
        let missing = |problem| VolumeError::Secret {
            field: field.to_owned(),
            name: reference.name.clone(),
            problem,
        };
        let data = self.secrets.get(&reference.name).ok_or_else(|| missing("does not exist"))?;
        let value = keys.iter().find_map(|key| data.get(*key));
        let problem = "has neither of the keys userdata and userData, \
                       or networkdata and networkData for network data";
        value.cloned().ok_or_else(|| missing(problem))
    }
}
