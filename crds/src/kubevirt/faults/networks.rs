//! Networks and interfaces (`pkg/network/admitter`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::cause::Cause;
use crate::kubevirt::{DhcpOptions, Interface, Network, VirtualMachineInstanceSpec};

/// The adapters that there are.
const MODELS: [&str; 7] = ["e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio"];

/// The bindings that are kept in the schema and in no code.
const DISCONTINUED: [(&str, &str); 3] = [
    ("slirp", "Slirp interface support has been discontinued since v1.3"),
    ("passt", "Passt network binding has been discontinued since v1.3"),
    ("macvtap", "Macvtap network binding has been discontinued since v1.3"),
];

/// What upstream's bridge in a pod has.
const RESERVED_MAC: &str = "02:00:00:00:00:00";

pub(super) fn check(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let networks: BTreeMap<&str, &Network> =
        spec.networks.iter().map(|network| (network.name.as_str(), network)).collect();
    let mut found = sources(spec, path);
    found.extend(pairs(spec, path, &networks));
    let default = spec.networks.iter().find(|one| one.pod.is_some() || is_default(one));
    for (at, interface) in spec.domain.devices.interfaces.iter().enumerate() {
        let field = format!("{path}.domain.devices.interfaces[{at}]");
        let network = networks.get(interface.name.as_str()).copied();
        found.extend(binding(interface, network, &field));
        let is_default = default.is_some_and(|default| default.name == interface.name);
        found.extend(state(interface, is_default, &field));
        found.extend(fields(interface, &field));
        found.extend(ports(interface, &field));
        let options = interface.dhcp_options.as_ref();
        found.extend(options.map(|options| dhcp(options, &field)).unwrap_or_default());
    }
    found
}

fn is_default(network: &Network) -> bool {
    network.multus.as_ref().is_some_and(|multus| multus.default == Some(true))
}

/// What the networks are.
fn sources(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let pods = spec.networks.iter().filter(|one| one.pod.is_some()).count();
    let defaults = spec.networks.iter().filter(|one| is_default(one)).count();
    let field = format!("{path}.networks");
    if pods > 1 {
        let field = format!("{path}.interfaces");
        let text = format!("more than one interface is connected to a pod network in {field}");
        found.push(Cause::duplicate(field, text));
    }
    if defaults > 1 {
        let text = "Multus CNI should only have one default network";
        found.push(Cause::invalid(&field, text));
    }
    if pods > 0 && defaults > 0 {
        let text = "Pod network cannot be defined when Multus default network is defined";
        found.push(Cause::invalid(&field, text));
    }
    for (at, network) in spec.networks.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let claim = network.rest.get("resourceClaim").is_some_and(|claim| !claim.is_null());
        let kinds = [network.pod.is_some(), network.multus.is_some(), claim];
        match kinds.into_iter().filter(|is_set| *is_set).count() {
            0 => found.push(Cause::required(&field, "should have a network type")),
            1 => {}
            _ => found.push(Cause::required(&field, "should have only one network type")),
        }
        if network.multus.as_ref().is_some_and(|multus| multus.network_name.is_empty()) {
            let text = "CNI delegating plugin must have a networkName";
            found.push(Cause::required(field, text));
        }
    }
    found
}

/// Whether each network has its interface, and each interface its network.
fn pairs(
    spec: &VirtualMachineInstanceSpec,
    path: &str,
    networks: &BTreeMap<&str, &Network>,
) -> Vec<Cause> {
    let interfaces = &spec.domain.devices.interfaces;
    let names: BTreeSet<&str> = interfaces.iter().map(|one| one.name.as_str()).collect();
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    for (at, network) in spec.networks.iter().enumerate() {
        let (field, name) = (format!("{path}.networks[{at}].name"), network.name.as_str());
        if !known.insert(name) {
            let text = format!(
                "Network with name {name:?} already exists, every network must have a unique name"
            );
            found.push(Cause::duplicate(&field, text));
        }
        if !names.contains(name) {
            let text = format!("{field} '{name}' not found.");
            found.push(Cause::required(field, text));
        }
    }
    let mut known = BTreeSet::new();
    for (at, interface) in interfaces.iter().enumerate() {
        let field = format!("{path}.domain.devices.interfaces[{at}].name");
        let name = interface.name.as_str();
        if !known.insert(name) {
            let text = "Only one interface can be connected to one specific network";
            found.push(Cause::duplicate(&field, text));
        }
        if !networks.contains_key(name) {
            let text = format!("{field} '{name}' not found.");
            found.push(Cause::invalid(field, text));
        }
    }
    found
}

fn has(interface: &Interface, binding: &str) -> bool {
    interface.rest.get(binding).is_some_and(|said| !said.is_null())
}

/// How the interface is plugged in.
fn binding(interface: &Interface, network: Option<&Network>, field: &str) -> Vec<Cause> {
    let gone = DISCONTINUED.into_iter().filter(|(name, _)| has(interface, name));
    let mut found: Vec<Cause> =
        gone.map(|(name, text)| Cause::invalid(format!("{field}.{name}"), text)).collect();
    let bindings = [
        interface.bridge.is_some(),
        interface.masquerade.is_some(),
        interface.binding.is_some(),
        has(interface, "sriov"),
        has(interface, "passtBinding"),
    ];
    // Of one that is no more nothing else need be said.
    if found.is_empty() && bindings.into_iter().filter(|is_set| *is_set).count() != 1 {
        let text = format!(
            "logical {} interface must have exactly one binding method or binding plugin",
            interface.name
        );
        found.push(Cause::invalid(field, text));
    }
    if interface.masquerade.is_some() {
        // Of a network that is not there that is said.
        if network.is_some_and(|network| network.pod.is_none()) {
            let text = "Masquerade interface only implemented with pod network";
            found.push(Cause::invalid(format!("{field}.name"), text));
        }
        if interface.mac_address.as_deref() == Some(RESERVED_MAC) {
            let text = "The requested MAC address is reserved for the in-pod bridge. Please choose another one.";
            found.push(Cause::invalid(format!("{field}.macAddress"), text));
        }
    }
    found
}

