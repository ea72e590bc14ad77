use serde_json::{Value, json};

use super::*;
use crate::cause::Reason::{self, Duplicate, Invalid, NotSupported, Required};

/// A guest of two disks on two networks.
fn good() -> Value {
    json!({
        "domain": {
            "memory": {"guest": "128Mi"},
            "devices": {
                "disks": [
                    {"name": "root", "disk": {"bus": "virtio"}, "bootOrder": 1},
                    {"name": "seed", "cdrom": {"bus": "sata"}},
                    {"name": "empty", "cdrom": {}},
                ],
                "interfaces": [
                    {"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:05",
                        "ports": [{"name": "http", "port": 80}], "bootOrder": 2},
                    {"name": "more", "bridge": {}, "model": "e1000e", "state": "absent"},
                ],
            },
        },
        "networks": [
            {"name": "default", "pod": {}},
            {"name": "more", "multus": {"networkName": "nad"}},
        ],
        "volumes": [
            {"name": "root", "containerDisk": {"image": "a"}},
            {"name": "seed", "cloudInitNoCloud": {"userData": "a"}},
        ],
    })
}

/// `patch` merged into `into` (RFC 7396), where a number names an entry of a list that is there.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Array(list), Value::Object(fields))
            if !fields.is_empty() && fields.keys().all(|key| key.parse::<usize>().is_ok()) =>
        {
            for (at, patch) in fields {
                merge(&mut list[at.parse::<usize>().unwrap()], patch);
            }
        }
        (Value::Object(into), Value::Object(fields)) => {
            for (key, patch) in fields {
                match patch {
                    Value::Null => drop(into.remove(key)),
                    _ => merge(into.entry(key.clone()).or_insert(json!({})), patch),
                }
            }
        }
        (into, patch) => into.clone_from(patch),
    }
}

fn changed(patch: &Value) -> Value {
    let mut spec = good();
    merge(&mut spec, patch);
    spec
}

fn found(spec: &Value) -> Vec<Cause> {
    of_instance(&serde_json::from_value(spec.clone()).unwrap(), "spec")
}

#[test]
fn a_spec_that_can_be_is_not_refused() {
    let devices = |devices: Value| json!({"domain": {"devices": devices}});
    for patch in [
        json!({}),
        json!({"hostname": "web-1", "subdomain": "a.b", "architecture": "amd64"}),
        json!({"domain": {"machine": {"type": "pc-q35-7.2"}, "cpu": {"sockets": 2, "maxSockets": 4}}}),
        json!({"domain": {"memory": null, "resources": {"requests": {"memory": "64M"}}}}),
        json!({"domain": {"memory": null, "resources": {"limits": {"memory": "64M"}}}}),
        json!({"domain": {"firmware": {"bootloader": {"efi": {}}}, "features": {"smm": {}}}}),
        json!({"livenessProbe": {"tcpSocket": {"port": 22}}}),
        devices(
            json!({"disks": {"0": {"serial": "SYS-1", "io": "native", "errorPolicy": "report"}}}),
        ),
        devices(json!({"interfaces": {"0": {"dhcpOptions": {"ntpServers": ["10.0.0.1"],
            "privateOptions": [{"option": 240, "value": "a"}]}}}})),
    ] {
        assert_eq!(found(&changed(&patch)), [], "{patch}");
    }
    // What is added where nothing is said.
    let bare = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}},
        "readinessProbe": {"httpGet": {"port": 80}}});
    assert_eq!(found(&bare), []);
}

