//! The Secrets that volumes refer to; fetched by the caller, never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crds::kubevirt::{CloudInit, FilesSource, NameReference, VirtualMachineInstance};

use super::VolumeError;
use super::iso::File;

/// Secrets of one namespace by name.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, BTreeMap<String, Vec<u8>>>);

/// Names and keys, no values.
impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().map(|(name, data)| (name, data.keys().collect::<Vec<_>>()));
        out.debug_map().entries(keys).finish()
    }
}

/// The Secrets that a VMI's volumes need, all in its own namespace.
///
/// One that cannot be had is left out of [`Secrets`]; `prepare` then says which
/// field asked for it.
#[must_use]
pub fn secret_names(vmi: &VirtualMachineInstance) -> BTreeSet<String> {
    let of_cloud_init =
        |source: &CloudInit| [source.secret_ref.clone(), source.network_data_secret_ref.clone()];
    let of_volume = |volume: &crds::kubevirt::Volume| {
        let cloud_inits = [&volume.cloud_init_no_cloud, &volume.cloud_init_config_drive];
        let references = cloud_inits.into_iter().flatten().flat_map(of_cloud_init).flatten();
        let names: Vec<_> = references
            .map(|reference| reference.name)
            .chain(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()))
            .collect();
        names
    };
    vmi.spec.volumes.iter().flat_map(of_volume).filter(|name| !name.is_empty()).collect()
}

impl Secrets {
    /// Adds a Secret with its decoded data.
    pub fn insert(&mut self, name: impl Into<String>, data: BTreeMap<String, Vec<u8>>) {
        self.0.insert(name.into(), data);
    }

    /// The value under the first of these keys that the Secret has.
    pub(super) fn value(
        &self,
        reference: &NameReference,
        keys: [&str; 2],
        field: &str,
    ) -> Result<Vec<u8>, VolumeError> {
        let data = self.0.get(&reference.name);
        let data = data.ok_or_else(|| missing(field, &reference.name, NOT_THERE))?;
        let value = keys.iter().find_map(|key| data.get(*key));
        let problem = "has neither of the keys userdata and userData, \
                       or networkdata and networkData for network data";
        value.cloned().ok_or_else(|| missing(field, &reference.name, problem))
    }

    /// One file for each key.
    pub(super) fn files(
        &self,
        source: &FilesSource,
        field: &str,
    ) -> Result<Vec<File>, VolumeError> {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let empty = BTreeMap::new();
        let data = match self.0.get(name) {
            Some(data) => data,
            None if source.optional.unwrap_or(false) => &empty,
            None => return Err(missing(field, name, NOT_THERE)),
        };
        let is_file_name = |key: &str| !key.contains('/') && !matches!(key, "" | "." | "..");
        if !data.keys().all(|key| is_file_name(key)) {
            return Err(missing(field, name, "has a key that cannot be a file name"));
        }
        Ok(data.iter().map(|(key, value)| File::new(key, value.clone())).collect())
    }
}

const NOT_THERE: &str = "does not exist";

fn missing(field: &str, name: &str, problem: &'static str) -> VolumeError {
    VolumeError::Secret { field: field.to_owned(), name: name.to_owned(), problem }
}
