//! What a VMI asks for and does not get, so that it can be told.

use crds::kubevirt::{Rest, VirtualMachineInstance, Volume};

/// The paths of fields that are set and have no effect on the domain, sorted.
///
/// Fields that only say where a VM runs or how it is reached are not the
/// domain's business and do not appear. Wrong values of fields that do have an
/// effect are errors of [`super::xml`] instead.
#[must_use]
pub fn ignored(vmi: &VirtualMachineInstance) -> Vec<String> {
    let mut fields = Fields::default();
    let spec = &vmi.spec;
    fields.unknown("spec", &spec.rest, &ELSEWHERE);
    credentials(&mut fields, vmi);
    probes(&mut fields, vmi);
    hardware(&mut fields, vmi);
    devices(&mut fields, vmi);
    for (at, volume) in spec.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{at}]");
        for (name, rest) in rests(volume) {
            fields.unknown(&format!("{path}.{name}"), rest, &[]);
        }
    }
    fields.0.sort();
    fields.0
}

/// Of `accessCredentials`, what no drive takes to the guest.
fn credentials(fields: &mut Fields, vmi: &VirtualMachineInstance) {
    let volumes = &vmi.spec.volumes;
    let no_cloud = volumes.iter().any(|volume| volume.cloud_init_no_cloud.is_some());
    let config_drive = volumes.iter().any(|volume| volume.cloud_init_config_drive.is_some());
    for (at, credential) in vmi.spec.access_credentials.iter().enumerate() {
        let path = format!("spec.accessCredentials[{at}]");
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

/// Fields of the spec that others act on, or that describe a pod nobody makes.
const ELSEWHERE: [&str; 8] = [
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "resourceClaims",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
    "utilityVolumes",
];

fn probes(fields: &mut Fields, vmi: &VirtualMachineInstance) {
    for (name, probe) in vmi.spec.probes() {
        let path = format!("spec.{name}");
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

/// `spec.domain` without its devices.
fn hardware(fields: &mut Fields, vmi: &VirtualMachineInstance) {
    let domain = &vmi.spec.domain;
    fields.unknown("spec.domain", &domain.rest, &[]);
    let pool = domain.io_threads_policy.as_deref() == Some("supplementalPool");
    fields.when("spec.domain.ioThreadsPolicy", pool);
    if let Some(cpu) = &domain.cpu {
        fields.unknown("spec.domain.cpu", &cpu.rest, &[]);
    }
    if let Some(memory) = &domain.memory {
        fields.unknown("spec.domain.memory", &memory.rest, &[]);
    }
    if let Some(resources) = &domain.resources {
        fields.unknown("spec.domain.resources", &resources.rest, &[]);
    }
    if let Some(firmware) = &domain.firmware {
        fields.unknown("spec.domain.firmware", &firmware.rest, &[]);
        if let Some(boot) = &firmware.kernel_boot {
            let path = "spec.domain.firmware.kernelBoot";
            fields.unknown(path, &boot.rest, &[]);
            if let Some(container) = &boot.container {
                fields.unknown(&format!("{path}.container"), &container.rest, &[]);
            }
        }
    }
    if let Some(features) = &domain.features {
        let known = ["acpi", "apic", "hyperv", "hypervPassthrough", "kvm", "pvspinlock", "smm"];
        fields.unknown("spec.domain.features", &features.0, &known);
    }
}

fn devices(fields: &mut Fields, vmi: &VirtualMachineInstance) {
    let devices = &vmi.spec.domain.devices;
    let path = "spec.domain.devices";
    // The console is always logged.
    fields.unknown(path, &devices.rest, &["logSerialConsole"]);
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
        let stays = vmi.spec.volumes.iter().any(|one| one.name == disk.name && one.is_kept());
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
fn is_empty(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
    }
}