/// Number of the rule as it is listed in the project's notes on upstream, what is changed, and
/// what is said of it: the field below `spec.`, the reason and the text.
type Rule = (&'static str, Value, &'static str, Reason, &'static str);

#[rustfmt::skip]
fn hardware_rules() -> Vec<Rule> {
    let domain = |domain: Value| json!({"domain": domain});
    let limits = |kind: &str, request: &str, limit: &str| {
        json!({"domain": {"resources": {"requests": {kind: request}, "limits": {kind: limit}}}})
    };
    vec![
        ("8", domain(json!({"cpu": {"sockets": 4, "maxSockets": 2}})), "domain.cpu.sockets", Invalid,
            "Number of sockets in CPU topology is greater than the maximum sockets allowed"),
        ("9", domain(json!({"memory": null})), "domain.memory.guest", Required,
            "no memory requested, at least one of 'spec.domain.memory.guest', 'spec.domain.memory.hugepages.size' or 'spec.domain.resources.requests.memory' must be set"),
        ("10", domain(json!({"resources": {"requests": {"memory": "64k"}}})), "domain.resources.requests.memory", Invalid,
            "spec.domain.resources.requests.memory '64k': must be greater than or equal to 1M."),
        ("10", domain(json!({"memory": {"guest": "64k"}})), "domain.memory.guest", Invalid,
            "spec.domain.memory.guest '64k': must be greater than or equal to 1M."),
        ("", domain(json!({"memory": {"guest": "much"}})), "domain.memory.guest", Invalid,
            "spec.domain.memory.guest is wrong: \"much\" is not a quantity: write a number and a suffix, such as 256Mi or 2Gi"),
        ("11", domain(json!({"resources": {"limits": {"memory": "64Mi"}}})), "domain.memory.guest", Invalid,
            "spec.domain.memory.guest '128Mi' must be equal to or less than the memory limit spec.domain.resources.limits.memory '64Mi'"),
        ("", limits("memory", "2Gi", "1Gi"), "domain.resources.requests.memory", Invalid,
            "spec.domain.resources.requests.memory '2Gi' is greater than spec.domain.resources.limits.memory '1Gi'"),
        ("", limits("cpu", "2", "1500m"), "domain.resources.requests.cpu", Invalid,
            "spec.domain.resources.requests.cpu '2' is greater than spec.domain.resources.limits.cpu '1500m'"),
        ("", domain(json!({"cpu": {"features": [{"name": "vmx", "policy": "maybe"}]}})), "domain.cpu.features[0].policy", NotSupported,
            "CPU feature vmx uses policy maybe that is not supported."),
        ("12", domain(json!({"machine": {"type": "pc"}})), "domain.machine.type", Invalid,
            "spec.domain.machine.type is not supported: pc (allowed values: [q35* pc-q35*])"),
        ("", json!({"architecture": "arm64"}), "architecture", Invalid,
            "spec.architecture is not supported: arm64 (allowed values: [amd64])"),
        ("13", json!({"hostname": "Web"}), "hostname", Invalid,
            "spec.hostname does not conform to the kubernetes DNS_LABEL rules : a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"),
        ("13", json!({"subdomain": "a..b"}), "subdomain", Invalid,
            "spec.subdomain does not conform to the kubernetes DNS_SUBDOMAIN rules : a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"),
        ("", json!({"startStrategy": "Fast"}), "startStrategy", Invalid,
            "spec.startStrategy is set with an unrecognized option: Fast"),
        ("", json!({"livenessProbe": {"tcpSocket": {"port": 22}}, "startStrategy": "Paused"}), "startStrategy", Invalid,
            "either spec.startStrategy or spec.livenessProbe should be provided.Pausing VMI with LivenessProbe is not supported"),
        ("", json!({"evictionStrategy": "Never"}), "evictionStrategy", Invalid,
            "spec.evictionStrategy is set with an unrecognized option: Never"),
        ("26", domain(json!({"firmware": {"bootloader": {"bios": {}, "efi": {"secureBoot": false}}}})), "domain.firmware.bootloader", Invalid,
            "spec.domain.firmware.bootloader has both EFI and BIOS configured, but they are mutually exclusive."),
        ("27", domain(json!({"firmware": {"bootloader": {"efi": {}}}})), "domain", Invalid,
            "spec.domain has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled."),
        ("", domain(json!({"devices": {"inputs": [{"name": "a", "type": "tablet", "bus": "ps2"}]}})), "domain.devices.inputs[0].bus", Invalid,
            "Input device can have only virtio or usb bus."),
        ("", domain(json!({"devices": {"inputs": [{"name": "a", "type": "mouse"}]}})), "domain.devices.inputs[0].type", Invalid,
            "Input device can have only tablet type."),
        ("28", json!({"livenessProbe": {}}), "livenessProbe", Invalid,
            "spec.livenessProbe must have exactly one probe type set"),
    ]
}

#[rustfmt::skip]
fn disk_rules() -> Vec<Rule> {
    let disk = |disk: Value| json!({"domain": {"devices": {"disks": {"0": disk}}}});
    let drive = |drive: Value| json!({"domain": {"devices": {"disks": {"1": drive}}}});
    let volume = |volume: Value| json!({"volumes": {"0": volume}});
    let seed = |seed: Value| json!({"volumes": {"1": {"cloudInitNoCloud": seed}}});
    let host = |disk: Value| json!({"volumes": {"0": {"containerDisk": null, "hostDisk": disk}}});
    let account = json!({"serviceAccount": {"serviceAccountName": "a"}});
    let two = json!({"0": {"containerDisk": null}, "1": {"cloudInitNoCloud": null}});
    let mut accounts = json!({"volumes": two});
    merge(&mut accounts, &json!({"volumes": {"0": account, "1": account}}));
    vec![
        ("14", volume(json!({"emptyDisk": {"capacity": "1Gi"}})), "volumes[0]", Invalid,
            "spec.volumes[0] must have exactly one source type set"),
        ("15", volume(json!({"name": "seed"})), "volumes[1].name", Invalid,
            "spec.volumes[1] and spec.volumes[0] must not have the same Name."),
        ("15", drive(json!({"name": "root"})), "domain.devices.disks[1].name", Invalid,
            "spec.domain.devices.disks[1] and spec.domain.devices.disks[0] must not have the same Name."),
        ("16", disk(json!({"name": "gone"})), "domain.devices.disks[0].name", Invalid,
            "spec.domain.devices.disks[0].name 'gone' not found."),
        ("17", disk(json!({"lun": {}})), "domain.devices.disks[0]", Invalid,
            "spec.domain.devices.disks[0] can only have a single target type defined"),
        ("19", drive(json!({"cdrom": {"bus": "virtio"}})), "domain.devices.disks[1].cdrom.bus", Invalid,
            "Bus type virtio is invalid for CD-ROM device"),
        ("", disk(json!({"disk": {"bus": "sata", "readonly": true}})), "domain.devices.disks[0].disk.bus", Invalid,
            "sata hard-disks do not support read-only."),
        ("21", disk(json!({"bootOrder": 0})), "domain.devices.disks[0].bootOrder", Invalid,
            "spec.domain.devices.disks[0] must have a boot order > 0, if supplied"),
        ("21", disk(json!({"bootOrder": 2})), "domain.devices.interfaces[0].bootOrder", Invalid,
            "Boot order for spec.domain.devices.interfaces[0].bootOrder already set for a different device."),
        ("", disk(json!({"serial": "a b"})), "domain.devices.disks[0].serial", Invalid,
            "spec.domain.devices.disks[0] must be made up of the following characters [A-Za-z0-9_.+-], if specified"),
        ("", disk(json!({"serial": "a".repeat(257)})), "domain.devices.disks[0].serial", Invalid,
            "spec.domain.devices.disks[0] must be less than or equal to 256 in length, if specified"),
        ("", disk(json!({"errorPolicy": "cry"})), "domain.devices.disks[0].errorPolicy", Invalid,
            "spec.domain.devices.disks[0].errorPolicy has invalid value \"cry\""),
        ("", disk(json!({"io": "fast"})), "domain.devices.disks[0].io", NotSupported,
            "Disk IO mode for spec.domain.devices.disks[0].io is not supported. Supported modes are: native, threads."),
        ("", disk(json!({"blockSize": {"custom": {"logical": 1024, "physical": 512}}})), "domain.devices.disks[0].blockSize.custom.logical", Invalid,
            "Logical size 1024 must be the same or less than the physical size of 512"),
        ("", disk(json!({"blockSize": {"custom": {"logical": 512, "physical": 600}}})), "domain.devices.disks[0].blockSize.custom.physical", Invalid,
            "Provided size of 600 is not a power of 2"),
        ("22", seed(json!({"userData": "a".repeat(2049)})), "volumes[1].cloudInitNoCloud", Invalid,
            "spec.volumes[1].cloudInitNoCloud userdata exceeds 2048 byte limit. Should use UserDataSecretRef for larger data."),
        ("22", seed(json!({"networkDataBase64": "YWFh".repeat(700)})), "volumes[1].cloudInitNoCloud", Invalid,
            "spec.volumes[1].cloudInitNoCloud networkdata exceeds 2048 byte limit. Should use NetworkDataSecretRef for larger data."),
        ("23", seed(json!({"secretRef": {"name": "s"}})), "volumes[1].cloudInitNoCloud", Invalid,
            "spec.volumes[1].cloudInitNoCloud must have only one userdatasource set."),
        ("23", seed(json!({"userData": ""})), "volumes[1].cloudInitNoCloud", Invalid,
            "spec.volumes[1].cloudInitNoCloud must have at least one userdatasource or one networkdatasource set."),
        ("", seed(json!({"userData": "", "userDataBase64": "*"})), "volumes[1].cloudInitNoCloud.userDataBase64", Invalid,
            "spec.volumes[1].cloudInitNoCloud.userDataBase64 is not a valid base64 value."),
        ("24", accounts, "volumes", Invalid, "spec.volumes must have max one serviceAccount volume set"),
        ("", host(json!({"path": "", "type": "Disk"})), "volumes[0].hostDisk.path", Required,
            "spec.volumes[0].hostDisk.path is required for hostDisk volume"),
        ("", host(json!({"path": "/a", "type": "File"})), "volumes[0].hostDisk.type", Invalid,
            "spec.volumes[0].hostDisk.type has invalid value 'File', allowed are 'Disk' or 'DiskOrCreate'"),
        ("", host(json!({"path": "/a", "type": "Disk", "capacity": "1Gi"})), "volumes[0].hostDisk.capacity", Invalid,
            "spec.volumes[0].hostDisk.capacity is allowed to pass only with spec.volumes[0].hostDisk.type equal to 'DiskOrCreate'"),
        ("", json!({"volumes": {"0": {"containerDisk": null, "configMap": {}}}}), "volumes[0].configMap.name", Invalid,
            "spec.volumes[0].configMap.name is a required field"),
    ]
}

#[rustfmt::skip]
fn network_rules() -> Vec<Rule> {
    let first = |one: Value| json!({"domain": {"devices": {"interfaces": {"0": one}}}});
    let second = |one: Value| json!({"domain": {"devices": {"interfaces": {"1": one}}}});
    let network = |one: Value| json!({"networks": {"1": one}});
    let default = json!({"multus": {"networkName": "a", "default": true}});
    let mut defaults = json!({"networks": {"0": {"pod": null}, "1": default}});
    merge(&mut defaults, &json!({"networks": {"0": default}}));
    merge(&mut defaults, &first(json!({"masquerade": null, "bridge": {}})));
    merge(&mut defaults, &second(json!({"state": "up"})));
    let nowhere = json!({"networks": [], "livenessProbe": {"tcpSocket": {"port": 22}},
        "domain": {"devices": {"interfaces": [], "autoattachPodInterface": false}}});
    vec![
        ("16", first(json!({"name": "gone"})), "domain.devices.interfaces[0].name", Invalid,
            "spec.domain.devices.interfaces[0].name 'gone' not found."),
        ("16", network(json!({"name": "gone"})), "networks[1].name", Required,
            "spec.networks[1].name 'gone' not found."),
        ("28b", nowhere, "livenessProbe.tcpSocket", Invalid,
            "spec.livenessProbe.tcpSocket is only allowed if the Pod Network is attached"),
        ("29", first(json!({"bridge": {}})), "domain.devices.interfaces[0]", Invalid,
            "logical default interface must have exactly one binding method or binding plugin"),
        ("29", first(json!({"masquerade": null})), "domain.devices.interfaces[0]", Invalid,
            "logical default interface must have exactly one binding method or binding plugin"),
        ("30", second(json!({"bridge": null, "masquerade": {}, "state": "up"})), "domain.devices.interfaces[1].name", Invalid,
            "Masquerade interface only implemented with pod network"),
        ("32", first(json!({"macAddress": "02:00:00:00:00:00"})), "domain.devices.interfaces[0].macAddress", Invalid,
            "The requested MAC address is reserved for the in-pod bridge. Please choose another one."),
        ("33", network(json!({"name": "default"})), "networks[1].name", Duplicate,
            "Network with name \"default\" already exists, every network must have a unique name"),
        ("34", second(json!({"name": "default", "state": "up"})), "domain.devices.interfaces[1].name", Duplicate,
            "Only one interface can be connected to one specific network"),
        ("35", network(json!({"multus": null, "pod": {}})), "interfaces", Duplicate,
            "more than one interface is connected to a pod network in spec.interfaces"),
        ("36", defaults, "networks", Invalid, "Multus CNI should only have one default network"),
        ("37", network(json!({"multus": {"default": true}})), "networks", Invalid,
            "Pod network cannot be defined when Multus default network is defined"),
        ("38", network(json!({"multus": null})), "networks[1]", Required, "should have a network type"),
        ("38", network(json!({"resourceClaim": {"claimName": "a"}})), "networks[1]", Required,
            "should have only one network type"),
        ("38", network(json!({"multus": {"networkName": ""}})), "networks[1]", Required,
            "CNI delegating plugin must have a networkName"),
        ("39", second(json!({"model": "wifi"})), "domain.devices.interfaces[1].model", NotSupported,
            "interface spec.domain.devices.interfaces[1].name uses model wifi that is not supported."),
        ("40", first(json!({"macAddress": "02:00"})), "domain.devices.interfaces[0].macAddress", Invalid,
            "interface spec.domain.devices.interfaces[0].name has malformed MAC address (02:00)."),
        ("41", first(json!({"ports": [{"port": 0}]})), "domain.devices.interfaces[0].ports[0].port", Required,
            "Port field is mandatory."),
        ("41", first(json!({"ports": [{"port": 1, "protocol": "SCTP"}]})), "domain.devices.interfaces[0].ports[0].protocol", Invalid,
            "Unknown protocol, only TCP or UDP allowed"),
        ("41", first(json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]})), "domain.devices.interfaces[0].ports[1].name", Duplicate,
            "Duplicate name of the port: a"),
        ("42", first(json!({"dhcpOptions": {"privateOptions": [{"option": 12, "value": "a"}]}})), "domain.devices.interfaces[0].dhcpOptions.privateOptions[0].option", Invalid,
            "provided DHCPPrivateOptions are out of range, must be in range 224 to 254"),
        ("42", first(json!({"dhcpOptions": {"ntpServers": ["fd00::1"]}})), "domain.devices.interfaces[0].dhcpOptions.ntpServers[0]", Invalid,
            "NTP servers must be a list of valid IPv4 addresses."),
        ("43", first(json!({"masquerade": null, "bridge": {}, "state": "absent"})), "domain.devices.interfaces[0].state", Invalid,
            "\"default\" interface's state \"absent\" is not supported on default networks"),
        ("43", second(json!({"bridge": null, "binding": {"name": "a"}})), "domain.devices.interfaces[1].state", Invalid,
            "\"more\" interface's state \"absent\" is supported only for bridge binding"),
        ("43", first(json!({"state": "loose"})), "domain.devices.interfaces[0].state", Invalid,
            "logical default interface state value is unsupported: loose"),
        ("44", first(json!({"masquerade": null, "slirp": {}})), "domain.devices.interfaces[0].slirp", Invalid,
            "Slirp interface support has been discontinued since v1.3"),
        ("44", first(json!({"masquerade": null, "passt": {}})), "domain.devices.interfaces[0].passt", Invalid,
            "Passt network binding has been discontinued since v1.3"),
        ("44", first(json!({"masquerade": null, "macvtap": {}})), "domain.devices.interfaces[0].macvtap", Invalid,
            "Macvtap network binding has been discontinued since v1.3"),
    ]
}

