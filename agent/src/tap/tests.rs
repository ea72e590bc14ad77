//! The rows in a real ovsdb-server; taps themselves need a node of their own.
//! Needs the packages of `berth/host/install.sh`, and no root.

use std::process::{Child, Command, Stdio};

use dhcp::Binding;
use tempfile::TempDir;

use super::*;
use crate::netns;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The database of an Open vSwitch with `br-int`; ended by pid when dropped.
pub(crate) struct Switch {
    dir: TempDir,
    server: Child,
    pub(crate) taps: Taps,
}

impl Switch {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        run("ovsdb-tool", &["create", &path("conf.db"), SCHEMA]);
        let server = Command::new("ovsdb-server")
            .arg(path("conf.db"))
            .arg(format!("--remote=punix:{}", path("db.sock")))
            .args([format!("--unixctl={}", path("ctl")), format!("--pidfile={}", path("pid"))])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let remote = format!("unix:{}", path("db.sock")).parse().unwrap();
        let taps = Taps::start(remote, "br-int".to_owned()).unwrap();
        let switch = Self { dir, server, taps };
        switch.taps.ovsdb.synced().await;
        switch.vsctl(&["init"]);
        switch.vsctl(&[
            "add-br",
            "br-int",
            "--",
            "set",
            "bridge",
            "br-int",
            "datapath_type=netdev",
        ]);
        switch
            .until("br-int is there", |replica| replica.by_name("Bridge", "br-int").is_some())
            .await;
        switch
    }

    /// ovs-vswitchd, which carries out what the database says.
    fn daemon(&self) -> Daemon {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let child = Command::new("ovs-vswitchd")
            .arg(format!("unix:{}", path("db.sock")))
            .args([format!("--unixctl={}", path("vctl")), format!("--pidfile={}", path("vpid"))])
            .env("OVS_RUNDIR", self.dir.path())
            .stderr(Stdio::null())
            .spawn();
        Daemon(child.unwrap())
    }

    /// Runs ovs-ofctl on br-int; what it prints.
    fn ofctl(&self, verb: &str, words: &[&str]) -> String {
        let bridge = format!("unix:{}", self.dir.path().join("br-int.mgmt").display());
        run("ovs-ofctl", &[&["--names", verb, &bridge], words].concat())
    }

    pub(crate) fn vsctl(&self, words: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.dir.path().join("db.sock").display());
        run("ovs-vsctl", &[&[db.as_str(), "--no-wait"], words].concat())
    }

    fn ports(&self) -> Vec<String> {
        self.vsctl(&["list-ports", "br-int"]).lines().map(str::to_owned).collect()
    }

    fn id(&self, tap: &str, key: &str) -> String {
        let column = format!("external_ids:{key}");
        self.vsctl(&["get", "Interface", tap, &column]).trim().trim_matches('"').to_owned()
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Replica) -> bool) {
        let waited = tokio::time::timeout(
            Duration::from_secs(30),
            self.taps.ovsdb.wait_for(|replica| holds(replica).then_some(())),
        );
        waited.await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A process that ends with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn port(vm: &str) -> Port {
    let name = net::names::port(vm, "default", "ovn");
    let mac = "02:00:00:00:00:05".parse().unwrap();
    Port {
        network: "default".to_owned(),
        tap: net::names::tap(&name),
        name,
        mac,
        mtu: 1400,
        addresses: vec![],
        faults: vec![],
        conflict: false,
        binding: Binding { mac, hostname: None, v4: None, v6: None, ra: None },
    }
}

#[tokio::test]
async fn a_tap_is_plugged_in_under_its_port_s_name_and_again_changes_nothing() {
    let switch = Switch::start().await;
    assert!(!switch.taps.checksum_offload().await.unwrap());
    let web = port("web");
    switch.taps.plug("default_web", std::slice::from_ref(&web)).await.unwrap();
    assert_eq!(switch.ports(), std::slice::from_ref(&web.tap));
    assert_eq!(switch.id(&web.tap, "iface-id"), "web.default");
    assert_eq!(switch.id(&web.tap, "attached-mac"), "02:00:00:00:00:05");

    let again = switch.taps.ovsdb.read(|replica| {
        plan_attach(replica, "br-int", "default_web", std::slice::from_ref(&web)).unwrap()
    });
    assert!(again.is_empty(), "{again:?}");
}

#[tokio::test]
async fn an_iface_id_that_someone_changed_is_put_right() {
    let switch = Switch::start().await;
    let web = port("web");
    switch.taps.plug("default_web", std::slice::from_ref(&web)).await.unwrap();
    switch.vsctl(&[
        "set",
        "Interface",
        &web.tap,
        "external_ids:iface-id=theirs",
        "external_ids:x=y",
    ]);
    switch
        .until("the change is seen", |replica| {
            let row = replica.by_name("Interface", &web.tap);
            row.is_some_and(|(_, row)| row.key("external_ids", "iface-id") == Some("theirs"))
        })
        .await;
    switch.taps.plug("default_web", std::slice::from_ref(&web)).await.unwrap();
    assert_eq!(switch.id(&web.tap, "iface-id"), "web.default");
    assert_eq!(switch.id(&web.tap, "x"), "y", "what others wrote stays");
}

#[tokio::test]
async fn the_ports_of_dead_domains_are_removed_and_no_others() {
    let switch = Switch::start().await;
    let (web, db) = (port("web"), port("db"));
    switch.taps.plug("default_web", std::slice::from_ref(&web)).await.unwrap();
    switch.taps.plug("default_db", std::slice::from_ref(&db)).await.unwrap();
    switch.vsctl(&["add-port", "br-int", "theirs"]);
    switch.taps.detach(|domain| domain == "default_web").await.unwrap();
    let mut ports = switch.ports();
    ports.sort();
    assert_eq!(ports, [db.tap, "theirs".to_owned()]);
}

#[tokio::test]
async fn a_port_comes_back_only_after_vswitchd_has_seen_it_go() {
    let switch = Switch::start().await;
    let web = port("web");
    switch.taps.plug("default_web", std::slice::from_ref(&web)).await.unwrap();
    switch.taps.detach(|domain| domain == "default_web").await.unwrap();
    let again = switch.taps.plug("default_web", std::slice::from_ref(&web));
    tokio::pin!(again);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut again).await;
    assert!(early.is_err(), "{early:?}");
    assert!(switch.ports().is_empty());
    // What ovs-vswitchd says once it has.
    switch.vsctl(&["set", "Open_vSwitch", ".", "cur_cfg=1"]);
    again.await.unwrap();
    assert_eq!(switch.ports(), std::slice::from_ref(&web.tap));
}

