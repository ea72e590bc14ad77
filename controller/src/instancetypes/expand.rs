//! What an instancetype and a preference make of a template. Pure.
//!
//! An instancetype says what must be: what the template says of the same is a conflict, and no VM
//! has both. A preference says what is to be where the template and the instancetype are silent.
//! Paths, words and order are KubeVirt's (`pkg/instancetype/apply`, `preference/apply`), so that
//! a VM is the same machine there and here.
//!
//! All of it is done on JSON: most of what is said is only handed on.

use serde_json::{Map, Value, json};

use super::preference;

/// Why they do not go together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Conflict {
    /// Fields of the VM that the instancetype says, too.
    Fields(Vec<String>),
    /// What the preference asks for the instancetype does not give.
    Unfit(String),
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fields(fields) => {
                write!(
                    out,
                    "VM field(s) {} conflicts with selected instance type",
                    fields.join(", ")
                )
            }
            Self::Unfit(why) => out.write_str(why),
        }
    }
}

/// The place of a template's spec in its VM.
const SPEC: &str = "spec.template.spec";

/// The template (`metadata`, `spec`) with what these specs say put in. None is said by one that
/// is absent.
///
/// # Errors
/// Which fields conflict, or what is not enough.
pub fn expand(
    instancetype: Option<&Value>,
    preference: Option<&Value>,
    template: &Value,
) -> Result<Value, Conflict> {
    let mut made = template.clone();
    if let Some(preference) = preference {
        preference::requirements(instancetype, preference, template).map_err(Conflict::Unfit)?;
    }
    if let Some(instancetype) = instancetype {
        let conflicts = conflicts(instancetype, template);
        if !conflicts.is_empty() {
            return Err(Conflict::Fields(conflicts));
        }
        give(instancetype, &mut made);
        let vcpus = instancetype["cpu"]["guest"].as_u64().unwrap_or(1).max(1);
        let topology = preference::topology(preference, vcpus).map_err(Conflict::Unfit)?;
        let cpu = object(&mut made, "/spec/domain/cpu");
        cpu.extend(topology);
    }
    if let Some(preference) = preference {
        preference::prefer(preference, &mut made);
    }
    Ok(made)
}

/// Whether something is said there. Upstream's types cannot tell zero, false and empty from
/// nothing.
pub(super) fn is_said(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Bool(true) | Value::Object(_)) => true,
    }
}

/// The object at this path, made if it is not there.
pub(super) fn object<'a>(of: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut place = of;
    for name in path.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = place
            .as_object_mut()
            .expect("made one above")
            .entry(name.to_owned())
            .or_insert_with(|| json!({}));
    }
    if !place.is_object() {
        *place = json!({});
    }
    place.as_object_mut().expect("made one above")
}

/// Fields of `domain.cpu`: in the instancetype, in the template, and as upstream names them in a
/// conflict.
const CPU: [(&str, &str, &str); 6] = [
    ("model", "model", "model"),
    ("dedicatedCPUPlacement", "dedicatedCpuPlacement", "dedicatedCPUPlacement"),
    ("isolateEmulatorThread", "isolateEmulatorThread", "isolateEmulatorThread"),
    ("numa", "numa", "numa"),
    ("realtime", "realtime", "realtime"),
    ("maxSockets", "maxSockets", "maxSockets"),
];

/// Fields of `domain` that are handed on whole.
const WHOLE: [(&str, &str); 5] = [
    ("ioThreadsPolicy", "ioThreadsPolicy"),
    ("ioThreads", "ioThreads"),
    ("launchSecurity", "launchSecurity"),
    ("gpus", "devices/gpus"),
    ("hostDevices", "devices/hostDevices"),
];

