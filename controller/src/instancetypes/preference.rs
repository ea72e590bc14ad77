//! What a preference makes of a template: where nothing is said, this. Pure.

use serde_json::{Map, Value, json};

use super::expand::{is_said, object};
use super::units;

/// Fields of `domain.devices` by the preference's name of each.
const DEVICES: [(&str, &str); 10] = [
    ("preferredUseVirtioTransitional", "useVirtioTransitional"),
    ("preferredBlockMultiQueue", "blockMultiQueue"),
    ("preferredNetworkInterfaceMultiQueue", "networkInterfaceMultiqueue"),
    ("preferredRng", "rng"),
    ("preferredTPM", "tpm"),
    ("preferredAutoattachGraphicsDevice", "autoattachGraphicsDevice"),
    ("preferredAutoattachMemBalloon", "autoattachMemBalloon"),
    ("preferredAutoattachPodInterface", "autoattachPodInterface"),
    ("preferredAutoattachSerialConsole", "autoattachSerialConsole"),
    ("preferredAutoattachInputDevice", "autoattachInputDevice"),
];

/// Fields of `domain.features`.
const FEATURES: [(&str, &str); 4] = [
    ("preferredApic", "apic"),
    ("preferredKvm", "kvm"),
    ("preferredPvspinlock", "pvspinlock"),
    ("preferredSmm", "smm"),
];

/// Sockets, cores and threads of so many vCPUs.
///
/// # Errors
/// When they cannot be spread as the preference says.
pub(super) fn topology(
    preference: Option<&Value>,
    vcpus: u64,
) -> Result<Map<String, Value>, String> {
    let (mut sockets, mut cores, mut threads) = (1, 1, 1);
    match preferred(preference) {
        "cores" | "preferCores" => cores = vcpus,
        "threads" | "preferThreads" => threads = vcpus,
        "spread" | "preferSpread" => {
            (sockets, cores, threads) = spread(preference.unwrap_or(&Value::Null), vcpus)?;
        }
        _ => sockets = vcpus,
    }
    let counts = [("sockets", sockets), ("cores", cores), ("threads", threads)];
    Ok(counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect())
}

fn preferred(preference: Option<&Value>) -> &str {
    let said = preference.and_then(|one| one["cpu"]["preferredCPUTopology"].as_str());
    said.filter(|said| !said.is_empty()).unwrap_or("sockets")
}

/// How many cores to a socket (or threads to a core), and across what.
fn options(preference: &Value) -> (u64, &str) {
    let options = &preference["cpu"]["spreadOptions"];
    let ratio = options["ratio"].as_u64().filter(|ratio| *ratio > 0);
    let older = preference["preferSpreadSocketToCoreRatio"].as_u64().filter(|ratio| *ratio > 0);
    let across = options["across"].as_str().filter(|across| !across.is_empty());
    (ratio.or(older).unwrap_or(2), across.unwrap_or("SocketsCores"))
}

fn spread(preference: &Value, vcpus: u64) -> Result<(u64, u64, u64), String> {
    let (ratio, across) = options(preference);
    let given = format!("{vcpus} vCPUs provided by the instance type are not divisible by the");
    match across {
        "CoresThreads" if vcpus.is_multiple_of(ratio) => Ok((1, vcpus / ratio, ratio)),
        "CoresThreads" => Err(format!("{given} number of threads per core {ratio}")),
        "SocketsCoresThreads" if vcpus.is_multiple_of(2) && (vcpus / 2).is_multiple_of(ratio) => {
            Ok((vcpus / 2 / ratio, ratio, 2))
        }
        "SocketsCoresThreads" => Err(format!(
            "{given} number of threads per core 2 and Spec.PreferSpreadSocketToCoreRatio or Spec.CPU.PreferSpreadOptions.Ratio of {ratio}"
        )),
        _ if vcpus.is_multiple_of(ratio) => Ok((vcpus / ratio, ratio, 1)),
        _ => Err(format!(
            "{given} Spec.PreferSpreadSocketToCoreRatio or Spec.CPU.PreferSpreadOptions.Ratio of {ratio} provided by the preference"
        )),
    }
}