#[tokio::test]
async fn a_bridge_that_is_not_there_is_named() {
    let switch = Switch::start().await;
    switch.vsctl(&["del-br", "br-int"]);
    switch.until("br-int is gone", |replica| replica.by_name("Bridge", "br-int").is_none()).await;
    let error = switch.taps.plug("default_web", &[port("web")]).await.unwrap_err();
    assert!(error.to_string().contains("br-int"), "{error}");
}

#[tokio::test]
async fn the_port_of_the_node_is_plugged_in_once_kept_right_and_removed_alone() {
    let switch = Switch::start().await;
    let web = port("web");
    switch.taps.plug("default_web", std::slice::from_ref(&web)).await.unwrap();
    let mac = "02:00:00:00:00:09".parse().unwrap();
    let gateway = Gateway { name: "node-n1".to_owned(), mac, mtu: 1400 };
    switch.taps.plug_gateway(&gateway).await.unwrap();
    assert_eq!(switch.id(GATEWAY_LINK, "iface-id"), "node-n1");
    let says = |column: &str| {
        switch
            .vsctl(&["get", "Interface", GATEWAY_LINK, column])
            .trim()
            .trim_matches('"')
            .to_owned()
    };
    assert_eq!(says("type"), "internal");
    assert_eq!(says("mac"), "02:00:00:00:00:09");

    let wider = Gateway { mtu: 9000, ..gateway };
    switch.taps.plug_gateway(&wider).await.unwrap();
    assert_eq!(says("mtu_request"), "9000");
    let again = switch.taps.ovsdb.read(|replica| gateway::plan(replica, "br-int", &wider).unwrap());
    assert!(again.is_empty(), "{again:?}");

    // Domains that are gone do not take it along, nor does it take taps.
    switch.taps.detach(|_| true).await.unwrap();
    assert_eq!(switch.ports(), [GATEWAY_LINK]);
    switch.taps.unplug_gateway().await.unwrap();
    assert!(switch.ports().is_empty());
    switch.taps.unplug_gateway().await.unwrap();
}

/// Open vSwitch takes it for the guest's own word: OVN opens a port by it.
#[test]
fn a_guest_that_has_come_is_announced_as_if_it_spoke_itself() {
    netns::apart(|| async {
        let switch = Switch::start().await;
        let _daemon = switch.daemon();
        let mut web = port("web");
        web.addresses = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        run("ip", &["tuntap", "add", &web.tap, "mode", "tap"]);
        switch.taps.attach("default_web", std::slice::from_ref(&web)).await.unwrap();
        let has = |name: &str| {
            let socket = switch.dir.path().join("br-int.mgmt");
            socket.exists() && switch.ofctl("show", &[]).contains(name)
        };
        eventually("the tap is a port of the switch", || has(&web.tap)).await;
        for said in [
            "dl_type=0x8035,dl_dst=ff:ff:ff:ff:ff:ff",
            "arp,arp_spa=10.0.0.5,arp_tpa=10.0.0.5",
            "icmp6,icmp_type=136,nd_target=fd00::5,nd_tll=02:00:00:00:00:05",
        ] {
            let flow = format!("priority=9,in_port={},{said},actions=drop", web.tap);
            switch.ofctl("add-flow", &[&flow]);
        }
        switch.taps.announce(std::slice::from_ref(&web));
        let heard = || {
            let flows = switch.ofctl("dump-flows", &[]);
            let said: Vec<_> = flows.lines().filter(|flow| flow.contains("priority=9")).collect();
            said.len() == 3 && said.iter().all(|flow| !flow.contains("n_packets=0,"))
        };
        eventually("each frame is heard", heard).await;
    });
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let holds = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), holds).await;
    waited.unwrap_or_else(|_| panic!("never: {what}"));
}
