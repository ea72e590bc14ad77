//! Mainboard, firmware, SMBIOS strings, hypervisor features and clock.

use std::path::PathBuf;

use crds::kubevirt::{DomainSpec, Opaque, VirtualMachineInstance};
use serde_json::Value;
use uuid::Uuid;

use super::writer::Element;
use super::{DomainError, Emulation, Place};

/// KubeVirt's `features.hyperv` in libvirt's words.
const HYPERV: [(&str, &str); 14] = [
    ("relaxed", "relaxed"),
    ("vapic", "vapic"),
    ("spinlocks", "spinlocks"),
    ("vpindex", "vpindex"),
    ("runtime", "runtime"),
    ("synic", "synic"),
    ("synictimer", "stimer"),
    ("reset", "reset"),
    ("vendorid", "vendor_id"),
    ("frequencies", "frequencies"),
    ("reenlightenment", "reenlightenment"),
    ("tlbflush", "tlbflush"),
    ("ipi", "ipi"),
    ("evmcs", "evmcs"),
];

/// KubeVirt's timers, libvirt's, and whether software emulation has them.
const TIMERS: [(&str, &str, bool); 5] = [
    ("hpet", "hpet", true),
    ("kvm", "kvmclock", false),
    ("pit", "pit", true),
    ("rtc", "rtc", true),
    ("hyperv", "hypervclock", false),
];

/// Up to how many bytes of translated code QEMU's translator keeps, where the guest's memory has
/// a limit: by itself it would keep a gigabyte.
pub const TRANSLATED: u64 = 128 << 20;

/// The uuid that the guest's firmware shows, and cloud-init's instance id: the
/// one in the spec, or else the owning VM's uid, or else the VMI's own.
///
/// It stays the same for all starts of a VM, so that per-instance work of the
/// guest is not done again.
#[must_use]
pub fn firmware_uuid(vmi: &VirtualMachineInstance) -> String {
    let written = vmi.spec.domain.firmware.as_ref().and_then(|firmware| firmware.uuid.clone());
    let owner = || {
        let owners = vmi.metadata.owner_references.as_deref().unwrap_or_default();
        let machine = owners.iter().find(|owner| owner.controller == Some(true));
        machine.map(|owner| owner.uid.clone())
    };
    written.or_else(owner).or_else(|| vmi.metadata.uid.clone()).unwrap_or_default()
}

/// The option that sets the guest's uuid behind libvirt's back.
pub(super) fn smbios_uuid(vmi: &VirtualMachineInstance) -> Result<Element, DomainError> {
    let text = firmware_uuid(vmi);
    let uuid = Uuid::parse_str(&text).map_err(|_| {
        DomainError::invalid("spec.domain.firmware.uuid", format!("'{text}' is not a uuid"))
    })?;
    let arg = |value: String| Element::new("qemu:arg").attr("value", value);
    Ok(Element::new("qemu:commandline")
        .child(arg("-smbios".into()))
        .child(arg(format!("type=1,uuid={uuid}"))))
}

/// `<sysinfo>`; without the uuid, which would have to be the domain's.
pub(super) fn sysinfo(spec: &DomainSpec) -> Element {
    let entry = |name: &str, value: &str| Element::text("entry", value).attr("name", name);
    let serial = spec.firmware.as_ref().and_then(|firmware| firmware.serial.as_deref());
    let system = Element::new("system")
        .child(entry("manufacturer", "Berth"))
        .child(entry("product", "None"))
        .child(entry("family", "Berth"))
        .children(serial.map(|serial| entry("serial", serial)));
    let chassis = spec.chassis.as_ref().map(|chassis| {
        let known = ["manufacturer", "version", "serial", "asset", "sku"];
        let entries = known
            .iter()
            .filter_map(|name| chassis.0.get(*name)?.as_str().map(|value| entry(name, value)));
        Element::new("chassis").children(entries)
    });
    Element::new("sysinfo").attr("type", "smbios").child(system).children(chassis)
}

