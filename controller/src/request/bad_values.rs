//! Values that cannot be served: each is refused with the annotation, the value, and
//! what to do instead.

use serde_json::json;

use super::tests::{of, subnets, vm};

const ADDRESS: &str = "ovn.kubernetes.io/ip_address";
const MAC: &str = "ovn.kubernetes.io/mac_address";
const POOL: &str = "ovn.kubernetes.io/ip_pool";
const VIPS: &str = "ovn.kubernetes.io/port_vips";
const SWITCH: &str = "ovn.kubernetes.io/logical_switch";

/// Annotation, value, and words of the advice.
const BAD: [(&str, &str, &str); 47] = [
    (ADDRESS, "", "write 10.0.0.5"),
    (ADDRESS, " ", "write 10.0.0.5"),
    (ADDRESS, "ten", "write 10.0.0.5"),
    (ADDRESS, "10.0.0", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.256", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.05", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.5/24", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.5,", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.5;fd00::5", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.5 fd00::5", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.5..10.0.0.9", "write 10.0.0.5"),
    (ADDRESS, "fd00::5::1", "write 10.0.0.5"),
    (ADDRESS, "fe80::1%eth0", "write 10.0.0.5"),
    (ADDRESS, "{10.0.0.5}", "write 10.0.0.5"),
    (ADDRESS, "10.0.0.5,10.0.0.6", "name one of each at most"),
    (ADDRESS, "fd00::5,fd00::6", "name one of each at most"),
    (ADDRESS, "10.9.0.5", "choose a free address of it"),
    (ADDRESS, "fd01::5", "choose a free address of it"),
    (ADDRESS, "0.0.0.0", "choose a free address of it"),
    (MAC, "", "write six hexadecimal octets"),
    (MAC, "1", "write six hexadecimal octets"),
    (MAC, "02:00:00:00:00", "write six hexadecimal octets"),
    (MAC, "02:00:00:00:00:0g", "write six hexadecimal octets"),
    (MAC, "02:00:00:00:00:01:02", "write six hexadecimal octets"),
    (MAC, "01:00:00:00:00:01", "write another"),
    (MAC, "ff:ff:ff:ff:ff:ff", "write another"),
    (MAC, "00:00:00:00:00:00", "write another"),
    (SWITCH, "none", "create it or name another"),
    (SWITCH, "", "create it or name another"),
    (SWITCH, "s3", "has provider"),
    (POOL, "blue-pool", "create it"),
    (POOL, "", "write 10.0.0.5,10.0.0.6"),
    (POOL, "10.0.0.5,10.0.0.6;10.0.0.7", "write 10.0.0.5,10.0.0.6"),
    (POOL, "10.0.0.9..10.0.0.5", "write 10.0.0.5,10.0.0.6"),
    (POOL, "10.9.0.5", "choose a free address of it"),
    (POOL, "fd00::1..fd00::ffff", "name fewer"),
    ("ovn.kubernetes.io/port_security", "no", "write \"true\" or \"false\""),
    ("ovn.kubernetes.io/port_security", "", "write \"true\" or \"false\""),
    ("ovn.kubernetes.io/layer2_forward", "yes", "write \"true\" or \"false\""),
    ("ovn.kubernetes.io/ingress_rate", "10M", "write one of Mbit/s"),
    ("ovn.kubernetes.io/egress_rate", "1.5", "write one of Mbit/s"),
    ("ovn.kubernetes.io/ingress_burst", "fast", "write one of Mbit/s"),
    ("ovn.kubernetes.io/egress_burst", "1 0", "write one of Mbit/s"),
    (VIPS, "", "write 10.0.0.9,10.1.0.0/24"),
    (VIPS, "10.0.0.9;10.0.0.8", "write 10.0.0.9,10.1.0.0/24"),
    (VIPS, "10.0.0.9/33", "write 10.0.0.9,10.1.0.0/24"),
    (VIPS, "10.0.0.9,::/0", "set port_security to \"false\""),
];

#[test]
fn a_bad_value_is_refused_with_its_annotation_and_what_to_do() {
    for (key, value, advice) in BAD {
        let error = of(&vm(&json!({ key: value }), &json!({})), &subnets());
        let message = error.expect_err(&format!("{key}: {value:?}")).to_string();
        assert!(message.contains(&format!("annotation {key}")), "{key}: {value:?}: {message}");
        assert!(message.contains(value.trim()), "{key}: {value:?}: {message}");
        assert!(message.contains(advice), "{key}: {value:?}: {message}");
    }
}

#[test]
fn a_rate_that_is_a_whole_number_or_nothing_is_let_in() {
    for text in ["100", " 100 ", "0", ""] {
        let notes = json!({ "ovn.kubernetes.io/ingress_rate": text });
        of(&vm(&notes, &json!({})), &subnets()).unwrap();
    }
}

#[test]
fn a_name_that_what_bears_it_cannot_have_is_refused() {
    let attached = |attachment: &str| {
        json!({"networks": [{"name": "more", "multus": {"networkName": attachment}}],
            "domain": {"devices": {"interfaces": [{"name": "more", "bridge": {}}]}}})
    };
    let told = |name: &str, spec: &serde_json::Value| {
        let mut vm = vm(&json!({}), spec);
        vm.metadata.name = Some(name.to_owned());
        of(&vm, &subnets()).map(|_| ()).unwrap_err().to_string()
    };
    let long = "a".repeat(64);
    assert!(told(&long, &json!({})).contains("64 bytes long: create it under one of at most 63"));
    for attachment in ["net2\0", "Net2", "", "a/b/c", "default/"] {
        let said = told("web", &attached(attachment));
        assert!(said.contains("names no attachment: write <name>"), "{attachment:?}: {said}");
    }
    let said = told("web", &attached(&["a"; 120].join(".")));
    assert!(said.contains("is 263 bytes long") && said.contains("at most 253"), "{said}");
}
