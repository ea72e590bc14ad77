//! A cluster of Kube-OVN's that Berth takes over: rows, addresses and MACs stay.
//!
//! The northbound rows are written with `ovn-nbctl` as Kube-OVN v1.17 has them, and the
//! API objects as its controller leaves them: specs with defaults written back, IP
//! objects with its labels and finalizer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::objects::Vm;
use tests::world::{World, port_of};
use tests::{eventually, same};

use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
pub(super) const FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

const VPC_NAME: &str = "moved";
const OPEN: &str = "moved-open";
const WALLED: &str = "moved-walled";
const OPEN_MAC: &str = "0e:f6:51:00:00:01";
const WALLED_MAC: &str = "0e:f6:51:00:00:02";
/// An address of a subnet that is no VM's.
const QUERIER: &str = "mcast-querier.moved-open";
const ROUTE: &str = "10.222.0.0/16";

/// VM, subnet, MAC, IPv4, IPv6.
const PLACES: [(&str, &str, &str, &str, &str); 3] = [
    ("moved-fixed", OPEN, "a6:e4:95:00:00:10", "10.220.0.77", "fd20::77"),
    // The first that anyone else would get.
    ("moved-dynamic", OPEN, "a6:e4:95:00:00:02", "10.220.0.2", "fd20::2"),
    ("moved-hidden", WALLED, "a6:e4:95:00:00:03", "10.221.0.2", ""),
];

/// A row as `ovn-nbctl` prints it.
pub(super) type Row = BTreeMap<String, Value>;

/// All columns that we or Kube-OVN write, by table, with what tells rows apart.
const TABLES: [(&str, &str, &str); 9] = [
    ("Logical_Router", "name", "_uuid,name,options,external_ids"),
    ("Logical_Switch", "name", "_uuid,name,load_balancer,external_ids"),
    ("Logical_Router_Port", "name", "_uuid,name,mac,networks,external_ids"),
    (
        "Logical_Switch_Port",
        "name",
        "_uuid,name,type,addresses,options,dhcpv4_options,external_ids",
    ),
    ("Logical_Router_Static_Route", "ip_prefix", "_uuid,policy,ip_prefix,nexthop,external_ids"),
    ("Logical_Router_Policy", "match", "_uuid,match,priority,action,external_ids"),
    ("ACL", "match", "_uuid,match,priority,action,direction,external_ids"),
    ("DHCP_Options", "cidr", "_uuid,cidr,options,external_ids"),
    ("Load_Balancer", "name", "_uuid,name,external_ids"),
];

/// The row of a table with this name, or match, or prefix.
pub(super) async fn row(world: &World, table: &str, name: &str) -> anyhow::Result<Row> {
    let (_, key, columns) = TABLES.into_iter().find(|one| one.0 == table).context("a table")?;
    let rows = world.northbound().rows(table, columns).await?;
    let found = rows.into_iter().find(|row| row[key] == name);
    found.with_context(|| format!("no row of {table} is {name}"))
}

/// Runs `ovn-nbctl` with the words of all these lines, each a command.
pub(super) async fn write(world: &World, commands: &[String]) -> anyhow::Result<()> {
    let lines = commands.iter().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let words: Vec<&str> = lines.collect::<Vec<_>>().join(&"--");
    world.northbound().write(&words).await
}