/// Whether its cable is in.
fn state(interface: &Interface, is_default: bool, field: &str) -> Vec<Cause> {
    let (name, field) = (interface.name.as_str(), format!("{field}.state"));
    let state = interface.state.as_deref().unwrap_or_default();
    let text = match state {
        "" | "up" | "down" if !state.is_empty() && has(interface, "sriov") => {
            format!("{name:?} interface's state {state:?} is not supported for SR-IOV NICs")
        }
        "" | "up" | "down" => return Vec::new(),
        "absent" => {
            let bridged = format!(
                "{name:?} interface's state {state:?} is supported only for bridge binding"
            );
            let default = format!(
                "{name:?} interface's state {state:?} is not supported on default networks"
            );
            let wrong = [(interface.bridge.is_none(), bridged), (is_default, default)];
            let wrong = wrong.into_iter().filter(|(is_so, _)| *is_so);
            return wrong.map(|(_, text)| Cause::invalid(&field, text)).collect();
        }
        other => format!("logical {name} interface state value is unsupported: {other}"),
    };
    vec![Cause::invalid(field, text)]
}

/// Name, adapter and MAC.
fn fields(interface: &Interface, field: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if interface.name.is_empty() || !interface.name.bytes().all(plain) {
        let text = "Network interface name can only contain alphabetical characters, numbers, dashes (-) or underscores (_)";
        found.push(Cause::invalid(format!("{field}.name"), text));
    }
    found.extend(adapter(interface, field));
    let mac = interface.mac_address.as_deref().unwrap_or_default();
    if !mac.is_empty() && !is_mac(mac) {
        let text = format!("interface {field}.name has malformed MAC address ({mac}).");
        found.push(Cause::invalid(format!("{field}.macAddress"), text));
    }
    found
}

/// The adapters that there are not.
pub(super) fn adapters(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let interfaces = spec.domain.devices.interfaces.iter().enumerate();
    let at = |at| format!("{path}.domain.devices.interfaces[{at}]");
    interfaces.filter_map(|(index, one)| adapter(one, &at(index))).collect()
}

fn adapter(interface: &Interface, field: &str) -> Option<Cause> {
    let model = interface.model.as_deref().filter(|model| !model.is_empty())?;
    let text = format!("interface {field}.name uses model {model} that is not supported.");
    let is_known = MODELS.contains(&model);
    (!is_known).then(|| Cause::not_supported(format!("{field}.model"), text))
}

/// Six bytes, as any of the ways in which they are written.
fn is_mac(text: &str) -> bool {
    let digits = |part: &str, count| {
        part.len() == count && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let of = |separator: char, parts: usize, count: usize| {
        text.split(separator).count() == parts
            && text.split(separator).all(|part| digits(part, count))
    };
    of(':', 6, 2) || of('-', 6, 2) || of('.', 3, 4)
}

fn ports(interface: &Interface, field: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    for (at, port) in interface.ports.iter().enumerate() {
        let field = |of: &str| format!("{field}.ports[{at}].{of}");
        if port.port == 0 {
            found.push(Cause::required(field("port"), "Port field is mandatory."));
        }
        if !matches!(port.protocol.as_deref().unwrap_or_default(), "" | "TCP" | "UDP") {
            let text = "Unknown protocol, only TCP or UDP allowed";
            found.push(Cause::invalid(field("protocol"), text));
        }
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            continue;
        }
        if !known.insert(name) {
            let text = format!("Duplicate name of the port: {name}");
            found.push(Cause::duplicate(field("name"), text));
        }
        if !is_port_name(name) {
            let text = format!("Invalid name of the port: {name}");
            found.push(Cause::invalid(field("name"), text));
        }
    }
    found
}

/// As Kubernetes has it (`validation.IsValidPortName`).
fn is_port_name(name: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 15
        && name.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn dhcp(options: &DhcpOptions, field: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let field = format!("{field}.dhcpOptions");
    let private = &options.private_options;
    let numbers: BTreeSet<i64> = private.iter().map(|one| one.option).collect();
    if numbers.len() < private.len() {
        let text = "Found Duplicates: you have provided duplicate DHCPPrivateOptions";
        found.push(Cause::invalid(format!("{field}.privateOptions"), text));
    }
    for (at, option) in private.iter().enumerate() {
        if !(224..=254).contains(&option.option) {
            let field = format!("{field}.privateOptions[{at}].option");
            let text = "provided DHCPPrivateOptions are out of range, must be in range 224 to 254";
            found.push(Cause::invalid(field, text));
        }
    }
    for (at, server) in options.ntp_servers.iter().enumerate() {
        if server.parse::<Ipv4Addr>().is_err() {
            let text = "NTP servers must be a list of valid IPv4 addresses.";
            found.push(Cause::invalid(format!("{field}.ntpServers[{at}]"), text));
        }
    }
    found
}
