//! Memory, processors, machine and firmware.

use crate::cause::Cause;
use crate::kubevirt::{DomainSpec, Opaque, Quantity, VirtualMachineInstanceSpec};

/// The least memory, in bytes: 1M.
const LEAST: u64 = 1_000_000;

/// Said of more sockets than there may be (`vms-admitter.go`).
const MANY_SOCKETS: &str =
    "Number of sockets in CPU topology is greater than the maximum sockets allowed";

pub(super) fn check(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let domain = &spec.domain;
    let field = format!("{path}.domain");
    let architecture = spec.architecture.as_deref();
    let foreign = architecture.filter(|name| !matches!(*name, "" | "amd64")).map(|name| {
        let field = format!("{path}.architecture");
        let text = format!("{field} is not supported: {name} (allowed values: [amd64])");
        Cause::invalid(field, text)
    });
    [
        foreign.into_iter().collect(),
        memory(domain, &field),
        processors(domain, &field),
        machine(domain, &field),
        inputs(domain, &field),
    ]
    .concat()
}

fn memory(domain: &DomainSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let of = |list: fn(&crate::kubevirt::Resources) -> Option<&Quantity>| {
        domain.resources.as_ref().and_then(list)
    };
    let limit = of(|all| all.limits.get("memory"));
    let request = of(|all| all.requests.get("memory"));
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let most = domain.memory.as_ref().and_then(|memory| memory.max_guest.as_ref());
    let fields = [
        ("memory.guest", guest),
        ("memory.maxGuest", most),
        ("resources.requests.memory", request),
        ("resources.limits.memory", limit),
    ];
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let field = format!("{path}.{name}");
        match value.units() {
            Err(error) => found.push(Cause::invalid(&field, format!("{field} is wrong: {error}"))),
            // As good as absent.
            Ok(0) if name.starts_with("resources.") => {}
            Ok(bytes) if bytes < LEAST => {
                let text = format!("{field} '{value}': must be greater than or equal to 1M.");
                found.push(Cause::invalid(field, text));
            }
            Ok(_) => {}
        }
    }
    let Some(limit) = limit else { return found };
    let limited = format!("{path}.resources.limits.memory");
    let exceeds = |value: &Quantity| {
        let both = value.units().ok().zip(limit.units().ok());
        both.is_some_and(|(value, limit)| limit > 0 && value > limit)
    };
    if let Some(guest) = guest.filter(|guest| exceeds(guest)) {
        let field = format!("{path}.memory.guest");
        let text = format!(
            "{field} '{guest}' must be equal to or less than the memory limit {limited} '{limit}'"
        );
        found.push(Cause::invalid(field, text));
    }
    if let Some(request) = request.filter(|request| exceeds(request)) {
        let field = format!("{path}.resources.requests.memory");
        let text = format!("{field} '{request}' is greater than {limited} '{limit}'");
        found.push(Cause::invalid(field, text));
    }
    found
}

fn processors(domain: &DomainSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let cpu = domain.cpu.clone().unwrap_or_default();
    let most = cpu.max_sockets.filter(|most| *most > 0);
    if most.is_some_and(|most| cpu.sockets.unwrap_or(1) > most) {
        found.push(Cause::invalid(format!("{path}.cpu.sockets"), MANY_SOCKETS));
    }
    for (at, feature) in cpu.features.iter().enumerate() {
        let policy = feature.policy.as_deref().unwrap_or_default();
        if !matches!(policy, "" | "force" | "require" | "optional" | "disable" | "forbid") {
            let field = format!("{path}.cpu.features[{at}].policy");
            let name = &feature.name;
            let text = format!("CPU feature {name} uses policy {policy} that is not supported.");
            found.push(Cause::not_supported(field, text));
        }
    }
    let resources = domain.resources.clone().unwrap_or_default();
    let [request, limit] = [resources.requests.get("cpu"), resources.limits.get("cpu")]
        .map(Option::<&Quantity>::cloned);
    let (requested, limited) =
        (format!("{path}.resources.requests.cpu"), format!("{path}.resources.limits.cpu"));
    for (field, value) in [(&requested, &request), (&limited, &limit)] {
        if let Some(error) = value.as_ref().and_then(|value| value.milli().err()) {
            found.push(Cause::invalid(field, format!("{field} is wrong: {error}")));
        }
    }
    if let (Some(request), Some(limit)) = (request, limit)
        && let (Ok(asked), Ok(most)) = (request.milli(), limit.milli())
        && most > 0
        && asked > most
    {
        let text = format!("{requested} '{request}' is greater than {limited} '{limit}'");
        found.push(Cause::invalid(requested, text));
    }
    found
}

fn machine(domain: &DomainSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let kind = domain.machine.as_ref().and_then(|machine| machine.r#type.as_deref());
    let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("q35");
    if kind != "q35" && !kind.starts_with("pc-q35") {
        let field = format!("{path}.machine.type");
        let text = format!("{field} is not supported: {kind} (allowed values: [q35* pc-q35*])");
        found.push(Cause::invalid(field, text));
    }
    let loader = domain.firmware.as_ref().and_then(|firmware| firmware.bootloader.as_ref());
    let efi = loader.and_then(|loader| loader.efi.as_ref());
    if efi.is_some() && loader.is_some_and(|loader| loader.bios.is_some()) {
        let field = format!("{path}.firmware.bootloader");
        let text =
            format!("{field} has both EFI and BIOS configured, but they are mutually exclusive.");
        found.push(Cause::invalid(field, text));
    }
    let secure = efi.is_some_and(|efi| efi.secure_boot.unwrap_or(true));
    if secure && !is_enabled(domain.features.as_ref(), "smm") {
        let text = format!(
            "{path} has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled."
        );
        found.push(Cause::invalid(path, text));
    }
    found
}

fn inputs(domain: &DomainSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    for (at, input) in domain.devices.inputs.iter().enumerate() {
        let field = |of: &str| format!("{path}.devices.inputs[{at}].{of}");
        if !matches!(input.bus.as_deref().unwrap_or_default(), "" | "virtio" | "usb") {
            let text = "Input device can have only virtio or usb bus.";
            found.push(Cause::invalid(field("bus"), text));
        }
        if input.r#type != "tablet" {
            found.push(Cause::invalid(field("type"), "Input device can have only tablet type."));
        }
    }
    found
}

/// Whether a feature is there and not disabled (KubeVirt's `FeatureState`).
fn is_enabled(features: Option<&Opaque>, name: &str) -> bool {
    let feature = features.and_then(|all| all.0.get(name));
    feature.is_some_and(|one| one.get("enabled").and_then(|on| on.as_bool()).unwrap_or(true))
}