/// The rows of a VPC with two subnets, words with `|` between.
fn topology() -> Vec<String> {
    let mut commands = vec![
        format!("lr-add|{VPC_NAME}"),
        format!(
            "set|Logical_Router|{VPC_NAME}|options:mac_binding_age_threshold=300|options:dynamic_neigh_routers=true|options:always_learn_from_arp_request=false|external_ids:vendor=kube-ovn"
        ),
        format!("lb-add|vpc-{VPC_NAME}-tcp-load|10.96.0.10:80|10.220.0.77:80|tcp"),
    ];
    let subnets = [
        (OPEN, OPEN_MAC, "10.220.0.1/24|fd20::1/120", "10.220.0.0/24"),
        (WALLED, WALLED_MAC, "10.221.0.1/24", "10.221.0.0/24"),
    ];
    for (subnet, mac, gateways, cidr) in subnets {
        let (inner, outer) = (format!("{subnet}-{VPC_NAME}"), format!("{VPC_NAME}-{subnet}"));
        let gateway = gateways.split('/').next().unwrap_or_default();
        let id = subnet.replace('-', "_");
        commands.extend([
            format!("ls-add|{subnet}"),
            format!("set|Logical_Switch|{subnet}|external_ids:vendor=kube-ovn"),
            format!("ls-lb-add|{subnet}|vpc-{VPC_NAME}-tcp-load"),
            format!("lrp-add|{VPC_NAME}|{outer}|{mac}|{gateways}"),
            format!("set|Logical_Router_Port|{outer}|external_ids:lr={VPC_NAME}|external_ids:vendor=kube-ovn"),
            format!("lsp-add|{subnet}|{inner}"),
            format!("lsp-set-type|{inner}|router"),
            format!("lsp-set-addresses|{inner}|router"),
            format!("lsp-set-options|{inner}|router-port={outer}"),
            format!("set|Logical_Switch_Port|{inner}|external_ids:ls={subnet}|external_ids:vendor=kube-ovn"),
            format!("--id=@policy_{id}|create|Logical_Router_Policy|priority=31000|match=\"ip4.dst == {cidr}\"|action=allow|external_ids:vendor=kube-ovn|external_ids:subnet={subnet}"),
            format!("add|Logical_Router|{VPC_NAME}|policies|@policy_{id}"),
            // Only Kube-OVN's own OVN makes sense of these.
            format!("--id=@source_{id}|create|Logical_Router_Static_Route|policy=src-ip|ip_prefix=\"{cidr}\"|nexthop=\"{gateway}\"|external_ids:vendor=kube-ovn"),
            format!("add|Logical_Router|{VPC_NAME}|static_routes|@source_{id}"),
            format!("--id=@dhcp_{id}|create|DHCP_Options|cidr=\"{cidr}\"|options:lease_time=3600|options:router={gateway}|options:server_id=169.254.0.254|options:server_mac=72:c6:64:b3:2a:7a|external_ids:ls={subnet}|external_ids:protocol=IPv4|external_ids:vendor=kube-ovn"),
        ]);
        let guests = PLACES.iter().filter(|place| place.1 == subnet);
        for (vm, _, mac, v4, v6) in guests {
            let port = port_of(vm);
            commands.extend([
                format!("lsp-add|{subnet}|{port}"),
                format!("lsp-set-addresses|{port}|{}", format!("{mac} {v4} {v6}").trim()),
                format!("set|Logical_Switch_Port|{port}|dhcpv4_options=@dhcp_{id}|external_ids:ls={subnet}|external_ids:pod=default/{vm}|external_ids:vendor=kube-ovn|external_ids:associated_sg_default-securitygroup=false"),
            ]);
        }
    }
    commands.extend([
        format!("set|Logical_Router_Port|{VPC_NAME}-{OPEN}|ipv6_prefix=120|ipv6_ra_configs:address_mode=dhcpv6_stateful|ipv6_ra_configs:send_periodic=true"),
        format!("--id=@policy_six|create|Logical_Router_Policy|priority=31000|match=\"ip6.dst == fd20::/120\"|action=allow|external_ids:vendor=kube-ovn|external_ids:subnet={OPEN}"),
        format!("add|Logical_Router|{VPC_NAME}|policies|@policy_six"),
        format!("--id=@written|create|Logical_Router_Static_Route|policy=dst-ip|ip_prefix=\"{ROUTE}\"|nexthop=\"10.220.0.9\"|external_ids:vendor=kube-ovn"),
        format!("add|Logical_Router|{VPC_NAME}|static_routes|@written"),
    ]);
    commands.extend(walls());
    // A pod's port, which nobody of ours knows.
    let pod = "moved-pod.kube-system";
    commands.extend([
        format!("lsp-add|{OPEN}|{pod}"),
        format!("lsp-set-addresses|{pod}|a6:e4:95:00:00:99 10.220.0.99"),
        format!("set|Logical_Switch_Port|{pod}|external_ids:ls={OPEN}|external_ids:pod=kube-system/moved-pod|external_ids:vendor=kube-ovn"),
    ]);
    commands
}

/// The ACLs of a private subnet.
fn walls() -> Vec<String> {
    let acl = |id: &str, priority: u16, matches: &str, action: &str, more: &str| {
        [
            format!(
                "--id=@{id}|create|ACL|direction=to-lport|priority={priority}|match=\"{matches}\"|action={action}|external_ids:parent={WALLED}|external_ids:vendor=kube-ovn{more}"
            ),
            format!("add|Logical_Switch|{WALLED}|acls|@{id}"),
        ]
    };
    let own = "ip4.src == 10.221.0.0/24 && ip4.dst == 10.221.0.0/24";
    let named = format!("|name={WALLED}|log=true|severity=warning");
    [
        acl("drop", 1000, "ip", "drop", &named),
        acl("own", 1001, own, "allow-related", ""),
        acl("join", 3000, "ip4.src == 100.64.0.0/16", "allow-related", ""),
    ]
    .concat()
}

