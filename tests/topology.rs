//! What Vpcs and Subnets say of routes, rules and links is so in OVN: in the rows of
//! the northbound database, and in what `ovn-trace` says of a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::kinds::{SUBNET, VM, VPC};
use tests::monitor::{Monitor, uuids};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};
use tests::{eventually, same};
use tokio::process::Command;

use crate::admission::says;
use crate::port_lifecycle::{SUBNET_NAME, web_and_db};

const SOON: Duration = Duration::from_secs(20);

/// The rows of a table in which `column` contains `text`, or is this number.
pub(super) async fn rows_with(
    world: &World,
    table: &str,
    (column, text): (&str, &str),
) -> anyhow::Result<Vec<BTreeMap<String, Value>>> {
    let columns = format!("_uuid,{column}");
    let rows = world.northbound().rows(table, &columns).await?;
    let fits = |cell: &Value| match cell {
        Value::Number(number) => number.to_string() == text,
        cell => cell.to_string().contains(text),
    };
    Ok(rows.into_iter().filter(|row| fits(&row[column])).collect())
}

/// Their identities.
pub(super) async fn identities(
    world: &World,
    table: &str,
    which: (&str, &str),
) -> anyhow::Result<BTreeSet<String>> {
    let rows = rows_with(world, table, which).await?;
    Ok(rows.iter().map(|row| row["_uuid"].to_string()).collect())
}

/// Waits until so many rows are there.
pub(super) async fn counts(
    world: &World,
    table: &str,
    which: (&str, &str),
    number: usize,
) -> anyhow::Result<()> {
    eventually(&format!("{number} rows of {table} with {which:?}"), SOON, async || {
        same("rows", rows_with(world, table, which).await?.len(), number)
    })
    .await
}

/// Whether the first packet of a connection between two VMs arrives, as OVN's own
/// tracer has it.
async fn arrives(world: &World, from: (&str, &str), to: &str) -> anyhow::Result<bool> {
    let status = world.cluster.get(SUBNET, from.1).await?["status"].clone();
    let router = status["gatewayMAC"].as_str().context("the subnet has a router")?;
    let target = world.place(to).await?;
    is_output_to(world, from, (router, &target.v4), to).await
}

/// Whether a ping of a VM on this subnet, to this MAC and address, comes out at another's port.
pub(super) async fn is_output_to(
    world: &World,
    (vm, subnet): (&str, &str),
    (mac, address): (&str, &str),
    to: &str,
) -> anyhow::Result<bool> {
    let source = world.place(vm).await?;
    let packet = format!(
        r#"inport == "{}" && eth.src == {} && eth.dst == {mac} && ip4.src == {} && ip4.dst == {address} && ip.ttl == 64 && icmp4.type == 8"#,
        port_of(vm),
        source.mac,
        source.v4,
    );
    let output = Command::new("ovn-trace")
        .arg(format!("--db={}", world.lab().layout().southbound()))
        .args(["--ct=new", "--ct=new", "--ct=new", "--ct=new", subnet, &packet])
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "ovn-trace: {}", String::from_utf8_lossy(&output.stderr));
    Ok(text.contains(&format!("output to \"{}\"", port_of(to))))
}

/// Waits until it does, or does not.
async fn reaches(world: &World, from: (&str, &str), to: &str, wanted: bool) -> anyhow::Result<()> {
    let what = format!("a packet of {} {}to reach {to}", from.0, if wanted { "" } else { "not " });
    eventually(&what, SOON, async || same("arrival", arrives(world, from, to).await?, wanted)).await
}