/// `<os>`: machine type and firmware.
pub(super) fn os(spec: &DomainSpec, place: &Place) -> Element {
    let machine = spec.machine.as_ref().and_then(|machine| machine.r#type.as_deref());
    let machine = machine.filter(|machine| !machine.is_empty()).unwrap_or("q35");
    let kind = Element::text("type", "hvm").attr("arch", "x86_64").attr("machine", machine);
    let loader = spec.firmware.as_ref().and_then(|firmware| firmware.bootloader.clone());
    let loader = loader.unwrap_or_default();
    let os = match (loader.bios, loader.efi) {
        (_, Some(efi)) => {
            let secure = efi.secure_boot.unwrap_or(true);
            let enabled = if secure { "yes" } else { "no" };
            let feature =
                Element::new("feature").attr("enabled", enabled).attr("name", "secure-boot");
            let os = Element::new("os").attr("firmware", "efi").child(kind);
            let nvram = Element::text("nvram", place.nvram.display().to_string());
            os.child(Element::new("firmware").child(feature)).child(nvram)
        }
        (bios, None) => {
            let serial = bios.and_then(|bios| bios.use_serial).unwrap_or(false);
            let bios = serial.then(|| Element::new("bios").attr("useserial", "yes"));
            Element::new("os").child(kind).children(bios)
        }
    };
    let path = |name, path: &Option<PathBuf>| {
        path.as_ref().map(|path| Element::text(name, path.display().to_string()))
    };
    let kernel_boot = spec.firmware.as_ref().and_then(|firmware| firmware.kernel_boot.as_ref());
    let args = kernel_boot.and_then(|boot| boot.kernel_args.as_deref());
    os.children(path("kernel", &place.kernel.kernel))
        .children(path("initrd", &place.kernel.initrd))
        .children(args.map(|args| Element::text("cmdline", args)))
        .child(Element::new("smbios").attr("mode", "sysinfo"))
}

/// What a reboot from inside does.
pub(super) fn on_reboot(spec: &DomainSpec) -> Result<&'static str, DomainError> {
    match spec.reboot_policy.as_deref() {
        None | Some("" | "Reboot") => Ok("restart"),
        Some("Terminate") => Ok("destroy"),
        Some(other) => Err(DomainError::NotSupported {
            field: "spec.domain.rebootPolicy".into(),
            value: other.to_owned(),
            allowed: "Reboot, Terminate",
        }),
    }
}

/// `<features>`. Those that only KVM has are left out under software emulation.
pub(super) fn features(spec: &DomainSpec, emulation: Emulation) -> Element {
    let features = spec.features.as_ref();
    let acpi =
        features.is_none_or(|all| !all.0.contains_key("acpi") || is_enabled(features, "acpi"));
    let end_of_interrupt =
        features.and_then(|all| all.0.get("apic")?.get("endOfInterrupt")?.as_bool()).map(on_or_off);
    let kvm = emulation == Emulation::Kvm;
    let hidden = features.and_then(|all| all.0.get("kvm")?.get("hidden")?.as_bool());
    let hidden = hidden.filter(|_| kvm).map(|hidden| {
        Element::new("kvm").child(Element::new("hidden").attr("state", on_or_off(hidden)))
    });
    let spinlock = features.filter(|all| kvm && all.0.contains_key("pvspinlock")).map(|_| {
        let state = on_or_off(is_enabled(features, "pvspinlock"));
        Element::new("pvspinlock").attr("state", state)
    });
    let hyperv = features.and_then(|all| all.0.get("hyperv")).filter(|_| kvm).map(hyperv);
    let passthrough = kvm && is_enabled(features, "hypervPassthrough");
    let all = || Element::new("hyperv").attr("mode", "passthrough");
    let hyperv = if passthrough { Some(all()) } else { hyperv };
    let limits = spec.resources.as_ref().map(|resources| &resources.limits);
    let is_limited = limits.is_some_and(|limits| limits.contains_key("memory"));
    let translator = (is_limited && !kvm).then(|| {
        let cache = Element::text("tb-cache", (TRANSLATED >> 20).to_string()).attr("unit", "MiB");
        Element::new("tcg").child(cache)
    });
    let realtime = spec.cpu.as_ref().is_some_and(|cpu| cpu.realtime.is_some());
    // Its interrupts hold a vCPU up.
    let counters = realtime.then(|| Element::new("pmu").attr("state", "off"));
    let smm = is_enabled(features, "smm").then(|| Element::new("smm").attr("state", "on"));
    Element::new("features")
        .children(acpi.then(|| Element::new("acpi")))
        .child(Element::new("apic").maybe_attr("eoi", end_of_interrupt))
        .children(hyperv)
        .children(hidden)
        .children(spinlock)
        .children(smm)
        .children(counters)
        .children(translator)
        .child(Element::new("vmport").attr("state", "off"))
}

