//! Volumes by themselves. What they name may be absent, which is nothing of theirs.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::names::not_a_label;
use crate::cause::Cause;
use crate::kubevirt::{CloudInit, HostDisk, NameReference, Volume};

/// What may be written into the spec itself, in bytes.
const INLINE_LIMIT: usize = 2048;

/// What of these volumes cannot be; `path` is that of their list.
#[must_use]
pub fn of_volumes(volumes: &[Volume], path: &str) -> Vec<Cause> {
    let mut known = BTreeMap::new();
    let mut found = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        let field = format!("{path}[{at}]");
        if let Some(other) = known.get(volume.name.as_str()) {
            let text = format!("{field} and {path}[{other}] must not have the same Name.");
            found.push(Cause::invalid(format!("{field}.name"), text));
        } else {
            known.insert(volume.name.as_str(), at);
        }
        if let Some(wrong) = not_a_label(&volume.name) {
            found.push(Cause::invalid(format!("{field}.name"), wrong));
        }
        if sources(volume) != 1 {
            let text = format!("{field} must have exactly one source type set");
            found.push(Cause::invalid(&field, text));
        }
        found.extend(required(volume, &field));
        let drives = [
            ("cloudInitNoCloud", &volume.cloud_init_no_cloud),
            ("cloudInitConfigDrive", &volume.cloud_init_config_drive),
        ];
        for (kind, drive) in drives {
            let drive = drive.as_ref();
            found.extend(
                drive.map(|one| cloud_init(one, &format!("{field}.{kind}"))).unwrap_or_default(),
            );
        }
        let disk = volume.host_disk.as_ref();
        found.extend(
            disk.map(|one| host_disk(one, &format!("{field}.hostDisk"))).unwrap_or_default(),
        );
    }
    if volumes.iter().filter(|volume| volume.service_account.is_some()).count() > 1 {
        let text = format!("{path} must have max one serviceAccount volume set");
        found.push(Cause::invalid(path, text));
    }
    found
}

fn sources(volume: &Volume) -> usize {
    let named = [
        volume.container_disk.is_some(),
        volume.cloud_init_no_cloud.is_some(),
        volume.cloud_init_config_drive.is_some(),
        volume.empty_disk.is_some(),
        volume.host_disk.is_some(),
        volume.persistent_volume_claim.is_some(),
        volume.data_volume.is_some(),
        volume.ephemeral.is_some(),
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.downward_api.is_some(),
        volume.service_account.is_some(),
        volume.sysprep.is_some(),
    ];
    let others = volume.rest.values().filter(|source| !source.is_null()).count();
    named.into_iter().filter(|is_set| *is_set).count() + others
}

/// Names that must be written.
fn required(volume: &Volume, field: &str) -> Vec<Cause> {
    let is_empty = |name: &Option<String>| name.as_deref().unwrap_or_default().is_empty();
    let claim = volume.persistent_volume_claim.as_ref();
    let ephemeral = volume.ephemeral.as_ref();
    let below = ephemeral.map(|one| one.persistent_volume_claim.as_ref());
    let fields = [
        ("configMap.name", volume.config_map.as_ref().map(|one| is_empty(&one.name))),
        ("secret.secretName", volume.secret.as_ref().map(|one| is_empty(&one.secret_name))),
        (
            "serviceAccount.serviceAccountName",
            volume.service_account.as_ref().map(|one| one.service_account_name.is_empty()),
        ),
        ("persistentVolumeClaim.claimName", claim.map(|one| one.claim_name.is_empty())),
        (
            "ephemeral.persistentVolumeClaim.claimName",
            below.map(|claim| claim.is_none_or(|one| one.claim_name.is_empty())),
        ),
    ];
    let absent = fields.into_iter().filter(|(_, is_empty)| *is_empty == Some(true));
    let mut found: Vec<Cause> = absent
        .map(|(name, _)| {
            let field = format!("{field}.{name}");
            let text = format!("{field} is a required field");
            Cause::invalid(field, text)
        })
        .collect();
    if volume.data_volume.as_ref().is_some_and(|one| one.name.is_empty()) {
        found.push(Cause::required(format!("{field}.name"), "DataVolume 'name' must be set"));
    }
    found
}

