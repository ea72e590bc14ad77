//! Guests that move from node to node while they run.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use berth::lab::NodeLayout;
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::guest::Guest;
use tests::kinds::{MIGRATION, MIGRATION_POLICY, VM, VMI};
use tests::objects::Vm;
use tests::world::{Part, Place, World, port_of};
use tests::{eventually, same};

use crate::attachments;
use crate::port_lifecycle::{SUBNET_NAME, web_and_db};
use crate::renewals::Renewals;
use crate::vm_lifecycle::{another_report, is_where_it_was};

pub(super) const SOON: Duration = Duration::from_secs(45);
/// Preparing and sending, on a busy machine with two cores.
pub(super) const MOVE: Duration = Duration::from_secs(90);
pub(super) const VM_NAME: &str = "rover";

/// Without guests no agent takes part, and whoever asks is told.
pub(super) async fn a_migration_that_cannot_be_says_why(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    crate::address_life::make_subnets(cluster).await?;
    cluster.create(VM, Vm::named("stayer").on("life-net").without_grace().object()).await?;
    world.running("stayer").await?;
    for (name, vmi, why) in [
        ("cannot", "stayer", "Reason: MigrationNotConfigured"),
        ("nobody", "no-such-vmi", "the VMI \"default/no-such-vmi\" does not exist"),
    ] {
        ask(world, name, vmi).await?;
        let failed = over(world, name).await?;
        same("its phase", failed["status"]["phase"].as_str(), Some("Failed"))?;
        let told = failed["status"]["conditions"].to_string();
        ensure!(told.replace("\\\"", "\"").contains(why), "{told}");
        let shown = cluster.kubectl_ok(&["get", "vmim", name]).await?;
        ensure!(shown.contains("Failed") && shown.contains(vmi), "{shown}");
        cluster.delete(MIGRATION, name).await?;
        cluster.gone(MIGRATION, name, SOON).await?;
    }
    cluster.delete(VM, "stayer").await
}

pub(super) async fn a_guest_moves_there_and_back_and_keeps_its_place_and_its_streams(
    world: &mut World,
) -> anyhow::Result<()> {
    let place = rover(world).await?;
    let boot = guest_says(world, "cat /proc/sys/kernel/random/boot_id").await?;
    let around = Around::seen(world).await?;
    let stream = Stream::begin(world).await?;
    Renewals::start(world, VM_NAME).await?;
    let (mut silences, mut unserved) = (Vec::new(), Vec::new());
    for name in ["there", "back"] {
        let (source, other) = both_nodes(world).await?;
        let renewals = Renewals::listen(world, VM_NAME, &source, other).await?;
        let pings = Pings::begin(world, &place).await?;
        ask(world, name, VM_NAME).await?;
        let moved = over(world, name).await?;
        same("its phase", moved["status"]["phase"].as_str(), Some("Succeeded"))
            .with_context(|| moved["status"].to_string())?;
        let terms = &moved["status"]["migrationState"]["migrationConfiguration"];
        same("its time for each GiB", terms["completionTimeoutPerGiB"].as_i64(), Some(150))?;
        silences.push(pings.lost(world).await?);
        unserved.push(renewals.went_on(world).await?);
        let target = world.node_of(VM_NAME).await?;
        ensure!(target.name != source.name, "it is where it was");

        same("its place", &world.place(VM_NAME).await?, &place)?;
        is_bound_to(world, &target).await?;
        let now = guest_says(world, "cat /proc/sys/kernel/random/boot_id").await?;
        same("the boot of the guest", &now, &boot)?;
        around.is_as_ever(world).await?;
        stream.goes_on(world).await?;
        world.ping("web", &place.v6).await?;
        nothing_is_left_at(world, &source).await?;
    }
    println!("pings lost of one every 20 ms: {silences:?}; longest without DHCP: {unserved:?}");
    stream.is_whole(world).await?;
    // Booted anew where it has come to, it gets by DHCP what it has had.
    let boots = world.reports(VM_NAME).await?.len();
    world.guest(VM_NAME).await?.leave_with("reboot").await?;
    another_report(world, VM_NAME, boots).await?;
    is_where_it_was(world, VM_NAME, &place).await?;
    world.cluster.delete(VM, VM_NAME).await?;
    world.cluster.gone(VMI, VM_NAME, SOON).await
}