fn hyperv(wanted: &Value) -> Element {
    let elements = HYPERV.iter().filter_map(|(key, name)| {
        let value = wanted.get(key)?;
        let enabled = is_on(value);
        let element = Element::new(name).attr("state", on_or_off(enabled));
        Some(match *key {
            "spinlocks" if enabled => {
                let retries = value.get("spinlocks").and_then(Value::as_u64);
                element.attr("retries", retries.unwrap_or(4096))
            }
            "vendorid" => {
                element.maybe_attr("value", value.get("vendorid").and_then(Value::as_str))
            }
            "synictimer" => element.children(
                value
                    .get("direct")
                    .map(|direct| Element::new("direct").attr("state", on_or_off(is_on(direct)))),
            ),
            _ => element,
        })
    });
    Element::new("hyperv").attr("mode", "custom").children(elements)
}

/// `<clock>`: UTC unless told otherwise, set anew at each start.
pub(super) fn clock(spec: &DomainSpec, emulation: Emulation) -> Result<Element, DomainError> {
    let get = |key: &str| spec.clock.as_ref().and_then(|clock| clock.0.get(key));
    let offset = get("utc").and_then(|utc| utc.get("offsetSeconds")?.as_i64());
    let clock = Element::new("clock");
    let clock = match (get("timezone").and_then(Value::as_str), offset) {
        (Some(zone), _) if !is_time_zone(zone) => {
            let rule = format!("'{zone}' is not the name of a time zone, such as Europe/Berlin");
            return Err(DomainError::invalid("spec.domain.clock.timezone", rule));
        }
        (Some(zone), _) => clock.attr("offset", "timezone").attr("timezone", zone),
        (None, Some(seconds)) => {
            clock.attr("offset", "variable").attr("adjustment", seconds).attr("basis", "utc")
        }
        (None, None) => clock.attr("offset", "utc").attr("adjustment", "reset"),
    };
    let timers = TIMERS.iter().filter_map(|(key, name, emulated)| {
        let timer = get("timer")?.get(key)?;
        if !emulated && emulation == Emulation::Software {
            return None;
        }
        let present = timer.get("present").and_then(Value::as_bool).unwrap_or(true);
        let text = |key: &str| timer.get(key).and_then(Value::as_str);
        Some(
            Element::new("timer")
                .attr("name", name)
                .maybe_attr("tickpolicy", text("tickPolicy"))
                .maybe_attr("track", text("track"))
                .attr("present", if present { "yes" } else { "no" }),
        )
    });
    Ok(clock.children(timers))
}

/// Whether libvirt's schema takes it; which zones exist is for QEMU to say.
fn is_time_zone(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-/".contains(c))
}

/// Whether a feature is there and not disabled.
fn is_enabled(features: Option<&Opaque>, name: &str) -> bool {
    features.and_then(|all| all.0.get(name)).is_some_and(is_on)
}

/// KubeVirt's `FeatureState`: on unless it says otherwise.
fn is_on(feature: &Value) -> bool {
    feature.get("enabled").and_then(Value::as_bool).unwrap_or(true)
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