pub(super) async fn routes_of_a_vpc_are_its_routers_and_a_bad_one_is_named(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let route = |cidr: &str, hop: &str| json!({"cidr": cidr, "nextHopIP": hop});
    let (one, other) = (route("10.201.0.0/16", "10.200.0.9"), route("10.201.0.0/16", "10.200.0.8"));
    let policy = json!({"priority": 10, "match": "ip4.src == 10.200.0.0/24", "action": "reroute",
        "nextHopIP": "10.200.0.9"});
    let bad_policy = json!({"priority": 11, "match": " ", "action": "drop"});
    let mut object = vpc("routed");
    object["spec"] = json!({"staticRoutes": [one, other], "policyRoutes": [policy, bad_policy]});
    // A server that runs rules refuses it (`schema_rules`).
    let runs_rules = cluster.flavour() == Flavour::Real;
    if !runs_rules {
        let bad = route("10.202.0.0/33", "10.200.0.9");
        object["spec"]["staticRoutes"].as_array_mut().context("routes")?.push(bad);
    }
    cluster.create(VPC, object).await?;
    let subnet = Subnet::named("routed-net").in_vpc("routed").of("10.200.0.0/24");
    cluster.create(SUBNET, subnet.object()).await?;
    says(cluster, VPC, "routed", ("Ready", "True"), "").await?;
    if !runs_rules {
        says(cluster, VPC, "routed", ("Error", "True"), "spec.staticRoutes[2].cidr").await?;
    }
    says(cluster, VPC, "routed", ("Error", "True"), "spec.policyRoutes[1].match").await?;
    let ours = ("ip_prefix", "10.201.0.0/16");
    counts(world, "Logical_Router_Static_Route", ours, 2).await?;
    counts(world, "Logical_Router_Policy", ("match", "ip4.src == 10.200.0.0/24"), 1).await?;
    counts(world, "Logical_Router_Policy", ("match", "ip4.dst == 10.200.0.0/24"), 1).await?;
    let before = identities(world, "Logical_Router_Static_Route", ours).await?;

    // Another order, one of them twice, the bad ones gone: the routes are not touched.
    let corrected = json!({"spec": {"staticRoutes": [other, one, other], "policyRoutes": []}});
    world.cluster.merge(VPC, "routed", corrected).await?;
    says(&world.cluster, VPC, "routed", ("Error", "False"), "").await?;
    counts(world, "Logical_Router_Policy", ("match", "ip4.src == 10.200.0.0/24"), 0).await?;
    same("routes", identities(world, "Logical_Router_Static_Route", ours).await?, before)
}

/// Looks at every state of the database from now on: each has a rule on this switch that
/// drops all that no other lets in.
async fn never_open(world: &World, switch: &'static str) -> anyhow::Result<Monitor> {
    let tables: [(&str, &[&str]); 2] = [
        ("Logical_Switch", &["name", "acls"]),
        ("ACL", &["direction", "match", "action", "priority"]),
    ];
    let remote = world.lab().layout().northbound();
    Monitor::of(&remote, "OVN_Northbound", &tables, move |rows| {
        let switches = rows.get("Logical_Switch").into_iter().flatten();
        let (_, switch) =
            switches.into_iter().find(|(_, row)| row["name"] == switch).context("no switch")?;
        let rules = uuids(&switch["acls"]);
        let rules = rules.into_iter().filter_map(|uuid| rows.get("ACL")?.get(uuid));
        let closes = |row: &&Value| {
            row["direction"] == "to-lport" && row["match"] == "ip" && row["action"] == "drop"
        };
        ensure!(rules.clone().any(|row| closes(&row)), "only {:?}", rules.collect::<Vec<_>>());
        Ok(())
    })
    .await
}

pub(super) async fn a_private_subnet_is_reached_from_where_it_says_and_never_opens_in_between(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("walls")).await?;
    let open = Subnet::named("open").in_vpc("walls").of("10.203.0.0/24");
    cluster.create(SUBNET, open.object()).await?;
    let closed = Subnet::named("closed").in_vpc("walls").of("10.204.0.0/24");
    cluster.create(SUBNET, closed.with("private", json!(true)).object()).await?;
    for (vm, subnet) in [("caller", "open"), ("hidden", "closed"), ("hidden-too", "closed")] {
        cluster.create(VM, Vm::named(vm).on(subnet).object()).await?;
    }
    for vm in ["caller", "hidden", "hidden-too"] {
        world.running(vm).await?;
    }
    let caller = ("caller", "open");
    reaches(world, caller, "hidden", false).await?;
    let drop = identities(world, "ACL", ("name", "closed")).await?;
    same("rules that drop", drop.len(), 1)?;
    let monitor = never_open(world, "closed").await?;

    let allow = json!({"spec": {"allowSubnets": ["10.203.0.0/24"]}});
    world.cluster.merge(SUBNET, "closed", allow).await?;
    reaches(world, caller, "hidden", true).await?;
    let forbid = json!([{"direction": "to-lport", "priority": 2000, "action": "drop",
        "match": "ip4.src == 10.203.0.0/24"}]);
    world.cluster.merge(SUBNET, "closed", json!({"spec": {"acls": forbid}})).await?;
    reaches(world, caller, "hidden", false).await?;
    let narrower = json!({"spec": {"acls": [], "allowSubnets": ["10.203.0.128/25"]}});
    world.cluster.merge(SUBNET, "closed", narrower).await?;
    counts(world, "ACL", ("match", "ip4.src == 10.203.0.128/25"), 1).await?;
    counts(world, "ACL", ("match", "ip4.src == 10.203.0.0/24"), 0).await?;
    reaches(world, caller, "hidden", false).await?;
    // The rule that closes it was there all the time.
    same("the rule", identities(world, "ACL", ("name", "closed")).await?, drop)?;
    let states = monitor.ended().await.context("a private subnet was open for a moment")?;
    ensure!(states > 3, "{states} states were looked at, and there were three changes");

    // What cannot be a rule changes nothing.
    let bad = json!([{"direction": "to-lport", "priority": 1, "match": " ", "action": "allow"}]);
    world.cluster.merge(SUBNET, "closed", json!({"spec": {"acls": bad}})).await?;
    says(&world.cluster, SUBNET, "closed", ("Ready", "False"), "spec.acls[0].match").await?;
    reaches(world, caller, "hidden", false).await?;
    let gone = json!({"spec": {"acls": [], "private": false}});
    world.cluster.merge(SUBNET, "closed", gone).await?;
    reaches(world, caller, "hidden", true).await
}