pub(super) async fn a_move_that_is_called_off_or_fails_leaves_the_guest_where_it_is(
    world: &mut World,
) -> anyhow::Result<()> {
    let place = rover(world).await?;
    let (source, target) = both_nodes(world).await?;
    let domain = net::names::domain("default", VM_NAME);

    // Before it is sent: the target's agent is away, and so its part is not done.
    let agent = target.process("agent");
    world.lab().stop(&agent).await?;
    ask(world, "early", VM_NAME).await?;
    reaches(world, "early", "PreparingTarget").await?;
    world.cluster.delete(MIGRATION, "early").await?;
    world.cluster.gone(MIGRATION, "early", SOON).await?;
    world.lab().start(&agent).await?;
    stays(world, &place, &source, &target).await.context("called off before it was sent")?;

    // While it is sent: slowly, so that there is time for it.
    world.virsh(&source, &["migrate-setspeed", &domain, "1"]).await?;
    ask(world, "late", VM_NAME).await?;
    reaches(world, "late", "Running").await?;
    only_what_announces_is_heard(world, &target).await?;
    world.cluster.delete(MIGRATION, "late").await?;
    world.cluster.gone(MIGRATION, "late", SOON).await?;
    stays(world, &place, &source, &target).await.context("called off while it was sent")?;

    // The target breaks down.
    ask(world, "broken", VM_NAME).await?;
    is_being_sent(world, &source, &domain).await?;
    let killed = world.kill(Part::Daemon(target.number, "libvirtd"))?;
    let failed = over(world, "broken").await?;
    same("its phase", failed["status"]["phase"].as_str(), Some("Failed"))?;
    let state = world.cluster.get(VMI, VM_NAME).await?["status"]["migrationState"].clone();
    ensure!(state["failureReason"].as_str().is_some_and(|why| !why.is_empty()), "{state}");
    world.back(killed).await?;
    stays(world, &place, &source, &target).await.context("after the target broke down")?;

    // Its agent may: the guest arrives without it.
    ask(world, "alone", VM_NAME).await?;
    reaches(world, "alone", "Running").await?;
    let killed = world.kill(Part::Agent(target.number))?;
    world.virsh(&source, &["migrate-setspeed", &domain, "1000"]).await?;
    let moved = over(world, "alone").await?;
    same("its phase", moved["status"]["phase"].as_str(), Some("Succeeded"))
        .with_context(|| moved["status"].to_string())?;
    world.back(killed).await?;
    stays(world, &place, &target, &source).await.context("without the target's agent")?;
    world.cluster.delete(VM, VM_NAME).await?;
    world.cluster.gone(VMI, VM_NAME, SOON).await
}

/// What `kubectl drain` begins with.
pub(super) async fn a_cordoned_node_is_left_by_the_guests_that_say_so_and_by_no_others(
    world: &mut World,
) -> anyhow::Result<()> {
    let place = rover_of_two_networks(world).await?;
    let (source, target) = both_nodes(world).await?;
    world.cluster.kubectl_ok(&["cordon", &source.name]).await?;
    let moved = eventually("its guest to have left", MOVE, async || {
        same("its node", &world.node_of(VM_NAME).await?.name, &target.name)?;
        let all = world.cluster.list(MIGRATION).await?;
        let leaves = |one: &Value| {
            one["metadata"]["annotations"]["kubevirt.io/evacuationMigration"] == *source.name
        };
        let mut own = all.into_iter().filter(leaves);
        let one = own.next().context("no migration")?;
        ensure!(own.next().is_none(), "there are several");
        ensure!(one["status"]["phase"] == "Succeeded", "it is {}", one["status"]);
        Ok(one)
    })
    .await?;
    let reason = &moved["metadata"]["annotations"]["kubevirt.io/evacuationMigration"];
    same("the node that it left", reason.as_str(), Some(source.name.as_str()))?;
    stays(world, &place, &target, &source).await?;
    lease_is_renewed(world, &target, ("eth1", &attachments::port(VM_NAME, ""))).await?;
    // `web` or `db` is there, and has not asked to be moved.
    let stayers = world.cluster.list(VMI).await?;
    ensure!(stayers.iter().any(|one| one["status"]["nodeName"] == source.name.as_str()));
    world.cluster.kubectl_ok(&["uncordon", &source.name]).await?;
    let name = moved["metadata"]["name"].as_str().context("no name")?;
    world.cluster.delete(MIGRATION, name).await?;
    if world.cluster.flavour() == Flavour::Real {
        is_drained_once_its_guests_have_left(world, &target, &source).await?;
    }
    world.cluster.delete(VM, VM_NAME).await?;
    world.cluster.gone(VMI, VM_NAME, SOON).await
}

