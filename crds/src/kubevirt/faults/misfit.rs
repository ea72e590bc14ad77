//! What does not fit its type. A schema says that of a field before anybody is asked; where none
//! does, the object could not be read, and so nothing else could be said of it.

use serde_json::Value;

use crate::cause::Cause;

const STRATEGIES: [&str; 6] =
    ["Always", "Halted", "Manual", "RerunOnFailure", "Once", "WaitAsReceiver"];

const BUSES: [&str; 4] = ["virtio", "scsi", "sata", "usb"];

/// What of an object's `spec` none of its types can hold; `of_template`: whether the spec of
/// instances is that of its template.
#[must_use]
pub fn of_misfit(spec: &Value, of_template: bool) -> Vec<Cause> {
    let mut found = Vec::new();
    if let Some(strategy) = spec["runStrategy"].as_str().filter(|one| !STRATEGIES.contains(one)) {
        let text = format!("Invalid RunStrategy ({strategy})");
        found.push(Cause::invalid("spec.runStrategy", text));
    }
    let (spec, path) = if of_template {
        (&spec["template"]["spec"], "spec.template.spec")
    } else {
        (spec, "spec")
    };
    let devices = &spec["domain"]["devices"];
    for (at, disk) in devices["disks"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{path}.domain.devices.disks[{at}]");
        let kinds = ["disk", "lun", "cdrom"];
        found.extend(kinds.into_iter().filter_map(|kind| bus(&disk[kind], kind, &field)));
    }
    for (at, interface) in devices["interfaces"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{path}.domain.devices.interfaces[{at}]");
        for (at, port) in interface["ports"].as_array().into_iter().flatten().enumerate() {
            let number = port["port"].as_i64().filter(|port| !(0..65536).contains(port));
            found.extend(number.map(|_| {
                let text = "Port field must be in range 0 < x < 65536.";
                Cause::invalid(format!("{field}.ports[{at}].port"), text)
            }));
        }
    }
    found
}

fn bus(device: &Value, kind: &str, field: &str) -> Option<Cause> {
    let bus = device["bus"].as_str()?;
    let text = match bus {
        "ide" => "IDE bus is not supported".to_owned(),
        bus if BUSES.contains(&bus) => return None,
        other => format!(
            "{field} is set with an unrecognized bus {other}, must be one of: [{}]",
            BUSES.join(" ")
        ),
    };
    Some(Cause::invalid(format!("{field}.{kind}.bus"), text))
}
