//! What a VMI asks for and does not get, so that it can be told.

use crds::kubevirt::{Rest, VirtualMachineInstance};

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
    fields.when("spec.startStrategy", spec.start_strategy.as_deref() == Some("Paused"));
    hardware(&mut fields, vmi);
    devices(&mut fields, vmi);
    for (at, volume) in spec.volumes.iter().enumerate() {
        let path = format!("spec.volumes[{at}]");
        if let Some(disk) = &volume.container_disk {
            fields.unknown(&format!("{path}.containerDisk"), &disk.rest, &[]);
        }
        for (name, cloud_init) in [
            ("cloudInitNoCloud", &volume.cloud_init_no_cloud),
            ("cloudInitConfigDrive", &volume.cloud_init_config_drive),
        ] {
            if let Some(cloud_init) = cloud_init {
                fields.unknown(&format!("{path}.{name}"), &cloud_init.rest, &[]);
            }
        }
    }
    fields.0.sort();
    fields.0
}

/// Fields of the spec that others act on, or that describe a pod nobody makes.
const ELSEWHERE: [&str; 10] = [
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "priorityClassName",
    "resourceClaims",
    "schedulerName",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
    "utilityVolumes",
];

/// `spec.domain` without its devices.
fn hardware(fields: &mut Fields, vmi: &VirtualMachineInstance) {
    let domain = &vmi.spec.domain;
    fields.unknown("spec.domain", &domain.rest, &[]);
    fields.when("spec.domain.ioThreadsPolicy", domain.io_threads_policy.is_some());
    if let Some(cpu) = &domain.cpu {
        fields.unknown("spec.domain.cpu", &cpu.rest, &[]);
        fields.when("spec.domain.cpu.maxSockets", cpu.max_sockets.is_some());
    }
    if let Some(memory) = &domain.memory {
        fields.unknown("spec.domain.memory", &memory.rest, &[]);
        fields.when("spec.domain.memory.maxGuest", memory.max_guest.is_some());
    }
    if let Some(resources) = &domain.resources {
        fields.unknown("spec.domain.resources", &resources.rest, &[]);
    }
    if let Some(firmware) = &domain.firmware {
        fields.unknown("spec.domain.firmware", &firmware.rest, &[]);
        let efi = firmware.bootloader.as_ref().and_then(|loader| loader.efi.as_ref());
        let persistent = efi.and_then(|efi| efi.persistent).unwrap_or(false);
        fields.when("spec.domain.firmware.bootloader.efi.persistent", persistent);
    }
    if let Some(features) = &domain.features {
        let known = ["acpi", "apic", "hyperv", "kvm", "pvspinlock", "smm"];
        fields.unknown("spec.domain.features", &features.0, &known);
        let evmcs = features.0.get("hyperv").is_some_and(|all| all.get("evmcs").is_some());
        fields.when("spec.domain.features.hyperv.evmcs", evmcs);
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
        // Every disk is its VMI's own so far.
        fields.when(&format!("{path}.shareable"), disk.shareable.unwrap_or(false));
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
    }
    if let Some(watchdog) = &devices.watchdog {
        fields.unknown(&format!("{path}.watchdog"), &watchdog.rest, &[]);
    }
    let persistent = devices.tpm.as_ref().is_some_and(|tpm| {
        tpm.0.get("persistent").and_then(serde_json::Value::as_bool).unwrap_or(false)
    });
    fields.when(&format!("{path}.tpm.persistent"), persistent);
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