pub(super) async fn a_guest_that_rules_keep_out_is_never_heard_while_they_change(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let web = world.place("web").await?;
    let set = async |acls: Value| {
        world.cluster.merge(SUBNET, SUBNET_NAME, json!({"spec": {"acls": acls}})).await
    };
    // Each of them keeps `db` out, and none is like the one before.
    let closing = |turn: usize| {
        json!([{"direction": "to-lport", "priority": 2000 + turn, "action": "drop",
            "match": format!("ip4.dst == {} && icmp4", web.v4)}])
    };
    world.ping("db", &web.v4).await?;
    set(closing(0)).await?;
    let mut guest = world.guest("db").await?;
    let once = format!("ping -c 1 -W 1 {}", web.v4);
    eventually("the guest to be kept out", SOON, async || {
        ensure!(guest.run(&once).await.is_err(), "it still gets an answer");
        Ok(())
    })
    .await?;

    // Two hundred a second, for as long as eight changes take or longer.
    let pings = format!("ping -c 1600 -i 0.005 -W 1 {}; true", web.v4);
    let mut turns = 0;
    let answers = {
        let mut pings = std::pin::pin!(guest.run(&pings));
        loop {
            let change = async {
                turns += 1;
                set(closing(turns)).await?;
                let priority = (2000 + turns).to_string();
                counts(world, "ACL", ("priority", &priority), 1).await
            };
            tokio::select! {
                answers = &mut pings => break answers?,
                changed = change => changed?,
            }
        }
    };
    drop(guest);
    ensure!(answers.contains(" 0 packets received"), "after {turns} changes: {answers}");
    ensure!(turns > 3, "the rules were changed {turns} times only");
    set(json!([])).await?;
    world.ping("db", &web.v4).await
}

pub(super) async fn two_vpcs_are_linked_once_both_say_so(world: &mut World) -> anyhow::Result<()> {
    let spec = |remote: &str, address: &str, cidr: &str, hop: &str| {
        json!({
            "vpcPeerings": [{"remoteVpc": remote, "localConnectIP": address}],
            "staticRoutes": [{"cidr": cidr, "nextHopIP": hop, "policy": "policyDst"}],
        })
    };
    let mut west = vpc("west");
    west["spec"] = spec("east", "169.254.0.1/30", "10.206.0.0/24", "169.254.0.2");
    world.cluster.create(VPC, west).await?;
    world.cluster.create(VPC, vpc("east")).await?;
    for (vpc, subnet, cidr) in
        [("west", "west-net", "10.205.0.0/24"), ("east", "east-net", "10.206.0.0/24")]
    {
        let subnet = Subnet::named(subnet).in_vpc(vpc).of(cidr);
        world.cluster.create(SUBNET, subnet.object()).await?;
    }
    for (vm, subnet) in [("westerner", "west-net"), ("easterner", "east-net")] {
        world.cluster.create(VM, Vm::named(vm).on(subnet).object()).await?;
    }
    for vm in ["westerner", "easterner"] {
        world.running(vm).await?;
    }
    says(&world.cluster, VPC, "west", ("Error", "True"), "spec.vpcPeerings: add it").await?;
    reaches(world, ("westerner", "west-net"), "easterner", false).await?;

    let back = spec("west", "169.254.0.2/30", "10.205.0.0/24", "169.254.0.1");
    world.cluster.merge(VPC, "east", json!({"spec": back})).await?;
    for vpc in ["west", "east"] {
        says(&world.cluster, VPC, vpc, ("Error", "False"), "").await?;
    }
    reaches(world, ("westerner", "west-net"), "easterner", true).await?;
    reaches(world, ("easterner", "east-net"), "westerner", true).await?;
    let west = world.cluster.get(VPC, "west").await?;
    same("the status", &west["status"]["vpcPeerings"], &json!(["east"]))?;

    world.cluster.merge(VPC, "east", json!({"spec": {"vpcPeerings": []}})).await?;
    reaches(world, ("westerner", "west-net"), "easterner", false).await?;
    counts(world, "Logical_Router_Port", ("name", "east-west"), 0).await
}