/// `kubectl drain` returns, and by then the guest has gone from `node` to `other`.
async fn is_drained_once_its_guests_have_left(
    world: &World,
    node: &NodeLayout,
    other: &NodeLayout,
) -> anyhow::Result<()> {
    const NAMESPACE: &str = "kube-system";
    let cluster = &world.cluster;
    let holds = format!("berth-guests-{}", node.name);
    let get = |kind: &str| {
        let words = ["get", kind, &holds, "-n", NAMESPACE, "-o", "json"].map(str::to_owned);
        async move { cluster.kubectl_ok(&words.each_ref().map(String::as_str)).await }
    };
    eventually("what drain waits for to be there", SOON, async || {
        let budget: Value = serde_json::from_str(&get("poddisruptionbudget").await?)?;
        same("whom it counts", budget["status"]["currentHealthy"].as_i64(), Some(1))?;
        let pod: Value = serde_json::from_str(&get("pod").await?)?;
        same("its node", pod["spec"]["nodeName"].as_str(), Some(node.name.as_str()))
    })
    .await?;
    let drain = ["drain", &node.name, "--ignore-daemonsets", "--timeout=120s"];
    let output = cluster.kubectl(&drain).await?;
    let now = world.node_of(VM_NAME).await?.name;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it was not drained: {said}");
    same("the node of the guest by then", &now, &other.name)?;
    ensure!(said.contains("violate the pod's disruption budget"), "it has not waited: {said}");
    eventually("the other node to be held, and this one no more", SOON, async || {
        let pods = cluster.kubectl_ok(&["get", "pods", "-n", NAMESPACE, "-o", "name"]).await?;
        let is_there = |node: &str| pods.contains(&format!("berth-guests-{node}"));
        ensure!(!is_there(&node.name) && is_there(&other.name), "{pods}");
        Ok(())
    })
    .await?;
    cluster.kubectl_ok(&["uncordon", &node.name]).await?;
    for moved in cluster.list(MIGRATION).await? {
        let name = moved["metadata"]["name"].as_str().context("no name")?;
        cluster.delete(MIGRATION, name).await?;
    }
    Ok(())
}

/// One whose labels a policy selects is sent by that one's terms, and goes on where they end:
/// at its target before all of its memory is there, or standing still.
pub(super) async fn a_guest_that_takes_too_long_goes_on_as_its_policy_says(
    world: &mut World,
) -> anyhow::Result<()> {
    let _faults = UserFaults::allowed()?;
    let place = rover(world).await?;
    let boot = guest_says(world, "cat /proc/sys/kernel/random/boot_id").await?;
    let label = json!({ "metadata": { "labels": { "speed": "slow" } } });
    world.cluster.merge(VMI, VM_NAME, label).await?;
    // One that stands still has as long again, in which all of its memory must go over.
    for (policy, allows, mode, seconds) in [
        ("after", "allowPostCopy", "PostCopy", 1),
        ("still", "allowWorkloadDisruption", "Paused", 2),
    ] {
        let selector = json!({ "virtualMachineInstanceSelector": { "speed": "slow" } });
        let spec = json!({ "selectors": selector, "completionTimeoutPerGiB": seconds,
            "bandwidthPerMigration": "8Mi", allows: true });
        let object = json!({ "apiVersion": "migrations.kubevirt.io/v1alpha1",
            "kind": "MigrationPolicy", "metadata": { "name": policy }, "spec": spec });
        world.cluster.create(MIGRATION_POLICY, object).await?;
        let (source, target) = both_nodes(world).await?;
        // By then the controller has seen the policy: what it says is on the instance.
        ask(world, policy, VM_NAME).await?;
        let moved = over(world, policy).await?;
        let state = &moved["status"]["migrationState"];
        same("its phase", moved["status"]["phase"].as_str(), Some("Succeeded"))
            .with_context(|| moved["status"].to_string())?;
        same("its policy", state["migrationPolicyName"].as_str(), Some(policy))?;
        same("its terms", state["migrationConfiguration"][allows].as_bool(), Some(true))?;
        same("how it was sent", state["mode"].as_str(), Some(mode))?;
        stays(world, &place, &target, &source).await?;
        let now = guest_says(world, "cat /proc/sys/kernel/random/boot_id").await?;
        same("the boot of the guest", &now, &boot)?;
        world.cluster.delete(MIGRATION, policy).await?;
        world.cluster.delete(MIGRATION_POLICY, policy).await?;
    }
    world.cluster.delete(VM, VM_NAME).await?;
    world.cluster.gone(VMI, VM_NAME, SOON).await
}

