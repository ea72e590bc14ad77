//! What the spec of an instance asks for and does not get, so that it can be told: when it is
//! written, and on the instance.

use serde_json::Value;

use super::{Rest, VirtualMachineInstanceSpec, Volume};

/// The paths of fields that are set and have no effect, sorted; `path` is that of the spec.
///
/// Fields that only say where a VM runs are no part of its hardware and do not appear. Wrong
/// values of fields that do have an effect are [`faults`](super::faults) instead.
#[must_use]
pub fn ignored(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<String> {
    let mut fields = Fields::default();
    fields.unknown(path, &spec.rest, &ELSEWHERE);
    credentials(&mut fields, spec, path);
    probes(&mut fields, spec, path);
    hardware(&mut fields, spec, &format!("{path}.domain"));
    devices(&mut fields, spec, &format!("{path}.domain.devices"));
    for (at, volume) in spec.volumes.iter().enumerate() {
        let path = format!("{path}.volumes[{at}]");
        for (name, rest) in rests(volume) {
            fields.unknown(&format!("{path}.{name}"), rest, &[]);
        }
    }
    fields.0.sort();
    fields.0
}

/// Of `accessCredentials`, what no drive takes to the guest.
fn credentials(fields: &mut Fields, spec: &VirtualMachineInstanceSpec, path: &str) {
    let volumes = &spec.volumes;
    let no_cloud = volumes.iter().any(|volume| volume.cloud_init_no_cloud.is_some());
    let config_drive = volumes.iter().any(|volume| volume.cloud_init_config_drive.is_some());
    for (at, credential) in spec.access_credentials.iter().enumerate() {
        let path = format!("{path}.accessCredentials[{at}]");
        fields.unknown(&path, &credential.rest, &[]);
        let Some(keys) = &credential.ssh_public_key else { continue };
        let method = &keys.propagation_method;
        let path = format!("{path}.sshPublicKey");
        fields.unknown(&path, &keys.rest, &[]);
        fields.unknown(&format!("{path}.source"), &keys.source.rest, &[]);
        let path = format!("{path}.propagationMethod");
        fields.unknown(&path, &method.rest, &[]);
        fields.when(&format!("{path}.noCloud"), method.no_cloud.is_some() && !no_cloud);
        fields.when(&format!("{path}.configDrive"), method.config_drive.is_some() && !config_drive);
    }
}

/// What the sources of a volume say that no type names, each with its field.
fn rests(volume: &Volume) -> Vec<(&'static str, &Rest)> {
    let ephemeral = volume.ephemeral.as_ref();
    let below = ephemeral.and_then(|source| source.persistent_volume_claim.as_ref());
    [
        ("containerDisk", volume.container_disk.as_ref().map(|one| &one.rest)),
        ("cloudInitNoCloud", volume.cloud_init_no_cloud.as_ref().map(|one| &one.rest)),
        ("cloudInitConfigDrive", volume.cloud_init_config_drive.as_ref().map(|one| &one.rest)),
        ("emptyDisk", volume.empty_disk.as_ref().map(|one| &one.rest)),
        ("hostDisk", volume.host_disk.as_ref().map(|one| &one.rest)),
        ("persistentVolumeClaim", volume.persistent_volume_claim.as_ref().map(|one| &one.rest)),
        ("dataVolume", volume.data_volume.as_ref().map(|one| &one.rest)),
        ("ephemeral", ephemeral.map(|one| &one.rest)),
        ("ephemeral.persistentVolumeClaim", below.map(|one| &one.rest)),
        ("configMap", volume.config_map.as_ref().map(|one| &one.rest)),
        ("secret", volume.secret.as_ref().map(|one| &one.rest)),
        ("downwardAPI", volume.downward_api.as_ref().map(|one| &one.rest)),
        ("serviceAccount", volume.service_account.as_ref().map(|one| &one.rest)),
        ("sysprep", volume.sysprep.as_ref().map(|one| &one.rest)),
    ]
    .into_iter()
    .filter_map(|(name, rest)| Some((name, rest?)))
    .collect()
}

/// Fields of the spec that no type names and that placement goes by.
const ELSEWHERE: [&str; 3] = ["affinity", "tolerations", "topologySpreadConstraints"];

/// Of `features.hyperv`, what there is.
const HYPERV: [&str; 14] = [
    "relaxed",
    "vapic",
    "spinlocks",
    "vpindex",
    "runtime",
    "synic",
    "synictimer",
    "reset",
    "vendorid",
    "frequencies",
    "reenlightenment",
    "tlbflush",
    "ipi",
    "evmcs",
];

fn probes(fields: &mut Fields, spec: &VirtualMachineInstanceSpec, path: &str) {
    for (name, probe) in spec.probes() {
        let path = format!("{path}.{name}");
        fields.unknown(&path, &probe.rest, &[]);
        let kinds = [
            ("exec", probe.exec.as_ref().map(|one| &one.rest)),
            ("httpGet", probe.http_get.as_ref().map(|one| &one.rest)),
            ("tcpSocket", probe.tcp_socket.as_ref().map(|one| &one.rest)),
        ];
        for (kind, rest) in kinds {
            if let Some(rest) = rest {
                fields.unknown(&format!("{path}.{kind}"), rest, &[]);
            }
        }
    }
}

/// `domain` without its devices.
fn hardware(fields: &mut Fields, spec: &VirtualMachineInstanceSpec, path: &str) {
    let domain = &spec.domain;
    fields.unknown(path, &domain.rest, &[]);
    let pool = domain.io_threads_policy.as_deref() == Some("supplementalPool");
    fields.when(&format!("{path}.ioThreadsPolicy"), pool);
    if let Some(cpu) = &domain.cpu {
        fields.unknown(&format!("{path}.cpu"), &cpu.rest, &[]);
        if let Some(numa) = &cpu.numa {
            fields.unknown(&format!("{path}.cpu.numa"), &numa.rest, &[]);
        }
        if let Some(realtime) = &cpu.realtime {
            fields.unknown(&format!("{path}.cpu.realtime"), &realtime.rest, &[]);
        }
    }
    if let Some(memory) = &domain.memory {
        fields.unknown(&format!("{path}.memory"), &memory.rest, &[]);
    }
    if let Some(resources) = &domain.resources {
        fields.unknown(&format!("{path}.resources"), &resources.rest, &[]);
    }
    if let Some(firmware) = &domain.firmware {
        fields.unknown(&format!("{path}.firmware"), &firmware.rest, &[]);
        if let Some(boot) = &firmware.kernel_boot {
            let path = format!("{path}.firmware.kernelBoot");
            fields.unknown(&path, &boot.rest, &[]);
            if let Some(container) = &boot.container {
                fields.unknown(&format!("{path}.container"), &container.rest, &[]);
            }
        }
    }
    if let Some(features) = &domain.features {
        let known = ["acpi", "apic", "hyperv", "hypervPassthrough", "kvm", "pvspinlock", "smm"];
        let path = format!("{path}.features");
        fields.unknown(&path, &features.0, &known);
        hyperv(fields, &features.0, &format!("{path}.hyperv"));
    }
}

/// What a guest that looks for Hyper-V finds: all or nothing of each.
fn hyperv(fields: &mut Fields, features: &Rest, path: &str) {
    let Some(Value::Object(all)) = features.get("hyperv") else { return };
    for (name, said) in all.iter().filter(|(_, said)| !is_empty(said)) {
        let path = format!("{path}.{name}");
        fields.when(&path, !HYPERV.contains(&name.as_str()));
        if name == "tlbflush" {
            let parts = ["direct", "extended"].into_iter();
            let set = parts.filter(|part| said.get(*part).is_some_and(|part| !is_empty(part)));
            fields.0.extend(set.map(|part| format!("{path}.{part}")));
        }
    }
}

fn devices(fields: &mut Fields, spec: &VirtualMachineInstanceSpec, path: &str) {
    const LOG: &str = "logSerialConsole";
    let devices = &spec.domain.devices;
    fields.unknown(path, &devices.rest, &[LOG]);
    // The console is always logged.
    let unlogged = devices.rest.get(LOG) == Some(&Value::Bool(false));
    fields.when(&format!("{path}.{LOG}"), unlogged);
    for (at, disk) in devices.disks.iter().enumerate() {
        let path = format!("{path}.disks[{at}]");
        fields.unknown(&path, &disk.rest, &[]);
        if let Some(size) = &disk.block_size {
            fields.unknown(&format!("{path}.blockSize"), &size.rest, &[]);
            let custom = size.custom.as_ref().map(|custom| &custom.rest);
            let nothing = Rest::new();
            let custom = custom.unwrap_or(&nothing);
            fields.unknown(&format!("{path}.blockSize.custom"), custom, &[]);
        }
        let stays = spec.volumes.iter().any(|one| one.name == disk.name && one.is_kept());
        fields.when(&format!("{path}.shareable"), disk.shareable.unwrap_or(false) && !stays);
        for (name, device) in [("disk", &disk.disk), ("cdrom", &disk.cdrom), ("lun", &disk.lun)] {
            if let Some(device) = device {
                fields.unknown(&format!("{path}.{name}"), &device.rest, &[]);
            }
        }
    }
    for (at, interface) in devices.interfaces.iter().enumerate() {
        let path = format!("{path}.interfaces[{at}]");
        fields.unknown(&path, &interface.rest, &[]);
        if let Some(options) = &interface.dhcp_options {
            fields.unknown(&format!("{path}.dhcpOptions"), &options.rest, &[]);
        }
        // Served as `bridge`: the guest has its own address, and needs no NAT.
        fields.when(&format!("{path}.masquerade"), interface.masquerade.is_some());
        // Every port is a tap: no plugin is asked for another kind.
        fields.when(&format!("{path}.binding"), interface.binding.is_some());
    }
    if let Some(watchdog) = &devices.watchdog {
        fields.unknown(&format!("{path}.watchdog"), &watchdog.rest, &[]);
    }
}

/// The paths gathered so far.
#[derive(Debug, Default)]
struct Fields(Vec<String>);

impl Fields {
    /// Adds what a type does not name, but for what is dealt with elsewhere.
    fn unknown(&mut self, path: &str, rest: &Rest, except: &[&str]) {
        let unknown = rest
            .iter()
            .filter(|(name, value)| !except.contains(&name.as_str()) && !is_empty(value));
        self.0.extend(unknown.map(|(name, _)| format!("{path}.{name}")));
    }

    fn when(&mut self, path: &str, set: bool) {
        if set {
            self.0.push(path.to_owned());
        }
    }
}

/// Whether a value is there for form's sake only: `null`, `false`, `[]`, `""`.
/// `{}` is not: many of KubeVirt's fields are switched on by it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_describes_a_pod_or_half_a_feature_is_told_where_it_is_written() {
        let spec = json!({
            "dnsConfig": {"nameservers": ["10.0.0.1"]}, "dnsPolicy": "None",
            "serviceAccountName": "robot", "utilityVolumes": [{"name": "a"}],
            "resourceClaims": [], "priorityClassName": "high", "schedulerName": "",
            "tolerations": [{"operator": "Exists"}],
            "domain": {
                "features": {"hyperv": {"relaxed": {}, "xmm": {}, "tlbflush": {"direct": {}}}},
                "devices": {"logSerialConsole": false},
            },
        });
        let spec: VirtualMachineInstanceSpec = serde_json::from_value(spec).unwrap();
        let told = ignored(&spec, "spec.template.spec");
        let told: Vec<_> =
            told.iter().map(|one| one.strip_prefix("spec.template.spec.").unwrap()).collect();
        assert_eq!(
            told,
            [
                "dnsConfig",
                "dnsPolicy",
                "domain.devices.logSerialConsole",
                "domain.features.hyperv.tlbflush.direct",
                "domain.features.hyperv.xmm",
                "priorityClassName",
                "serviceAccountName",
                "utilityVolumes",
            ]
        );
    }
}