fn conflicts(instancetype: &Value, template: &Value) -> Vec<String> {
    let spec = &template["spec"];
    let domain = &spec["domain"];
    let mut found = Vec::new();
    let both =
        |said: &str, path: &str| is_said(instancetype.pointer(said)) && is_said(spec.pointer(path));
    let selected = instancetype["nodeSelector"].as_object().into_iter().flatten();
    for (key, value) in selected {
        let theirs = spec["nodeSelector"].get(key);
        if theirs.is_some_and(|theirs| theirs != value) {
            found.push(format!("{SPEC}.nodeSelector.{key}"));
        }
    }
    if both("/schedulerName", "/schedulerName") {
        found.push(format!("{SPEC}.schedulerName"));
    }
    for of in ["requests", "limits"] {
        if is_said(domain["resources"][of].get("cpu")) {
            found.push(format!("{SPEC}.domain.resources.{of}.cpu"));
        }
    }
    for field in ["sockets", "cores", "threads"] {
        if is_said(domain["cpu"].get(field)) {
            found.push(format!("{SPEC}.domain.cpu.{field}"));
        }
    }
    for (said, field, told) in CPU.iter().filter(|(said, ..)| *said != "maxSockets") {
        if both(&format!("/cpu/{said}"), &format!("/domain/cpu/{field}")) {
            found.push(format!("{SPEC}.domain.cpu.{told}"));
        }
    }
    found.extend(conflict_of_memory(instancetype, domain));
    for (said, field) in WHOLE {
        if both(&format!("/{said}"), &format!("/domain/{field}")) {
            found.push(format!("{SPEC}.domain.{}", field.replace('/', ".")));
        }
    }
    for (key, value) in instancetype["annotations"].as_object().into_iter().flatten() {
        let theirs = template["metadata"]["annotations"].get(key);
        if theirs.is_some_and(|theirs| theirs != value) {
            found.push(format!("annotations.{key}"));
        }
    }
    found
}

/// The first, as upstream.
fn conflict_of_memory(instancetype: &Value, domain: &Value) -> Option<String> {
    let memory = &domain["memory"];
    let both =
        |field: &str| is_said(memory.get(field)) && is_said(instancetype["memory"].get(field));
    if is_said(memory.get("guest")) {
        return Some(format!("{SPEC}.domain.memory.guest"));
    }
    if let Some(field) = ["hugepages", "maxGuest"].into_iter().find(|field| both(field)) {
        return Some(format!("{SPEC}.domain.memory.{field}"));
    }
    let of = ["requests", "limits"].into_iter();
    let mut of = of.filter(|of| is_said(domain["resources"][of].get("memory")));
    of.next().map(|of| format!("{SPEC}.domain.resources.{of}.memory"))
}

/// Puts in what an instancetype says, but for the topology of its processors.
fn give(instancetype: &Value, made: &mut Value) {
    if let Some(selector) = instancetype["nodeSelector"].as_object() {
        object(made, "/spec/nodeSelector").extend(selector.clone());
    }
    if is_said(instancetype.get("schedulerName")) {
        let name = instancetype["schedulerName"].clone();
        object(made, "/spec").insert("schedulerName".to_owned(), name);
    }
    for (said, field, _) in CPU {
        let value = &instancetype["cpu"][said];
        if !value.is_null() {
            object(made, "/spec/domain/cpu").insert(field.to_owned(), value.clone());
        }
    }
    let memory = &instancetype["memory"];
    for field in ["guest", "hugepages", "maxGuest"] {
        if !memory[field].is_null() {
            object(made, "/spec/domain/memory").insert(field.to_owned(), memory[field].clone());
        }
    }
    if let Some(percent) = memory["overcommitPercent"].as_u64().filter(|percent| *percent > 0)
        && let Some(bytes) = super::units(&memory["guest"])
    {
        let left = u128::from(bytes) * u128::from(100_u64.saturating_sub(percent)) / 100;
        let requests = object(made, "/spec/domain/resources/requests");
        requests.insert("memory".to_owned(), left.to_string().into());
    }
    for (said, field) in WHOLE {
        let value = &instancetype[said];
        if is_said(Some(value)) {
            let (place, name) = field.rsplit_once('/').unwrap_or(("", field));
            let place = if place.is_empty() { String::new() } else { format!("/{place}") };
            object(made, &format!("/spec/domain{place}")).insert(name.to_owned(), value.clone());
        }
    }
    if let Some(notes) = instancetype["annotations"].as_object().filter(|notes| !notes.is_empty()) {
        object(made, "/metadata/annotations").extend(notes.clone());
    }
}