/// What QEMU needs of the kernel for post-copy, as libvirt's package has it on a host
/// (`60-qemu-postcopy-migration.conf`), for as long as this is held.
struct UserFaults(Option<String>);

impl UserFaults {
    const SWITCH: &str = "/proc/sys/vm/unprivileged_userfaultfd";

    fn allowed() -> anyhow::Result<Self> {
        let before = std::fs::read_to_string(Self::SWITCH).context("no userfaultfd here")?;
        let off = before.trim() == "0";
        if off {
            std::fs::write(Self::SWITCH, "1").context("allowing userfaultfd")?;
        }
        Ok(Self(off.then_some(before)))
    }
}

impl Drop for UserFaults {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = std::fs::write(Self::SWITCH, before);
        }
    }
}

/// The node that the guest is on, and the other.
pub(super) async fn both_nodes(world: &World) -> anyhow::Result<(NodeLayout, NodeLayout)> {
    let here = world.node_of(VM_NAME).await?;
    let nodes = world.lab().nodes();
    let other = nodes.into_iter().find(|node| node.name != here.name).context("one node")?;
    Ok((here, other))
}

/// A VM that no node is prescribed, and that may be moved, running.
pub(super) async fn rover(world: &World) -> anyhow::Result<Place> {
    web_and_db(world).await?;
    let mut rover = Vm::named(VM_NAME).on(SUBNET_NAME).object();
    rover["spec"]["template"]["spec"]["evictionStrategy"] = json!("LiveMigrate");
    world.cluster.create(VM, rover).await?;
    world.running(VM_NAME).await?;
    let place = world.place(VM_NAME).await?;
    world.guest_ready(VM_NAME, &place).await?;
    Ok(place)
}

/// The same with IPv6 alone there, and a second NIC with IPv4 alone in another Vpc; its
/// place in the first.
async fn rover_of_two_networks(world: &World) -> anyhow::Result<Place> {
    web_and_db(world).await?;
    attachments::make_subnets(world).await?;
    let rover = Vm::named(VM_NAME).on(SUBNET_NAME);
    let rover = rover.annotated("ovn.kubernetes.io/ip_family", "ipv6");
    let mut rover = attachments::attached(&rover, &["further"]);
    rover["spec"]["template"]["spec"]["evictionStrategy"] = json!("LiveMigrate");
    world.cluster.create(VM, rover).await?;
    world.running(VM_NAME).await?;
    let place = world.place(VM_NAME).await?;
    same("its IPv4 address", place.v4.as_str(), "")?;
    let further = attachments::places(world, VM_NAME, &[""]).await?;
    let (v4, _) = further.into_values().next().context("no second NIC")?;
    let both = Place { v4, ..place.clone() };
    world.guest_ready(VM_NAME, &both).await?;
    Ok(place)
}

pub(super) async fn ask(world: &World, name: &str, vmi: &str) -> anyhow::Result<()> {
    let migration = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": name }, "spec": { "vmiName": vmi },
    });
    world.cluster.create(MIGRATION, migration).await.map(drop)
}

/// Waits until some of a guest has gone over. A libvirtd that is killed before it knows the
/// process that it starts for a guest holds that domain for ever (libvirt 9.0 does not look
/// again after one without a pid), which is no end that anything of ours could bring about.
pub(super) async fn is_being_sent(
    world: &World,
    source: &NodeLayout,
    domain: &str,
) -> anyhow::Result<()> {
    eventually("some of the guest to have gone over", SOON, async || {
        let job = world.virsh(source, &["domjobinfo", domain]).await?;
        let sent = job.lines().find_map(|line| line.strip_prefix("Data processed:"));
        let sent = sent.context("nothing is sent")?.trim();
        ensure!(!sent.starts_with("0.000"), "{sent} of it");
        Ok(())
    })
    .await
}