#[test]
fn each_rule_is_told_with_its_field_its_reason_and_upstreams_text() {
    let rules = [hardware_rules(), disk_rules(), network_rules()].concat();
    assert!(rules.len() >= 70, "{}", rules.len());
    for (rule, patch, field, reason, text) in rules {
        let spec = changed(&patch);
        let causes = found(&spec);
        let is_it = |one: &&Cause| one.message == text;
        let told = causes.iter().find(is_it);
        let told = told.unwrap_or_else(|| panic!("{rule} {patch}: {text:?} is not in {causes:#?}"));
        assert_eq!(
            (told.field.as_str(), told.reason),
            (&*format!("spec.{field}"), reason),
            "{rule}"
        );
    }
}

#[test]
fn what_fits_no_type_is_told_in_upstreams_words() {
    let mut spec = json!({"runStrategy": "Sometimes", "template": {"spec": good()}});
    let devices = &mut spec["template"]["spec"]["domain"]["devices"];
    devices["disks"][0]["disk"]["bus"] = "ide".into();
    devices["disks"][1]["cdrom"]["bus"] = "nvme".into();
    devices["interfaces"][0]["ports"][0]["port"] = 65536.into();
    let path = "spec.template.spec.domain.devices";
    let want = [
        Cause::invalid("spec.runStrategy", "Invalid RunStrategy (Sometimes)"),
        Cause::invalid(format!("{path}.disks[0].disk.bus"), "IDE bus is not supported"),
        Cause::invalid(
            format!("{path}.disks[1].cdrom.bus"),
            format!(
                "{path}.disks[1] is set with an unrecognized bus nvme, must be one of: [virtio scsi sata usb]"
            ),
        ),
        Cause::invalid(
            format!("{path}.interfaces[0].ports[0].port"),
            "Port field must be in range 0 < x < 65536.",
        ),
    ];
    assert_eq!(of_misfit(&spec, true), want);
    assert_eq!(of_misfit(&json!({"domain": "none"}), false), []);
}