/// The API objects as Kube-OVN's controller leaves them.
async fn make_objects(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let head = |kind: &str, name: &str| {
        json!({"apiVersion": "kubeovn.io/v1", "kind": kind,
            "metadata": {"name": name, "finalizers": [FINALIZER]}})
    };
    let mut vpc = head("Vpc", VPC_NAME);
    let route = json!({"policy": "policyDst", "cidr": ROUTE, "nextHopIP": "10.220.0.9"});
    vpc["spec"] = json!({"namespaces": ["moved"], "staticRoutes": [route]});
    cluster.create(VPC, vpc).await?;
    let subnets = [
        (OPEN, "Dual", "10.220.0.0/24,fd20::/120", "10.220.0.1,fd20::1", false),
        (WALLED, "IPv4", "10.221.0.0/24", "10.221.0.1", true),
    ];
    for (name, protocol, cidr, gateway, private) in subnets {
        let mut subnet = head("Subnet", name);
        subnet["spec"] = json!({
            "vpc": VPC_NAME, "protocol": protocol, "cidrBlock": cidr, "gateway": gateway,
            "excludeIps": gateway.split(',').collect::<Vec<_>>(), "private": private,
            "provider": "ovn", "gatewayType": "distributed", "enableDHCP": true,
            "enableLb": true, "default": false, "natOutgoing": false, "namespaces": ["moved"],
        });
        cluster.create(SUBNET, subnet).await?;
    }
    let mut querier = head("IP", QUERIER);
    querier["spec"] = json!({"podName": QUERIER, "subnet": OPEN, "ipAddress": "10.220.0.3",
        "v4IpAddress": "10.220.0.3", "macAddress": "a6:e4:95:00:00:04"});
    cluster.create(IP, querier).await?;
    for (vm, subnet, mac, v4, v6) in PLACES {
        let mut ip = head("IP", &port_of(vm));
        ip["metadata"]["labels"] = json!({"ovn.kubernetes.io/subnet": subnet, subnet: "", "ovn.kubernetes.io/node-name": "n9"});
        let both = format!("{v4},{v6}");
        let both = both.trim_end_matches(',');
        ip["spec"] = json!({
            "podName": vm, "namespace": "default", "subnet": subnet, "nodeName": "n9",
            "ipAddress": both, "v4IpAddress": v4, "v6IpAddress": v6,
            "macAddress": mac, "podType": "VirtualMachine", "attachIps": [], "attachMacs": [],
            "attachSubnets": [], "containerID": "",
        });
        cluster.create(IP, ip).await?;
    }
    Ok(())
}

/// The places of all VMs are those that Kube-OVN gave them, in every system.
async fn places_are_kept(world: &World, before: &BTreeMap<String, Row>) -> anyhow::Result<()> {
    for (vm, _, mac, v4, v6) in PLACES {
        world.running(vm).await?;
        let place = world.place(vm).await?;
        same(vm, (place.mac.as_str(), place.v4.as_str(), place.v6.as_str()), (mac, v4, v6))?;
        let instance = world.cluster.get(VMI, vm).await?;
        let notes = &instance["metadata"]["annotations"];
        same("the instance's MAC", &notes["ovn.kubernetes.io/mac_address"], &json!(mac))?;
        let port = row(world, "Logical_Switch_Port", &port_of(vm)).await?;
        let was = &before[&port_of(vm)];
        for column in ["_uuid", "addresses"] {
            same(column, &port[column], &was[column])?;
        }
        // Only the node and the marker are other than they were.
        let ids = port["external_ids"].to_string();
        for said in ["associated_sg_default-securitygroup", "default/", "berth"] {
            ensure!(ids.contains(said), "{vm}: external_ids are without {said}: {ids}");
        }
        same("who answers DHCP", &port["dhcpv4_options"], &json!(["set", []]))?;
    }
    Ok(())
}

