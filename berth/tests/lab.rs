//! The lab by itself: OVN between two nodes, faults, and an end without traces.
//!
//! Needs root and the Debian packages; says so and passes without root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::lab::{Api, Config, Lab, Layout, sweep};
use common::{Traces, root, sh};

fn config(id: &str, dir: &Path) -> Config {
    Config {
        id: id.to_owned(),
        dir: dir.to_owned(),
        nodes: 2,
        api: Api::None,
        binary: PathBuf::from(env!("CARGO_BIN_EXE_berth")),
        agent_args: Vec::new(),
        controllers: 1,
        controller_args: Vec::new(),
        ranges: Vec::new(),
        image_dir: dir.join("images"),
        hypervisor: true,
        control_groups: true,
        progress: None,
    }
}

/// Repeats a shell command until it succeeds.
async fn eventually(script: &str, limit: Duration) {
    let start = Instant::now();
    loop {
        let output =
            tokio::process::Command::new("sh").args(["-ec", script]).output().await.unwrap();
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(start.elapsed() < limit, "after {limit:?} still not: {script}\n{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Two "guests", each a namespace of a node's with a port of one switch.
fn connect_guests(lab: &Lab) {
    let nb = lab.layout().northbound();
    sh(&format!("ovn-nbctl --db={nb} --may-exist ls-add net"));
    for node in lab.nodes() {
        let (number, ovsdb, namespace) = (node.number, node.ovsdb(), &node.namespace);
        let mac = format!("02:00:00:00:00:0{number}");
        sh(&format!(
            "ovn-nbctl --db={nb} --may-exist lsp-add net p{number} -- lsp-set-addresses p{number} '{mac} 10.9.0.{number}'
             ip netns add {namespace}-guest
             ip -n {namespace} link add tap{number} type veth peer name eth0 netns {namespace}-guest
             ip -n {namespace} link set tap{number} up
             ip netns exec {namespace} ethtool -K tap{number} tx off >/dev/null
             ip -n {namespace}-guest link set eth0 address {mac} mtu 1400 up
             ip -n {namespace}-guest addr add 10.9.0.{number}/24 dev eth0
             ip netns exec {namespace}-guest ethtool -K eth0 tx off >/dev/null
             ovs-vsctl --db={ovsdb} add-port br-int tap{number} -- set interface tap{number} external-ids:iface-id=p{number}"
        ));
    }
}

fn ping(lab: &Lab) -> String {
    format!(
        "ip netns exec {}-guest busybox ping -c 1 -W 1 10.9.0.2",
        lab.layout().node(1).namespace
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_carry_traffic_survive_faults_and_leave_no_traces() {
    if !root() {
        return;
    }
    let dir = PathBuf::from("/tmp/berth-lab-test-1");
    let _ = std::fs::remove_dir_all(&dir);
    let before = Traces::of("t1", &dir);
    let lab = Lab::up(config("t1", &dir)).await.unwrap();
    connect_guests(&lab);
    eventually(&ping(&lab), Duration::from_secs(20)).await;

    // A second lab of the same name must not sweep the first one away.
    let refused = Lab::up(config("t1", Path::new("/tmp/berth-lab-test-1b"))).await.unwrap_err();
    assert!(format!("{refused:#}").contains("a lab runs"), "{refused:#}");

    for process in [
        "ovsdb-nb",
        "ovsdb-sb",
        "northd",
        "n1/ovsdb",
        "n1/vswitchd",
        "n2/ovn-controller",
        "n1/libvirtd",
    ] {
        let pid = lab.kill(process).unwrap();
        lab.restarted(process, pid, Duration::from_secs(20)).await.unwrap();
    }
    eventually(&ping(&lab), Duration::from_secs(30)).await;

    lab.stop("northd").await.unwrap();
    assert_eq!(lab.pid_of("northd"), None);
    lab.start("northd").await.unwrap();
    assert!(lab.pid_of("northd").is_some());

    lab.down().await;
    assert_eq!(Traces::of("t1", &dir), before);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_still_there_after_the_lab_was_down() {
    if !root() {
        return;
    }
    let dir = PathBuf::from("/tmp/berth-lab-test-2");
    let _ = std::fs::remove_dir_all(&dir);
    for expected in ["", "kept\n"] {
        let lab = Lab::up(Config { hypervisor: false, ..config("t2", &dir) }).await.unwrap();
        let nb = lab.layout().northbound();
        assert_eq!(
            sh(&format!("ovn-nbctl --db={nb} --bare --columns=name list logical_switch")),
            expected
        );
        sh(&format!("ovn-nbctl --db={nb} --may-exist ls-add kept"));
        lab.down().await;
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_lab_in_a_panic_leaves_no_traces() {
    if !root() {
        return;
    }
    let dir = PathBuf::from("/tmp/berth-lab-test-3");
    let _ = std::fs::remove_dir_all(&dir);
    let before = Traces::of("t3", &dir);
    let lab = Lab::up(config("t3", &dir)).await.unwrap();
    let panicked = tokio::spawn(async move {
        let _lab = lab;
        panic!("a test fails");
    });
    panicked.await.unwrap_err();
    assert_eq!(Traces::of("t3", &dir), before);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_lab_left_is_removed_by_the_next_start() {
    if !root() {
        return;
    }
    let dir = PathBuf::from("/tmp/berth-lab-test-4");
    let _ = std::fs::remove_dir_all(&dir);
    let before = Traces::of("t4", &dir);
    // A lab without its supervisor: what kill -9 of `berth up` leaves.
    let lab = Lab::up(config("t4", &dir)).await.unwrap();
    let orphan = lab.pid_of("n1/vswitchd").unwrap();
    lab.abandon();
    assert!(Path::new(&format!("/proc/{orphan}")).exists());

    let lab = Lab::up(config("t4", &dir)).await.unwrap();
    assert_ne!(lab.pid_of("n1/vswitchd"), Some(orphan));
    lab.down().await;
    assert_eq!(Traces::of("t4", &dir), before);
    std::fs::remove_dir_all(&dir).unwrap();

    let nothing = sweep(&Layout { id: "t4".to_owned(), dir });
    assert_eq!((nothing.processes, nothing.namespaces), (0, 0));
}