#[test]
fn of_the_spec_of_a_template_the_path_is_that_one_and_memory_may_come_later() {
    let spec = changed(&json!({"hostname": "Web", "domain": {"memory": null}}));
    let causes = of_spec(&serde_json::from_value(spec).unwrap(), "spec.template.spec");
    let [cause] = &causes[..] else { panic!("{causes:?}") };
    assert_eq!(cause.field, "spec.template.spec.hostname");
    assert!(cause.message.starts_with("spec.template.spec.hostname does not conform"));
}

#[test]
fn of_a_list_that_is_too_long_that_alone_is_told() {
    let many: Vec<_> = (0..60_000).map(|_| json!({"name": "A B"})).collect();
    let causes = found(&changed(&json!({"volumes": many})));
    let first = &causes[0];
    assert_eq!(first.message, "spec.volumes list exceeds the 256 element limit in length");
    assert!(causes.len() < 3, "{causes:?}");
}

#[test]
fn an_agent_serves_a_network_that_is_written_as_no_other_would() {
    let spec =
        changed(&json!({"domain": {"devices": {"interfaces": {"0": {"masquerade": null}}}}}));
    let typed = serde_json::from_value(spec).unwrap();
    assert_eq!(of_guest(&typed, "spec"), []);
    assert_ne!(of_spec(&typed, "spec"), []);
}

/// Stories start them in an API that reviews.
#[test]
fn what_the_examples_ask_for_is_let_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/examples/features");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---") {
            let object: Value = serde_norway::from_str(document).unwrap();
            let found = match object["kind"].as_str() {
                Some("VirtualMachine" | "VirtualMachineInstanceReplicaSet") => {
                    let spec = object["spec"]["template"]["spec"].clone();
                    of_spec(&serde_json::from_value(spec).unwrap(), "spec")
                }
                Some("VirtualMachineInstance") => found(&object["spec"]),
                _ => continue,
            };
            seen += 1;
            assert_eq!(found, [], "{}", path.display());
        }
    }
    assert!(seen > 30, "{seen}");
}