pub(super) async fn one_network_serves_two_vpcs_and_is_refused_twice_in_one(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    for name in ["twin-a", "twin-b"] {
        cluster.create(VPC, vpc(name)).await?;
        let subnet = Subnet::named(&format!("{name}-net")).in_vpc(name).of("10.207.0.0/24");
        cluster.create(SUBNET, subnet.object()).await?;
        let vm = Vm::named(&format!("{name}-vm")).on(&format!("{name}-net"));
        cluster.create(VM, vm.with_address("10.207.0.7").object()).await?;
    }
    for name in ["twin-a", "twin-b"] {
        world.running(&format!("{name}-vm")).await?;
        let place = world.place(&format!("{name}-vm")).await?;
        same("the address", place.v4.as_str(), "10.207.0.7")?;
    }
    let third = Subnet::named("third").in_vpc("twin-a").of("10.207.0.0/16");
    world.cluster.create(SUBNET, third.object()).await?;
    says(&world.cluster, SUBNET, "third", ("Ready", "False"), "twin-a-net").await
}

pub(super) async fn an_edit_by_which_held_addresses_fall_out_names_their_holders(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("shrunk")).await?;
    let subnet = Subnet::named("shrunk-net").in_vpc("shrunk").of("10.208.0.0/24,fd08::/64");
    cluster.create(SUBNET, subnet.object()).await?;
    let vm = Vm::named("edge").on("shrunk-net").with_address("10.208.0.200,fd08::9");
    cluster.create(VM, vm.object()).await?;
    world.running("edge").await?;
    let cluster = &world.cluster;
    let cidr = |cidr: &str| json!({"spec": {"cidrBlock": cidr}});
    cluster.merge(SUBNET, "shrunk-net", cidr("10.208.0.0/25,fd08::/64")).await?;
    let holder = "10.208.0.200 of VirtualMachine default/edge";
    says(cluster, SUBNET, "shrunk-net", ("Ready", "False"), holder).await?;
    let gateway = json!({"spec": {"cidrBlock": "10.208.0.0/23,fd08::/64",
        "gateway": "10.208.0.200,fd08::1"}});
    cluster.merge(SUBNET, "shrunk-net", gateway).await?;
    says(cluster, SUBNET, "shrunk-net", ("Ready", "False"), "spec.gateway").await?;

    let wider = json!({"spec": {"gateway": "", "excludeIps": ["10.208.0.190..10.208.0.255"]}});
    cluster.merge(SUBNET, "shrunk-net", wider).await?;
    says(cluster, SUBNET, "shrunk-net", ("Ready", "True"), "").await?;
    eventually("the ranges", SOON, async || {
        let status = cluster.get(SUBNET, "shrunk-net").await?["status"].clone();
        same("held", &status["v4usingIPrange"], &json!("10.208.0.200"))?;
        let free = json!("10.208.0.2-10.208.0.189,10.208.1.0-10.208.1.254");
        same("free", &status["v4availableIPrange"], &free)?;
        let free = json!("fd08::2-fd08::8,fd08::a-fd08::ffff:ffff:ffff:ffff");
        same("free", &status["v6availableIPrange"], &free)
    })
    .await
}

pub(super) async fn what_was_made_for_topology_goes_without_a_trace(
    world: &mut World,
) -> anyhow::Result<()> {
    crate::churn::delete_everything(world).await?;
    for table in ["ACL", "Logical_Router_Static_Route", "Logical_Router_Policy"] {
        counts(world, table, ("external_ids", "berth"), 0).await?;
    }
    counts(world, "Logical_Router_Port", ("name", "west"), 0).await
}
