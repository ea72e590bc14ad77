//! What cloud-init finds on its drive; pure.
//!
//! | | NoCloud | ConfigDrive |
//! |---|---|---|
//! | label | `cidata` | `config-2` |
//! | metadata | `meta-data` | `openstack/latest/meta_data.json` |
//! | user data | `user-data` | `openstack/latest/user_data` |
//! | network | `network-config` | `openstack/latest/network_data.json` |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::kubevirt::{CloudInit, NameReference, VirtualMachineInstance};
use serde_json::{Value, json};

use super::iso::File;
use super::objects::Objects;
use super::{VolumeError, ssh_keys};
use crate::domain::{firmware_uuid, hostname};

/// The two layouts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    NoCloud,
    ConfigDrive,
}

impl Kind {
    /// The volume's field in the spec.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::NoCloud => "cloudInitNoCloud",
            Self::ConfigDrive => "cloudInitConfigDrive",
        }
    }

    /// The label by which cloud-init finds the drive.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::NoCloud => "cidata",
            Self::ConfigDrive => "config-2",
        }
    }
}

/// The files of a drive; `field` is where in the spec it is described.
pub(super) fn files(
    vmi: &VirtualMachineInstance,
    kind: Kind,
    source: &CloudInit,
    field: &str,
    objects: &Objects,
) -> Result<Vec<File>, VolumeError> {
    let user = Data {
        what: "userdata",
        text: source.user_data.as_deref(),
        base64: source.user_data_base64.as_deref(),
        secret: source.secret_ref.as_ref(),
        keys: ["userdata", "userData"],
    };
    let network = Data {
        what: "networkdata",
        text: source.network_data.as_deref(),
        base64: source.network_data_base64.as_deref(),
        secret: source.network_data_secret_ref.as_ref(),
        keys: ["networkdata", "networkData"],
    };
    let (user, network) = (user.read(field, objects)?, network.read(field, objects)?);
    let [meta_file, user_file, network_file] = match kind {
        Kind::NoCloud => ["meta-data", "user-data", "network-config"],
        Kind::ConfigDrive => [
            "openstack/latest/meta_data.json",
            "openstack/latest/user_data",
            "openstack/latest/network_data.json",
        ],
    };
    // NoCloud takes a drive without user data for none at all.
    let user = File::new(user_file, user.unwrap_or_default());
    let network = network.map(|network| File::new(network_file, network));
    let keys = ssh_keys::of(vmi, kind, objects)?;
    let meta = File::new(meta_file, metadata(vmi, kind, &keys).to_string());
    Ok([meta, user].into_iter().chain(network).collect())
}

fn metadata(vmi: &VirtualMachineInstance, kind: Kind, keys: &[String]) -> Value {
    let (uuid, hostname) = (firmware_uuid(vmi), hostname(vmi));
    let (mut metadata, name_of_keys) = match kind {
        Kind::NoCloud => {
            let mut metadata = json!({ "instance-id": uuid, "local-hostname": hostname });
            if let Some(name) = instancetype(vmi) {
                metadata["instance-type"] = name.into();
            }
            (metadata, "public-keys")
        }
        Kind::ConfigDrive => {
            let name = vmi.metadata.name.as_deref().unwrap_or_default();
            let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
            let mut metadata = json!({
                "instance_id": format!("{name}.{namespace}"),
                "uuid": uuid,
                "hostname": hostname,
                "local_hostname": hostname,
            });
            if let Some(name) = instancetype(vmi) {
                metadata["instance_type"] = name.into();
            }
            (metadata, "public_keys")
        }
    };
    if !keys.is_empty() {
        let numbered =
            keys.iter().enumerate().map(|(at, key)| (at.to_string(), key.clone().into()));
        metadata[name_of_keys] = Value::Object(numbered.collect());
    }
    metadata
}

/// The instancetype that the instance was made with: its namespace's, or else the cluster's.
fn instancetype(vmi: &VirtualMachineInstance) -> Option<&str> {
    let notes = vmi.metadata.annotations.as_ref()?;
    let names = ["kubevirt.io/instancetype-name", "kubevirt.io/cluster-instancetype-name"];
    names.into_iter().find_map(|name| notes.get(name)).map(String::as_str)
}

/// The three ways to give one piece of data, of which the spec has one at most.
struct Data<'a> {
    what: &'static str,
    text: Option<&'a str>,
    base64: Option<&'a str>,
    secret: Option<&'a NameReference>,
    keys: [&'static str; 2],
}

impl Data<'_> {
    fn read(&self, field: &str, objects: &Objects) -> Result<Option<Vec<u8>>, VolumeError> {
        let text = self.text.filter(|text| !text.is_empty());
        let base64 = self.base64.filter(|text| !text.is_empty());
        match (text, base64, self.secret) {
            (Some(text), ..) => Ok(Some(text.as_bytes().to_vec())),
            (None, Some(text), _) => {
                let compact: String = text.split_whitespace().collect();
                let rule = |_| VolumeError::invalid(field, format!("{} is not base64", self.what));
                STANDARD.decode(compact).map(Some).map_err(rule)
            }
            (None, None, Some(secret)) => objects.value(secret, self.keys, field).map(Some),
            (None, None, None) => Ok(None),
        }
    }
}