/// Whether there is as much as the preference requires.
///
/// # Errors
/// What is not enough.
pub(super) fn requirements(
    instancetype: Option<&Value>,
    preference: &Value,
    template: &Value,
) -> Result<(), String> {
    let told = |why: String| Err(format!("failure checking preference requirements: {why}"));
    let required = &preference["requirements"];
    let domain = &template["spec"]["domain"];
    if let Some(wanted) = required["cpu"]["guest"].as_u64().filter(|wanted| *wanted > 0) {
        let cpu = &domain["cpu"];
        match (instancetype.map(|one| one["cpu"]["guest"].as_u64().unwrap_or(0)), cpu.is_null()) {
            (Some(given), _) if given < wanted => {
                return told(format!(
                    "insufficient CPU resources of {given} vCPU provided by instance type, preference requires {wanted} vCPU"
                ));
            }
            (None, true) => {
                return told(format!(
                    "no CPU resources provided by VirtualMachine, preference requires {wanted} vCPU"
                ));
            }
            (None, false) => {
                let (given, what) = counted(preference, cpu);
                if given < wanted {
                    return told(format!(
                        "insufficient CPU resources of {given} vCPU provided by VirtualMachine, preference requires {wanted} vCPU provided as {what}"
                    ));
                }
            }
            (Some(_), _) => {}
        }
    }
    let wanted = &required["memory"]["guest"];
    let (given, by) = match instancetype {
        Some(one) => (&one["memory"]["guest"], "instance type"),
        None => (&domain["memory"]["guest"], "VirtualMachine"),
    };
    if let (Some(wants), Some(has)) = (units(wanted), units(given))
        && has < wants
    {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return told(format!(
            "insufficient Memory resources of {} provided by {by}, preference requires {}",
            text(given),
            text(wanted)
        ));
    }
    Ok(())
}

/// The vCPUs of a template, in the form in which the preference counts them.
fn counted<'a>(preference: &'a Value, cpu: &Value) -> (u64, &'a str) {
    let of = |name: &str| cpu[name].as_u64().unwrap_or(0);
    let many = |names: &[&str]| names.iter().map(|name| of(name)).fold(1, u64::saturating_mul);
    match preferred(Some(preference)) {
        "threads" | "preferThreads" => (of("threads"), "threads"),
        "cores" | "preferCores" => (of("cores"), "cores"),
        "any" | "preferAny" => {
            (many(&["cores", "sockets", "threads"]), "cores, sockets and threads")
        }
        "spread" | "preferSpread" => match options(preference).1 {
            across @ "CoresThreads" => (many(&["cores", "threads"]), across),
            across @ "SocketsCoresThreads" => (many(&["sockets", "cores", "threads"]), across),
            across => (many(&["sockets", "cores"]), across),
        },
        _ => (of("sockets"), "sockets"),
    }
}

