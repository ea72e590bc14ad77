//! Cells of built-in kinds that are made from several fields.

use serde_json::Value;

use super::age;

fn strings<'a>(values: impl IntoIterator<Item = &'a str>) -> Value {
    let values: Vec<&str> = values.into_iter().collect();
    if values.is_empty() { "<none>".into() } else { values.join(",").into() }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn data_count(object: &Value) -> Value {
    let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    (count("data") + count("binaryData")).into()
}

pub(super) fn secret_count(object: &Value) -> Value {
    items(&object["secrets"]).len().into()
}

pub(super) fn node_status(node: &Value) -> Value {
    let ready = items(&node["status"]["conditions"])
        .iter()
        .find(|condition| condition["type"] == "Ready")
        .map(|condition| condition["status"] == "True");
    let mut words = vec![match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }];
    if node["spec"]["unschedulable"] == true {
        words.push("SchedulingDisabled");
    }
    strings(words)
}

pub(super) fn node_roles(node: &Value) -> Value {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    strings(labels.filter_map(|(name, _)| name.strip_prefix("node-role.kubernetes.io/")))
}

pub(super) fn pod_ready(pod: &Value) -> Value {
    let statuses = items(&pod["status"]["containerStatuses"]);
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    format!("{ready}/{}", items(&pod["spec"]["containers"]).len()).into()
}

pub(super) fn pod_status(pod: &Value) -> Value {
    if crate::object::is_deleting(pod) {
        return "Terminating".into();
    }
    let reason = &pod["status"]["reason"];
    if reason.is_string() { reason.clone() } else { pod["status"]["phase"].clone() }
}

pub(super) fn pod_restarts(pod: &Value) -> Value {
    let statuses = items(&pod["status"]["containerStatuses"]).iter();
    statuses.filter_map(|status| status["restartCount"].as_u64()).sum::<u64>().into()
}

pub(super) fn service_ports(service: &Value) -> Value {
    let ports: Vec<String> = items(&service["spec"]["ports"])
        .iter()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            match port["nodePort"].as_u64() {
                Some(node) => format!("{}:{node}/{protocol}", port["port"]),
                None => format!("{}/{protocol}", port["port"]),
            }
        })
        .collect();
    strings(ports.iter().map(String::as_str))
}

pub(super) fn volume_claim(volume: &Value) -> Value {
    let claim = &volume["spec"]["claimRef"];
    match (claim["namespace"].as_str(), claim["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}").into(),
        _ => "".into(),
    }
}

pub(super) fn binding_role(binding: &Value) -> Value {
    let role = &binding["roleRef"];
    let text = |field: &str| role[field].as_str().unwrap_or("");
    format!("{}/{}", text("kind"), text("name")).into()
}

pub(super) fn event_last_seen(event: &Value) -> Value {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["deprecatedLastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let last = times.iter().find_map(|time| time.as_str());
    last.map_or_else(|| "<unknown>".into(), |time| age::since(time).into())
}

pub(super) fn event_object(event: &Value) -> Value {
    let about = event.get("involvedObject").unwrap_or_else(|| &event["regarding"]);
    let text = |field: &str| about[field].as_str().unwrap_or("");
    format!("{}/{}", text("kind").to_lowercase(), text("name")).into()
}