/// Waits until a migration is over; as it is then.
pub(super) async fn over(world: &World, name: &str) -> anyhow::Result<Value> {
    eventually(&format!("migration {name} to be over"), MOVE, async || {
        let migration = world.cluster.get(MIGRATION, name).await?;
        let phase = migration["status"]["phase"].as_str().unwrap_or_default();
        ensure!(["Succeeded", "Failed"].contains(&phase), "it is {}", migration["status"]);
        Ok(migration)
    })
    .await
}

async fn reaches(world: &World, name: &str, phase: &str) -> anyhow::Result<()> {
    eventually(&format!("migration {name} to be {phase}"), SOON, async || {
        let migration = world.cluster.get(MIGRATION, name).await?;
        let state = world.cluster.get(VMI, VM_NAME).await?["status"]["migrationState"].clone();
        ensure!(migration["status"]["phase"] == phase, "it is {} of {state}", migration["status"]);
        Ok(())
    })
    .await
}

pub(super) async fn guest_says(world: &World, command: &str) -> anyhow::Result<String> {
    world.guest(VM_NAME).await?.run(command).await
}

/// The guest is at `here` and reachable, and nothing of it is at `other`.
pub(super) async fn stays(
    world: &World,
    place: &Place,
    here: &NodeLayout,
    other: &NodeLayout,
) -> anyhow::Result<()> {
    world.running(VM_NAME).await?;
    same("its node", &world.node_of(VM_NAME).await?.name, &here.name)?;
    same("its place", &world.place(VM_NAME).await?, place)?;
    is_bound_to(world, here).await?;
    let address = if place.v4.is_empty() { &place.v6 } else { &place.v4 };
    world.ping("web", address).await?;
    nothing_is_left_at(world, other).await
}

/// While a guest is on its way, the switch of its target lets through from its tap the
/// RARP by which QEMU says that it runs there, and no other frame: neither the kernel of
/// the target nor a guest that is not there yet speaks in its name.
async fn only_what_announces_is_heard(world: &World, target: &NodeLayout) -> anyhow::Result<()> {
    let place = world.place(VM_NAME).await?;
    let tap = net::names::tap(&port_of(VM_NAME));
    let (mac, v4, v6) = (&place.mac, &place.v4, &place.v6);
    let all = "ff:ff:ff:ff:ff:ff";
    let arp =
        format!("arp,dl_src={mac},dl_dst={all},arp_op=1,arp_spa={v4},arp_tpa={v4},arp_sha={mac}");
    let ipv6 =
        format!("dl_src={mac},dl_dst=33:33:00:00:00:01,ipv6_src={v6},ipv6_dst=ff02::1,nw_ttl=255");
    for (what, frame, is_heard) in [
        ("an ARP announcement", arp, false),
        ("a neighbour solicitation", format!("icmp6,{ipv6},icmpv6_type=135"), false),
        ("a neighbour advertisement", format!("icmp6,{ipv6},icmpv6_type=136"), false),
        ("a datagram", format!("udp6,{ipv6}"), false),
        ("RARP", format!("rarp,dl_src={mac},dl_dst={all},arp_op=3,arp_sha={mac}"), true),
    ] {
        let trace = world.traced(target, &tap, &frame).await?;
        let end = trace.lines().last().unwrap_or_default();
        let asks_the_controller = end.contains("controller");
        ensure!(asks_the_controller == is_heard, "{what}: {trace}");
        ensure!(is_heard || end.ends_with("drop"), "{what}: {trace}");
    }
    Ok(())
}

async fn is_bound_to(world: &World, node: &NodeLayout) -> anyhow::Result<()> {
    eventually("the port to be its node's alone", SOON, async || {
        let ports = world.northbound().vm_ports().await?;
        let options = &ports.get(&port_of(VM_NAME)).context("no port")?.options;
        let chassis = options.get("requested-chassis").map(String::as_str);
        same("its chassis", chassis, Some(node.name.as_str()))?;
        ensure!(!options.contains_key("activation-strategy"), "{options:?}");
        Ok(())
    })
    .await
}

async fn nothing_is_left_at(world: &World, node: &NodeLayout) -> anyhow::Result<()> {
    world.nothing_runs_of(VM_NAME, node).await?;
    world.no_files_of(VM_NAME, node).await
}

/// The guest's own client asks for its address once more, and the agent there answers.
async fn lease_is_renewed(
    world: &World,
    node: &NodeLayout,
    (nic, port): (&str, &str),
) -> anyhow::Result<()> {
    guest_says(world, &format!("kill -USR1 $(cat /run/udhcpc.{nic}.pid)")).await?;
    eventually("the agent of its node to have answered", SOON, async || {
        let ports = world.agent_ports(node).await?;
        let port = ports.iter().find(|one| one["port"] == port);
        let port = port.context("it serves no such port")?;
        ensure!(port["first_ack_v4"].is_string(), "no DHCPv4 yet: {port}");
        Ok(())
    })
    .await
}

