//! Which columns a kind has.

use serde_json::Value;

use super::{Column, JsonPath, Source, cells};

fn column(name: &str, kind: &str, priority: i64, source: Source) -> Column {
    Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: String::new(),
        description: String::new(),
        priority,
        source,
    }
}

fn by_path(name: &str, kind: &str, path: &str) -> Column {
    let path = JsonPath::parse(path).expect("built-in paths are constant and parse");
    column(name, kind, 0, Source::Path(path))
}

fn name() -> Column {
    Column { format: "name".to_owned(), ..by_path("Name", "string", ".metadata.name") }
}

fn age() -> Column {
    by_path("Age", "date", ".metadata.creationTimestamp")
}

/// Columns from `additionalPrinterColumns`: the name first; the age where nothing is said.
pub(crate) fn custom_columns(definitions: &Value) -> Vec<Column> {
    let mut columns = vec![name()];
    let definitions = definitions.as_array().map(Vec::as_slice).unwrap_or_default();
    if definitions.is_empty() {
        columns.push(age());
    }
    for definition in definitions {
        let text = |field: &str| definition[field].as_str().unwrap_or("").to_owned();
        // A path we cannot follow leaves its cells empty; the column is still there.
        let source =
            JsonPath::parse(&text("jsonPath")).map_or(Source::Made(|_| Value::Null), Source::Path);
        columns.push(Column {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: text("description"),
            priority: definition["priority"].as_i64().unwrap_or(0),
            source,
        });
    }
    columns
}

/// Columns of a built-in kind.
pub(crate) fn builtin_columns(group: &str, kind: &str) -> Vec<Column> {
    let mut columns = vec![name()];
    let path = |name: &str, path: &str| by_path(name, "string", path);
    let made =
        |name: &str, make: fn(&Value) -> Value| column(name, "string", 0, Source::Made(make));
    let count =
        |name: &str, make: fn(&Value) -> Value| column(name, "integer", 0, Source::Made(make));
    let wide = |column: Column| Column { priority: 1, ..column };
    match (group, kind) {
        ("", "Event") | ("events.k8s.io", _) => {
            // Events are told apart by what they say, not by their names.
            let is_core = group.is_empty();
            columns = vec![
                made("Last Seen", cells::event_last_seen),
                path("Type", ".type"),
                path("Reason", ".reason"),
                made("Object", cells::event_object),
                path("Message", if is_core { ".message" } else { ".note" }),
                wide(name()),
            ];
            return columns;
        }
        ("", "Namespace") => columns.push(path("Status", ".status.phase")),
        ("", "Node") => columns.extend([
            made("Status", cells::node_status),
            made("Roles", cells::node_roles),
            age(),
            path("Version", ".status.nodeInfo.kubeletVersion"),
            wide(path("Internal-IP", r#".status.addresses[?(@.type=="InternalIP")].address"#)),
            wide(path("OS-Image", ".status.nodeInfo.osImage")),
            wide(path("Kernel-Version", ".status.nodeInfo.kernelVersion")),
        ]),
        ("", "ConfigMap") => columns.push(count("Data", cells::data_count)),
        ("", "Secret") => {
            columns.extend([path("Type", ".type"), count("Data", cells::data_count)]);
        }
        ("", "ServiceAccount") => columns.push(count("Secrets", cells::secret_count)),
        ("", "Pod") => columns.extend([
            made("Ready", cells::pod_ready),
            made("Status", cells::pod_status),
            count("Restarts", cells::pod_restarts),
            age(),
            wide(path("IP", ".status.podIP")),
            wide(path("Node", ".spec.nodeName")),
        ]),
        ("", "Service") => columns.extend([
            path("Type", ".spec.type"),
            path("Cluster-IP", ".spec.clusterIP"),
            path("External-IP", ".spec.externalIPs[*]"),
            made("Port(s)", cells::service_ports),
        ]),
        ("", "Endpoints") => columns.push(path("Endpoints", ".subsets[*].addresses[*].ip")),
        ("", "PersistentVolume") => columns.extend([
            path("Capacity", ".spec.capacity.storage"),
            path("Access Modes", ".spec.accessModes[*]"),
            path("Reclaim Policy", ".spec.persistentVolumeReclaimPolicy"),
            path("Status", ".status.phase"),
            made("Claim", cells::volume_claim),
            path("StorageClass", ".spec.storageClassName"),
        ]),
        ("", "PersistentVolumeClaim") => columns.extend([
            path("Status", ".status.phase"),
            path("Volume", ".spec.volumeName"),
            path("Capacity", ".status.capacity.storage"),
            path("Access Modes", ".status.accessModes[*]"),
            path("StorageClass", ".spec.storageClassName"),
        ]),
        ("coordination.k8s.io", _) => columns.push(path("Holder", ".spec.holderIdentity")),
        ("discovery.k8s.io", _) => columns.extend([
            path("AddressType", ".addressType"),
            path("Ports", ".ports[*].port"),
            path("Endpoints", ".endpoints[*].addresses[*]"),
        ]),
        ("storage.k8s.io", _) => columns.extend([
            path("Provisioner", ".provisioner"),
            path("ReclaimPolicy", ".reclaimPolicy"),
            path("VolumeBindingMode", ".volumeBindingMode"),
        ]),
        ("scheduling.k8s.io", _) => columns.push(path("Value", ".value")),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            columns.push(made("Role", cells::binding_role));
        }
        ("rbac.authorization.k8s.io" | "apiextensions.k8s.io", _) => {
            columns.push(path("Created At", ".metadata.creationTimestamp"));
            return columns;
        }
        _ => {}
    }
    if !columns.iter().any(|column| column.name == "Age") {
        columns.push(age());
    }
    columns
}
