use crds::kubevirt::VirtualMachineInstance;
use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "s1"},
        "spec": {"selector": {"app": "web"}, "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    service["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(service).unwrap()
}

fn vmi(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": name,
            "labels": {"app": "web", "kubevirt.io/nodeName": "n1"},
            "annotations": {"ovn.kubernetes.io/ip_address": address}},
        "spec": {"domain": {"devices": {"interfaces": [
            {"name": "a", "ports": [{"name": "www", "port": 8081}]}]}}},
        "status": {"phase": "Running", "nodeName": "n1", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn guest(vmi: &Value) -> Guest {
    let vmi: VirtualMachineInstance = serde_json::from_value(vmi.clone()).unwrap();
    Guest::of(&vmi).unwrap()
}

fn planned(service: &Service, guests: &[(&str, Guest)], have: &[&EndpointSlice]) -> Vec<Write> {
    let zones = BTreeMap::from([("n1".to_owned(), "east".to_owned())]);
    plan(service, guests.iter().map(|(name, guest)| (*name, guest)), &zones, have)
}

fn made(writes: &[Write]) -> Vec<EndpointSlice> {
    writes
        .iter()
        .map(|write| match write {
            Write::Make(slice) => {
                let mut slice = (**slice).clone();
                slice.metadata.uid = Some(slice.name_any());
                slice
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_vm_that_a_service_selects_is_its_endpoint_and_no_other_is() {
    let web = service(json!({}));
    let mut other = vmi("other", "10.0.0.9");
    other["metadata"]["labels"]["app"] = json!("db");
    let guests = [("a", guest(&vmi("a", "10.0.0.5,fd00::5"))), ("other", guest(&other))];
    let slices = made(&planned(&web, &guests, &[]));
    assert_eq!(slices.len(), 1);
    let endpoint = &slices[0].endpoints[0];
    assert_eq!(
        (slices[0].endpoints.len(), &endpoint.addresses[..]),
        (1, &["10.0.0.5".to_owned()][..])
    );
    assert_eq!(endpoint.zone.as_deref(), Some("east"));
    assert_eq!(endpoint.node_name.as_deref(), Some("n1"));
    let ports = slices[0].ports.as_ref().unwrap();
    assert_eq!((ports[0].name.as_deref(), ports[0].port), (Some("http"), Some(8080)));
    assert_eq!(slices[0].labels()["kubernetes.io/service-name"], "web");
    assert_eq!(slices[0].metadata.owner_references.as_ref().unwrap()[0].uid, "s1");
    let there: Vec<_> = slices.iter().collect();
    assert!(planned(&web, &guests, &there).is_empty(), "what is there is not written again");
    assert_eq!(planned(&web, &guests[1..], &there), [removal(&slices[0])]);
    let nobody = service(json!({"selector": {}}));
    assert!(planned(&nobody, &guests, &[]).is_empty(), "no selector is not every one");
}

#[test]
fn each_family_that_the_service_has_is_a_slice_of_its_own() {
    let guests = [("a", guest(&vmi("a", "10.0.0.5,fd00::5")))];
    let families = |spec: Value| {
        let slices = made(&planned(&service(spec), &guests, &[]));
        slices.iter().map(|one| one.address_type.clone()).collect::<Vec<_>>()
    };
    assert_eq!(families(json!({"ipFamilies": ["IPv6", "IPv4"]})), ["IPv4", "IPv6"]);
    assert_eq!(families(json!({"ipFamilies": ["IPv6"]})), ["IPv6"]);
    assert_eq!(families(json!({"ipFamilies": []})), ["IPv4"]);
    let both = json!({"ipFamilies": null, "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(families(both), ["IPv4", "IPv6"]);
}

#[test]
fn a_port_by_name_is_the_number_that_each_guest_gives_it() {
    let named = service(json!({"ports": [{"port": 80, "targetPort": "www"}]}));
    let mut other = vmi("b", "10.0.0.6");
    other["spec"]["domain"]["devices"]["interfaces"][0]["ports"][0]["port"] = json!(9000);
    let guests = [("a", guest(&vmi("a", "10.0.0.5"))), ("b", guest(&other))];
    let slices = made(&planned(&named, &guests, &[]));
    let mut numbers: Vec<_> =
        slices.iter().map(|one| one.ports.as_ref().unwrap()[0].port.unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [8081, 9000]);
}

#[test]
fn one_that_is_not_ready_or_stops_is_told_to_be_so() {
    let web = service(json!({}));
    let conditions = |guest: Guest, service: &Service| {
        let slices = made(&planned(service, &[("a", guest)], &[]));
        let told = slices[0].endpoints[0].conditions.clone().unwrap();
        (told.ready.unwrap(), told.serving.unwrap(), told.terminating.unwrap())
    };
    let mut unready = vmi("a", "10.0.0.5");
    unready["status"]["conditions"] = json!([]);
    assert_eq!(conditions(guest(&unready), &web), (false, false, false));
    let anyway = service(json!({"publishNotReadyAddresses": true}));
    assert_eq!(conditions(guest(&unready), &anyway), (true, false, false));
    let mut stops = vmi("a", "10.0.0.5");
    stops["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(conditions(guest(&stops), &web), (false, true, true));
    let mut ended = vmi("a", "10.0.0.5");
    ended["status"]["phase"] = json!("Succeeded");
    let ended: VirtualMachineInstance = serde_json::from_value(ended).unwrap();
    assert_eq!(Guest::of(&ended), None);
}

#[test]
fn a_guest_has_its_name_in_the_headless_service_that_it_names() {
    let mut named = vmi("a", "10.0.0.5");
    named["spec"]["subdomain"] = json!("web");
    let headless = service(json!({"clusterIP": "None"}));
    let slices = made(&planned(&headless, &[("a", guest(&named))], &[]));
    assert_eq!(slices[0].endpoints[0].hostname.as_deref(), Some("a"));
    assert_eq!(slices[0].labels()["service.kubernetes.io/headless"], "");
    named["spec"]["subdomain"] = json!("another");
    let slices = made(&planned(&headless, &[("a", guest(&named))], &[]));
    assert_eq!(slices[0].endpoints[0].hostname, None);
}

#[test]
fn one_that_comes_or_goes_changes_one_slice_of_many() {
    let web = service(json!({}));
    let names: Vec<String> = (0..250).map(|number| format!("vm-{number:03}")).collect();
    let mut guests: Vec<_> =
        names.iter().map(|name| (name.as_str(), guest(&vmi(name, "10.0.0.5")))).collect();
    let slices = made(&planned(&web, &guests, &[]));
    let sizes: Vec<_> = slices.iter().map(|one| one.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let have: Vec<_> = slices.iter().collect();
    let gone = guests.remove(0);
    let writes = planned(&web, &guests, &have);
    let [Write::Change(changed)] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!((changed.name_any(), changed.endpoints.len()), (slices[0].name_any(), 99));
    // And its room is the next one's.
    let have = [&**changed, &slices[1], &slices[2]];
    guests.push(("zz", gone.1));
    let writes = planned(&web, &guests, &have);
    let [Write::Change(again)] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!((again.name_any(), again.endpoints.len()), (slices[0].name_any(), 100));
}