/// One of the two things that a drive has, in the ways in which it may be given.
struct Data<'a> {
    /// How it is called in a message.
    what: &'static str,
    /// The field of it in base64.
    field: &'static str,
    /// What more than one of it is called.
    several: &'static str,
    /// What to use for more than fits.
    hint: &'static str,
    text: &'a Option<String>,
    base64: &'a Option<String>,
    secret: Option<&'a NameReference>,
}

fn cloud_init(drive: &CloudInit, field: &str) -> Vec<Cause> {
    let user = Data {
        what: "userdata",
        field: "userDataBase64",
        several: "userdatasource",
        hint: "UserDataSecretRef",
        text: &drive.user_data,
        base64: &drive.user_data_base64,
        secret: drive.secret_ref.as_ref(),
    };
    let network = Data {
        what: "networkdata",
        field: "networkDataBase64",
        several: "networkdata source",
        hint: "NetworkDataSecretRef",
        text: &drive.network_data,
        base64: &drive.network_data_base64,
        secret: drive.network_data_secret_ref.as_ref(),
    };
    let given = user.sources() + network.sources();
    let mut found = [user.check(field), network.check(field)].concat();
    if given == 0 {
        let text =
            format!("{field} must have at least one userdatasource or one networkdatasource set.");
        found.push(Cause::invalid(field, text));
    }
    found
}

impl Data<'_> {
    fn sources(&self) -> usize {
        let inline = [self.text, self.base64];
        let inline = inline.into_iter().flatten().filter(|text| !text.is_empty()).count();
        inline + usize::from(self.secret.is_some())
    }

    fn check(&self, field: &str) -> Vec<Cause> {
        let mut found = Vec::new();
        if self.sources() > 1 {
            let text = format!("{field} must have only one {} set.", self.several);
            found.push(Cause::invalid(field, text));
        }
        let mut length = self.text.as_ref().map_or(0, String::len);
        if let Some(base64) = self.base64 {
            let compact: String = base64.split_whitespace().collect();
            match STANDARD.decode(compact) {
                Ok(bytes) => length = length.max(bytes.len()),
                Err(_) => {
                    let field = format!("{field}.{}", self.field);
                    let text = format!("{field} is not a valid base64 value.");
                    found.push(Cause::invalid(field, text));
                }
            }
        }
        if length > INLINE_LIMIT {
            let text = format!(
                "{field} {} exceeds {INLINE_LIMIT} byte limit. Should use {} for larger data.",
                self.what, self.hint
            );
            found.push(Cause::invalid(field, text));
        }
        found
    }
}

/// Whether there may be such disks at all is the node's to say.
fn host_disk(disk: &HostDisk, field: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let (path, kind, capacity) =
        (format!("{field}.path"), format!("{field}.type"), format!("{field}.capacity"));
    if disk.path.is_empty() {
        found.push(Cause::required(&path, format!("{path} is required for hostDisk volume")));
    }
    let size = disk.capacity.as_ref().map(crate::kubevirt::Quantity::units);
    match (disk.r#type.as_str(), size) {
        (_, Some(Err(error))) => {
            found.push(Cause::invalid(&capacity, format!("{capacity} is wrong: {error}")));
        }
        ("Disk", Some(Ok(1..))) => {
            let text =
                format!("{capacity} is allowed to pass only with {kind} equal to 'DiskOrCreate'");
            found.push(Cause::invalid(capacity, text));
        }
        ("Disk" | "DiskOrCreate", _) => {}
        (other, _) => {
            let text =
                format!("{kind} has invalid value '{other}', allowed are 'Disk' or 'DiskOrCreate'");
            found.push(Cause::invalid(kind, text));
        }
    }
    found
}