/// Puts in what is preferred where nothing is said.
pub(super) fn prefer(preference: &Value, made: &mut Value) {
    processors(preference, made);
    devices(&preference["devices"], made);
    features(&preference["features"], made);
    firmware(&preference["firmware"], made);
    let fill = |made: &mut Value, place: &str, name: &str, value: &Value| {
        if is_said(Some(value)) && !is_said(made.pointer(&format!("{place}/{name}"))) {
            object(made, place).insert(name.to_owned(), value.clone());
        }
    };
    fill(made, "/spec/domain/machine", "type", &preference["machine"]["preferredMachineType"]);
    let clock = &preference["clock"];
    if let Some(offset) = clock["preferredClockOffset"].as_object() {
        let clock = object(made, "/spec/domain/clock");
        if !clock.contains_key("utc") && !clock.contains_key("timezone") {
            clock.extend(offset.clone());
        }
    }
    fill(made, "/spec/domain/clock", "timer", &clock["preferredTimer"]);
    fill(made, "/spec", "subdomain", &preference["preferredSubdomain"]);
    fill(made, "/spec", "architecture", &preference["preferredArchitecture"]);
    let grace = &preference["preferredTerminationGracePeriodSeconds"];
    if !grace.is_null() && made["spec"].get("terminationGracePeriodSeconds").is_none() {
        let spec = object(made, "/spec");
        spec.insert("terminationGracePeriodSeconds".to_owned(), grace.clone());
    }
    for (key, value) in preference["annotations"].as_object().into_iter().flatten() {
        object(made, "/metadata/annotations").entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn processors(preference: &Value, made: &mut Value) {
    let wanted = preference["cpu"]["preferredCPUFeatures"].as_array();
    let Some(wanted) = wanted.filter(|all| !all.is_empty()) else { return };
    let cpu = object(made, "/spec/domain/cpu");
    let features = cpu.entry("features").or_insert_with(|| json!([]));
    let Some(features) = features.as_array_mut() else { return };
    for feature in wanted {
        if features.iter().all(|one| one["name"] != feature["name"]) {
            features.push(feature.clone());
        }
    }
}

fn devices(preferred: &Value, made: &mut Value) {
    if !preferred.is_object() {
        return;
    }
    let pods: Vec<Value> = made["spec"]["networks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|network| network["pod"].is_object())
        .map(|network| network["name"].clone())
        .collect();
    let devices = object(made, "/spec/domain/devices");
    for (said, field) in DEVICES {
        let value = &preferred[said];
        if !value.is_null() && devices.get(field).is_none_or(Value::is_null) {
            devices.insert(field.to_owned(), value.clone());
        }
    }
    // Upstream cannot tell whether a template says it.
    if !preferred["preferredDisableHotplug"].is_null() {
        let value = preferred["preferredDisableHotplug"].clone();
        devices.insert("disableHotplug".to_owned(), value);
    }
    let each = |list: Option<&mut Value>, change: &dyn Fn(&mut Value)| {
        list.and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    };
    if let Some(sound) = devices.get_mut("sound").filter(|sound| sound.is_object()) {
        fill(sound, "model", &preferred["preferredSoundModel"]);
    }
    each(devices.get_mut("disks"), &|disk| prefer_disk(preferred, disk));
    each(devices.get_mut("interfaces"), &|interface| {
        prefer_interface(preferred, &pods, interface);
    });
    each(devices.get_mut("inputs"), &|input| {
        fill(input, "bus", &preferred["preferredInputBus"]);
        fill(input, "type", &preferred["preferredInputType"]);
    });
    let model = &preferred["preferredPanicDeviceModel"];
    if is_said(Some(model)) {
        let there = devices.entry("panicDevices").or_insert_with(|| json!([]));
        if there.as_array().is_some_and(Vec::is_empty) {
            *there = json!([{ "model": model }]);
        }
        each(Some(there), &|device| fill(device, "model", model));
    }
}

/// Puts in a value where nothing is said.
fn fill(of: &mut Value, name: &str, value: &Value) {
    if is_said(Some(value)) && !is_said(of.get(name)) {
        of[name] = value.clone();
    }
}

fn prefer_disk(preferred: &Value, disk: &mut Value) {
    let has = |disk: &Value, kind: &str| disk.get(kind).is_some_and(Value::is_object);
    if !["disk", "cdrom", "lun"].into_iter().any(|kind| has(disk, kind)) {
        disk["disk"] = json!({});
    }
    if has(disk, "disk") {
        fill(&mut disk["disk"], "bus", &preferred["preferredDiskBus"]);
        fill(disk, "blockSize", &preferred["preferredDiskBlockSize"]);
        fill(disk, "cache", &preferred["preferredDiskCache"]);
        fill(disk, "io", &preferred["preferredDiskIO"]);
        let thread = &preferred["preferredDiskDedicatedIoThread"];
        let is_virtio = disk["disk"]["bus"] == "virtio";
        if !thread.is_null() && is_virtio && disk.get("dedicatedIOThread").is_none() {
            disk["dedicatedIOThread"] = thread.clone();
        }
    } else if has(disk, "cdrom") {
        fill(&mut disk["cdrom"], "bus", &preferred["preferredCdromBus"]);
    } else {
        fill(&mut disk["lun"], "bus", &preferred["preferredLunBus"]);
    }
}

fn prefer_interface(preferred: &Value, pods: &[Value], interface: &mut Value) {
    const BINDINGS: [&str; 7] =
        ["bridge", "masquerade", "sriov", "slirp", "macvtap", "passt", "binding"];
    fill(interface, "model", &preferred["preferredInterfaceModel"]);
    let masquerade = &preferred["preferredInterfaceMasquerade"];
    let is_bound = BINDINGS.into_iter().any(|one| interface.get(one).is_some_and(Value::is_object));
    if masquerade.is_object() && !is_bound && pods.contains(&interface["name"]) {
        interface["masquerade"] = masquerade.clone();
    }
}

fn features(preferred: &Value, made: &mut Value) {
    if !preferred.is_object() {
        return;
    }
    let features = object(made, "/spec/domain/features");
    // Upstream cannot tell whether a template says it.
    if !preferred["preferredAcpi"].is_null() {
        features.insert("acpi".to_owned(), preferred["preferredAcpi"].clone());
    }
    for (said, field) in FEATURES {
        if !preferred[said].is_null() {
            features.entry(field).or_insert_with(|| preferred[said].clone());
        }
    }
    let passes = features.get("hypervPassthrough").is_some_and(|one| one["enabled"] == true);
    if let Some(hyperv) = preferred["preferredHyperv"].as_object().filter(|_| !passes) {
        let there = features.entry("hyperv").or_insert_with(|| json!({}));
        if let Some(there) = there.as_object_mut() {
            for (name, value) in hyperv {
                there.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

fn firmware(preferred: &Value, made: &mut Value) {
    if !preferred.is_object() {
        return;
    }
    let yes = |name: &str| preferred[name] == true;
    let loader = object(made, "/spec/domain/firmware/bootloader");
    if yes("preferredUseBios") && !loader.contains_key("bios") && !loader.contains_key("efi") {
        loader.insert("bios".to_owned(), json!({}));
    }
    let serial = &preferred["preferredUseBiosSerial"];
    if let Some(bios) = loader.get_mut("bios").and_then(Value::as_object_mut)
        && !serial.is_null()
    {
        bios.entry("useSerial").or_insert_with(|| serial.clone());
    }
    let is_free = !loader.contains_key("bios") && !loader.contains_key("efi");
    if preferred["preferredEfi"].is_object() && is_free {
        loader.insert("efi".to_owned(), preferred["preferredEfi"].clone());
        return;
    }
    if yes("preferredUseEfi") && is_free {
        loader.insert("efi".to_owned(), json!({}));
    }
    let secure = &preferred["preferredUseSecureBoot"];
    if let Some(efi) = loader.get_mut("efi").and_then(Value::as_object_mut)
        && !secure.is_null()
    {
        efi.entry("secureBoot").or_insert_with(|| secure.clone());
    }
}
