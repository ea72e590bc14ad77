//! IP objects that a person made: whom they reserve addresses for, and until when.

use super::*;

#[test]
fn an_ip_object_made_beforehand_is_its_vms_and_nobody_elses() {
    let mut world = world();
    let spec = crds::kubeovn::IpSpec {
        pod_name: "web".to_owned(),
        namespace: "default".to_owned(),
        subnet: "s".to_owned(),
        v4_ip_address: "10.0.0.5".to_owned(),
        mac_address: "02:00:00:00:00:55".to_owned(),
        ..Default::default()
    };
    world.put_ip(Ip::new("web.default", spec));
    decided(&mut world, "web");
    put(&mut world, vm("thief", "u2", "Always", Some("10.0.0.5")));
    assert!(decided(&mut world, "thief").trouble.unwrap().message.contains("web.default"));
    put(&mut world, vm("web", "u1", "Always", None));
    let decision = decided(&mut world, "web");
    assert_eq!(addresses(&decision)[0], "10.0.0.5");
    assert_eq!(decision.ports[0].mac.to_string(), "02:00:00:00:00:55");
    assert!(decision.release.is_empty());
}

#[test]
fn an_address_that_an_ip_object_names_is_given_to_no_other() {
    let mut world = world();
    let reserve = |world: &mut World, vm: &str, v4: &str, v6: &str| {
        let spec = crds::kubeovn::IpSpec {
            pod_name: vm.to_owned(),
            namespace: "default".to_owned(),
            subnet: "s".to_owned(),
            // Each twice, as Kube-OVN writes them.
            ip_address: format!("{v4},{v6}"),
            v4_ip_address: v4.to_owned(),
            v6_ip_address: v6.to_owned(),
            ..Default::default()
        };
        world.put_ip(Ip::new(&format!("{vm}.default"), spec));
    };
    // The first that anyone would get: neither an older VM nor a reservation that
    // leaves a family open takes it.
    reserve(&mut world, "web", "10.0.0.2", "fd00::2");
    reserve(&mut world, "a-four", "10.0.0.3", "");
    reserve(&mut world, "a-six", "", "fd00::3");
    for (name, created) in [("a-older", "2025-01-01T00:00:00Z"), ("web", "2025-02-01T00:00:00Z")] {
        let mut vm = vm(name, name, "Always", None);
        vm.metadata.creation_timestamp = Some(Time(created.parse().unwrap()));
        put(&mut world, vm);
    }
    let (dirty, _) = world.take_dirty();
    let places: BTreeMap<_, _> = decide_all(&mut world, &dirty, Policy { keep_vm_ip: true }, now())
        .into_iter()
        .map(|decision| (decision.vm.name.clone(), addresses(&decision)))
        .collect();
    assert_eq!(places["web"], ["10.0.0.2", "fd00::2"]);
    let reserved = |name: &str| {
        let of =
            Claimant { uid: String::new(), ..claimant(&format!("{name}.default"), &key(name), "") };
        world.ledger.addresses("s", &of).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(reserved("a-four")[0], "10.0.0.3");
    assert_eq!(reserved("a-six")[1], "fd00::3");
    assert_eq!((reserved("a-four").len(), reserved("a-six").len()), (2, 2));
    assert!(places["a-older"].iter().all(|one| !["10.0.0.2", "fd00::2"].contains(&one.as_str())));
}

#[test]
fn a_reservation_that_is_deleted_gives_its_addresses_back() {
    let mut world = world();
    let spec = crds::kubeovn::IpSpec {
        pod_name: "web".to_owned(),
        namespace: "default".to_owned(),
        subnet: "s".to_owned(),
        ..Default::default()
    };
    world.put_ip(Ip::new("web.default", spec));
    assert!(decided(&mut world, "web").release.is_empty());
    world.remove_ip("web.default");
    assert_eq!(decided(&mut world, "web").release.len(), 1);
}

#[test]
fn a_reservation_that_cannot_be_read_stays_one() {
    let mut world = world();
    let spec = crds::kubeovn::IpSpec {
        pod_name: "web".to_owned(),
        namespace: "default".to_owned(),
        subnet: "s".to_owned(),
        ..Default::default()
    };
    let ip = Ip::new("web.default", spec);
    world.put_ip(ip.clone());
    decided(&mut world, "web");
    world.apply(Event::Ip(Seen::Unreadable(meta_of(&ip, "9"))));
    assert!(decided(&mut world, "web").release.is_empty());
    world.apply(Event::Ip(Seen::gone(&ip)));
    let (dirty, _) = world.take_dirty();
    assert!(dirty.contains(&key("web")));
    assert_eq!(decided(&mut world, "web").release.len(), 1);
}

#[test]
fn an_ip_object_of_no_port_reserves_nothing_says_so_and_is_in_nobodys_way() {
    let spec = |namespace: &str| crds::kubeovn::IpSpec {
        pod_name: "web".to_owned(),
        namespace: namespace.to_owned(),
        subnet: "s".to_owned(),
        v4_ip_address: "10.0.0.5".to_owned(),
        ..Default::default()
    };
    for (name, namespace, told) in [
        ("myip", "default", "create the object as \"web.default\""),
        ("web.default", "", "spec.namespace is empty"),
    ] {
        let mut world = world();
        world.put_ip(Ip::new(name, spec(namespace)));
        put(&mut world, vm("other", "u0", "Always", Some("10.0.0.5")));
        put(&mut world, vm("web", "u1", "Always", None));
        let web = decided(&mut world, "web");
        assert!(web.create.is_some(), "{name}: {:?}", web.trouble);
        assert!(world.unreserved[name].contains(told), "{:?}", world.unreserved);
        let other = decided(&mut world, "other");
        assert!(other.create.is_some(), "{name}: {:?}", other.trouble);
    }
}

#[test]
fn an_ip_object_of_a_subnet_that_is_not_there_says_which_and_what_to_do() {
    let mut world = world();
    let spec = crds::kubeovn::IpSpec {
        pod_name: "web".to_owned(),
        namespace: "default".to_owned(),
        subnet: "nowhere".to_owned(),
        v4_ip_address: "10.0.0.5".to_owned(),
        ..Default::default()
    };
    world.put_ip(Ip::new("web.default", spec));
    decided(&mut world, "web");
    assert_eq!(
        world.unreserved["web.default"],
        r#"spec.subnet is "nowhere": no Subnet of that name is in force: create it, or name another"#
    );
}
