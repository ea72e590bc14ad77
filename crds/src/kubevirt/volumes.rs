//! Where an instance's disks come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Quantity, Rest, exact};

/// One volume: a name and exactly one source. A disk of the same name puts it
/// before the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The name a disk refers to.
    pub name: String,
    /// An image in a registry; changes are lost when the instance ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_disk: Option<ContainerDisk>,
    /// An ISO labelled `cidata` for cloud-init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init_no_cloud: Option<CloudInit>,
    /// An ISO labelled `config-2` for cloud-init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init_config_drive: Option<CloudInit>,
    /// An empty disk that lives as long as the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_disk: Option<EmptyDisk>,
    /// A file of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_disk: Option<HostDisk>,
    /// A persistent volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    /// The claim that a DataVolume fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<DataVolumeSource>,
    /// A claim under a layer that is lost when the instance ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
    /// The entries of a ConfigMap as files on an ISO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<FilesSource>,
    /// The entries of a Secret as files on an ISO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<FilesSource>,
    /// Fields of the instance as files on an ISO.
    #[serde(default, rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<DownwardApiSource>,
    /// How a service account logs in, as files on an ISO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSource>,
    /// The answers that Windows' setup asks for, on an ISO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sysprep: Option<SysprepSource>,
    /// Sources this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Volume {
    /// Whether what the guest writes stays when the instance ends.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.host_disk.is_some()
            || self.persistent_volume_claim.is_some()
            || self.data_volume.is_some()
    }

    /// Whether the volume may come and go while the guest runs.
    #[must_use]
    pub fn is_hotpluggable(&self) -> bool {
        let claim = self.persistent_volume_claim.as_ref().and_then(|one| one.hotpluggable);
        let filled = self.data_volume.as_ref().and_then(|one| one.hotpluggable);
        claim.or(filled).unwrap_or(false)
    }

    /// The claim that the volume lies on, and whether it is that of a DataVolume.
    #[must_use]
    pub fn claim(&self) -> Option<(&str, bool)> {
        let ephemeral =
            self.ephemeral.as_ref().and_then(|one| one.persistent_volume_claim.as_ref());
        let claim = self.persistent_volume_claim.as_ref().or(ephemeral);
        let of_data_volume = self.data_volume.as_ref().map(|one| (one.name.as_str(), true));
        claim.map(|claim| (claim.claim_name.as_str(), false)).or(of_data_volume)
    }
}

/// An OCI image that holds exactly one disk under `/disk`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDisk {
    /// The image reference.
    pub image: String,
    /// Path of the disk in the image; absent: the only file under `/disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A Secret with a login for the image's registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`; absent: `Always` for the tag `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// User data, network data, each inline, base64 or in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudInit {
    /// User data as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// User data in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_base64: Option<String>,
    /// A Secret with user data under `userdata` or `userData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameReference>,
    /// Network configuration as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_data: Option<String>,
    /// Network configuration in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_data_base64: Option<String>,
    /// A Secret with network configuration under `networkdata` or `networkData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_data_secret_ref: Option<NameReference>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The name of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameReference {
    /// The object's name.
    #[serde(default)]
    pub name: String,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An empty disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDisk {
    /// Its size.
    pub capacity: Quantity,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A raw disk file on the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostDisk {
    /// Absolute path on the node.
    pub path: String,
    /// `Disk`: must exist. `DiskOrCreate`: made sparse with `capacity` if absent.
    pub r#type: String,
    /// Size of a file that has to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// Whether several instances use it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A persistent volume claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSource {
    /// The claim's name.
    pub claim_name: String,
    /// Whether the guest may only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Whether it comes and goes while the guest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotpluggable: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The claim of a DataVolume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeSource {
    /// Name of the DataVolume and of its claim.
    pub name: String,
    /// Whether it comes and goes while the guest runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotpluggable: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A claim under a layer of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ephemeral {
    /// The claim underneath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Files from a ConfigMap (`name`) or a Secret (`secretName`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesSource {
    /// The ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Whether a missing object is no error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Label of the ISO, `cfgdata` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_label: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Fields of the instance, each as a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownwardApiSource {
    /// Which field under which path.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<DownwardApiFile>,
    /// Label of the ISO, `cfgdata` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_label: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One field as a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownwardApiFile {
    /// Relative path of the file.
    #[serde(default)]
    pub path: String,
    /// The field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldReference>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A field of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldReference {
    /// `metadata.name`, `metadata.labels['app']` …
    #[serde(default)]
    pub field_path: String,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A service account of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountSource {
    /// Its name.
    #[serde(default)]
    pub service_account_name: String,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Exactly one of a ConfigMap and a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SysprepSource {
    /// The ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<NameReference>,
    /// The Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NameReference>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