/// Whom the guest takes for its routers.
#[derive(Debug, PartialEq)]
struct Around {
    gateway: String,
    routers: String,
}

impl Around {
    async fn seen(world: &World) -> anyhow::Result<Self> {
        // Asked for the first time it has to be found.
        let ask =
            "ping -c 1 -W 5 10.80.0.1 >/dev/null; ip neigh show 10.80.0.1 | cut -d ' ' -f 1-5";
        let gateway = guest_says(world, ask).await?;
        ensure!(gateway.contains("lladdr"), "it knows no gateway: {gateway:?}");
        // Without how long they are to be believed.
        let list = "ip -6 route show default | sed 's/ expires.*//'";
        Ok(Self { gateway, routers: guest_says(world, list).await? })
    }

    /// The same still, and the gateway answers the first that is sent to it.
    async fn is_as_ever(&self, world: &World) -> anyhow::Result<()> {
        guest_says(world, "ping -c 1 -W 2 10.80.0.1").await?;
        same("whom it takes for its routers", &Self::seen(world).await?, self)
    }
}

/// Numbers that the guest sends to `web` over one connection, one every 20 ms or so.
struct Stream;

impl Stream {
    async fn begin(world: &World) -> anyhow::Result<Self> {
        let web = world.place("web").await?;
        let mut server = world.guest("web").await?;
        server
            .run("rm -f /tmp/stream; (sleep 1000 | nc -l -p 9009 >/tmp/stream 2>/dev/null &)")
            .await?;
        drop(server);
        let count = "i=0; while :; do echo $i; i=$((i+1)); usleep 20000; done";
        let send = format!("( {{ {count}; }} | nc {} 9009 >/dev/null 2>&1 &)", web.v4);
        guest_says(world, &send).await?;
        let stream = Self;
        stream.goes_on(world).await?;
        Ok(stream)
    }

    async fn last(world: &World) -> anyhow::Result<u64> {
        let text = world.guest("web").await?.run("tail -n 2 /tmp/stream | head -n 1").await?;
        text.trim().parse().with_context(|| format!("{text:?} is no number"))
    }

    /// Waits until more arrives.
    async fn goes_on(&self, world: &World) -> anyhow::Result<()> {
        let before = Self::last(world).await.unwrap_or(0);
        eventually("the stream to go on", SOON, async || {
            let now = Self::last(world).await?;
            ensure!(now > before, "{before} is still the last");
            Ok(())
        })
        .await
    }

    /// Every number has arrived, once and in its order.
    async fn is_whole(&self, world: &World) -> anyhow::Result<()> {
        let count = "awk 'NR-1 != $1 { bad++ } END { print bad + 0 }'";
        let whole = format!("head -n -1 /tmp/stream | {count}");
        same("numbers out of order", world.guest("web").await?.run(&whole).await?.as_str(), "0")
    }
}

/// Pings from `web`, one every 20 ms.
struct Pings {
    begun: Instant,
}

impl Pings {
    async fn begin(world: &World, to: &Place) -> anyhow::Result<Self> {
        let ping = format!("(ping -i 0.02 {} >/tmp/pings 2>&1 </dev/null &)", to.v4);
        world.guest("web").await?.run(&ping).await?;
        Ok(Self { begun: Instant::now() })
    }

    /// How many were not answered.
    async fn lost(self, world: &World) -> anyhow::Result<u64> {
        let mut guest: Guest = world.guest("web").await?;
        let _ = guest.run("killall -INT ping").await;
        let said = guest.run("tail -n 3 /tmp/pings").await?;
        let number = |before: &str| {
            let (text, _) = said.split_once(before)?;
            text.split_whitespace().last()?.parse::<u64>().ok()
        };
        let sent = number(" packets transmitted").with_context(|| said.clone())?;
        let received = number(" packets received").with_context(|| said.clone())?;
        ensure!(sent > 50, "{sent} pings in {:?}: {said}", self.begun.elapsed());
        let lost = sent - received.min(sent);
        ensure!(lost < 50, "{lost} of {sent} pings were lost, a second or more");
        Ok(lost)
    }
}