pub(super) async fn a_kube_ovn_cluster_is_taken_over_with_its_rows_addresses_and_macs(
    world: &mut World,
) -> anyhow::Result<()> {
    world.lab().stop("controller").await?;
    write(world, &topology()).await?;
    make_objects(world).await?;
    let vm = |name: &str, subnet: &str| Vm::named(name).on(subnet).without_grace();
    // Older than the others, and without an address: it must not get one of theirs.
    let newcomer = vm("moved-a-newcomer", OPEN);
    let fixed = vm(PLACES[0].0, OPEN).with_address("10.220.0.77,fd20::77");
    let dynamic = vm(PLACES[1].0, OPEN).halted();
    let hidden = vm(PLACES[2].0, WALLED);
    for vm in [newcomer, fixed, dynamic, hidden] {
        world.cluster.create(VM, vm.object()).await?;
    }
    let open_router = format!("{VPC_NAME}-{OPEN}");
    let adopted = [
        ("Logical_Router", VPC_NAME),
        ("Logical_Switch", OPEN),
        ("Logical_Switch", WALLED),
        ("Logical_Router_Port", open_router.as_str()),
        ("Logical_Router_Static_Route", ROUTE),
        ("Logical_Router_Policy", "ip4.dst == 10.220.0.0/24"),
        ("Logical_Router_Policy", "ip6.dst == fd20::/120"),
        ("ACL", "ip"),
        ("ACL", "ip4.src == 10.221.0.0/24 && ip4.dst == 10.221.0.0/24"),
    ];
    let left_alone = [
        ("Logical_Router_Static_Route", "10.220.0.0/24"),
        ("ACL", "ip4.src == 100.64.0.0/16"),
        ("DHCP_Options", "10.220.0.0/24"),
        ("Load_Balancer", "vpc-moved-tcp-load"),
        ("Logical_Switch_Port", "moved-pod.kube-system"),
    ];
    let mut before = BTreeMap::new();
    for (table, name) in adopted.iter().chain(&left_alone) {
        before.insert(format!("{table} {name}"), row(world, table, name).await?);
    }
    for (vm, ..) in PLACES {
        let port = port_of(vm);
        before.insert(port.clone(), row(world, "Logical_Switch_Port", &port).await?);
    }

    world.lab().start("controller").await?;
    world.running("moved-a-newcomer").await?;
    // Its VM has not started: nothing of its row is touched yet.
    let stopped = port_of(PLACES[1].0);
    same(
        "a stopped VM's row",
        &row(world, "Logical_Switch_Port", &stopped).await?,
        &before[&stopped],
    )?;
    let start = json!({"spec": {"runStrategy": "Always"}});
    world.cluster.merge(VM, PLACES[1].0, start).await?;
    places_are_kept(world, &before).await?;
    let newcomer = world.place("moved-a-newcomer").await?.v4;
    same("the newcomer's address", newcomer.as_str(), "10.220.0.4")?;

    for (table, name) in adopted {
        let (now, was) = (row(world, table, name).await?, &before[&format!("{table} {name}")]);
        let unmarked = |row: &Row| {
            row.iter()
                .filter(|(key, _)| *key != "external_ids")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Row>()
        };
        same(&format!("{table} {name}"), unmarked(&now), unmarked(was))?;
        ensure!(now["external_ids"].to_string().contains("berth"), "{table} {name} is not ours");
    }
    for (table, name) in left_alone {
        let now = row(world, table, name).await?;
        same(&format!("{table} {name}"), &now, &before[&format!("{table} {name}")])?;
    }
    eventually("the gateway's MAC in the status", SOON, async || {
        let status = world.cluster.get(SUBNET, OPEN).await?["status"].clone();
        same("the MAC", &status["gatewayMAC"], &json!(OPEN_MAC))
    })
    .await?;
    says(&world.cluster, SUBNET, OPEN, ("Ready", "True"), "").await?;
    says(&world.cluster, VPC, VPC_NAME, ("Error", "False"), "").await?;
    leave(world).await
}

/// Ours goes with its objects, and the rows of others by the hands of others.
async fn leave(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    for vm in ["moved-a-newcomer", PLACES[0].0, PLACES[1].0, PLACES[2].0] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    cluster.delete(IP, QUERIER).await?;
    cluster.gone(IP, QUERIER, SOON).await?;
    for (kind, name) in [(SUBNET, OPEN), (SUBNET, WALLED), (VPC, VPC_NAME)] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    let mut commands = vec![format!("lb-del|vpc-{VPC_NAME}-tcp-load")];
    for dhcp in ["10.220.0.0/24", "10.221.0.0/24"] {
        let uuid = row(world, "DHCP_Options", dhcp).await?["_uuid"][1].clone();
        commands.push(format!("destroy|DHCP_Options|{}", uuid.as_str().context("a uuid")?));
    }
    write(world, &commands).await
}
