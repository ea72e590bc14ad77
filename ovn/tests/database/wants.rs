//! A small network as tests want it.

use std::net::IpAddr;

use net::MacAddr;
use ovn::nb::{
    AclWant, Desired, PortWant, RouterPortWant, RouterWant, StaticRouteWant, SwitchWant, pairs,
};
use ovn::ovsdb::{Client, TransactError};
use ovn::plan::{self, Scope};

use crate::server::within;

pub fn mac(number: usize) -> MacAddr {
    MacAddr::derived_from(&["test", &number.to_string()])
}

pub fn address(number: usize) -> IpAddr {
    let [.., high, low] = number.to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

/// A VPC `v1` with a default route.
pub fn vpc() -> Desired {
    let mut desired = Desired::default();
    let router = RouterWant {
        options: pairs([("dynamic_neigh_routers", "true")]),
        static_routes: [StaticRouteWant::new("0.0.0.0/0", "10.0.0.254")].into(),
        ..RouterWant::default()
    };
    desired.routers.insert("v1".into(), router);
    desired
}

/// A subnet `s1` of the VPC, with a rule.
pub fn subnet() -> Desired {
    let mut desired = Desired::default();
    let drop_dhcp = AclWant::new("from-lport", 3000, "inport == @x && udp.src == 67", "drop");
    let switch = SwitchWant { acls: [drop_dhcp].into(), ..SwitchWant::default() };
    desired.switches.insert("s1".into(), switch);
    let gateway = RouterPortWant::gateway("v1", mac(0), ["10.0.0.1/16"]);
    desired.router_ports.insert("v1-s1".into(), gateway);
    desired.ports.insert("s1-v1".into(), PortWant::router("s1", "v1-s1"));
    desired
}

/// VM ports `vm<n>.ns` on `s1`.
pub fn vms(numbers: impl IntoIterator<Item = usize>) -> Desired {
    let mut desired = Desired::default();
    for number in numbers {
        let vm = format!("vm{number}");
        let port = PortWant::vm("s1", "ns", &vm, mac(number), &[address(number)]);
        desired.ports.insert(format!("{vm}.ns"), port.on_chassis(&["n1"]));
    }
    desired
}

pub fn all(parts: impl IntoIterator<Item = Desired>) -> Desired {
    let mut desired = Desired::default();
    for part in parts {
        desired.extend(part).unwrap();
    }
    desired
}

/// Plans and applies; how many operations it took.
pub async fn apply(
    client: &Client,
    scope: &Scope,
    desired: &Desired,
) -> Result<usize, TransactError> {
    let plan = client.read(|replica| plan::between(replica, scope, desired));
    let operations = plan.len();
    within(client.transact(plan)).await?;
    Ok(operations)
}
