//! The hypervisor against a real libvirtd and real guests.
//!
//! Needs root and the packages of `berth/host/install.sh`. Each test has a node
//! in namespaces of its own, which ends with it.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

mod node;

use std::fs;
use std::time::Duration;

use agent::domain::{self, Emulation, Place, Port, Seat};
use agent::hypervisor::{
    DomainState, Hypervisor, HypervisorError, Libvirt, Observed, ShutOffReason,
};
use agent::volumes::{self, Dirs, DiskFile, Format, Images, Kernel, Objects, Settings};
use crds::kubevirt::VirtualMachineInstance;

use self::node::Node;

const UID: &str = "5e0f4b2e-0000-4000-8000-000000000001";
const FIRMWARE: &str = "0c4a86d1-0000-4000-8000-00000000000a";
const DOMAIN: &str = "default_web";
const TAP: &str = "tap0123456789a";

fn instance() -> VirtualMachineInstance {
    let yaml = format!(
        "
metadata: {{name: web, namespace: default, uid: {UID}}}
spec:
  domain:
    memory: {{guest: 128Mi}}
    firmware: {{uuid: {FIRMWARE}}}
    devices:
      disks: [{{name: data, disk: {{bus: virtio}}}}]
      interfaces: [{{name: default, bridge: {{}}}}]
  networks: [{{name: default, pod: {{}}}}]
  volumes: [{{name: data, emptyDisk: {{capacity: 1Mi}}}}]
"
    );
    serde_norway::from_str(&yaml).unwrap()
}

/// What this node offers to the domain.
fn place(node: &Node, disks: Vec<DiskFile>) -> Place {
    Place {
        emulation: Emulation::Software,
        checksum_offload: false,
        serial_socket: node.path("web.serial"),
        vnc_socket: node.path("web.vnc"),
        console_log: node.path("console.log"),
        disks,
        kernel: Kernel::default(),
        nvram: node.path("nvram.fd"),
        ports: vec![Port {
            network: "default".into(),
            name: "web.default".into(),
            tap: TAP.into(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: 1400,
        }],
        seat: Seat::default(),
    }
}

/// The XML of a guest that boots our kernel, and whose disk says hello.
fn guest(node: &Node) -> String {
    let disk = node.path("data.img");
    let mut content = b"hello, harbour".to_vec();
    content.resize(1 << 20, 0);
    fs::write(&disk, content).unwrap();
    let disk = DiskFile::own("data", disk, Format::Raw);
    let place = place(node, vec![disk]);
    node.boots(&domain::xml(&instance(), &place).unwrap())
}

fn connect(node: &Node) -> Hypervisor {
    Hypervisor::Libvirt(Libvirt::spawn(&node.uri()).unwrap())
}

/// Waits for the only domain to be in a state.
async fn reach(hypervisor: &Hypervisor, state: DomainState) -> Observed {
    reach_any(hypervisor, &[state]).await
}

/// Waits for the only domain to be in one of these states.
async fn reach_any(hypervisor: &Hypervisor, states: &[DomainState]) -> Observed {
    let last = std::cell::Cell::new(None);
    let reached = async {
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        loop {
            poll.tick().await;
            let listed = hypervisor.list().await.unwrap();
            assert_eq!(listed.len(), 1, "{listed:?}");
            last.set(Some(listed[0].state));
            if states.contains(&listed[0].state) {
                return listed.into_iter().next().unwrap();
            }
        }
    };
    let limit = Duration::from_secs(60);
    let late = |_| panic!("the domain never was {states:?}, but {:?}", last.get());
    tokio::time::timeout(limit, reached).await.unwrap_or_else(late)
}

fn shut_off(reason: ShutOffReason) -> DomainState {
    DomainState::ShutOff(reason)
}

fn console(node: &Node) -> String {
    fs::read_to_string(node.path("console.log")).unwrap_or_default()
}

#[tokio::test]
async fn a_guest_lives_from_define_to_undefine() {
    let node = Node::new();
    let hypervisor = connect(&node);
    let xml = guest(&node);
    let not_found = Err(HypervisorError::NotFound(DOMAIN.into()));
    assert_eq!(hypervisor.list().await, Ok(vec![]));
    assert_eq!(hypervisor.start(DOMAIN).await, not_found);

    hypervisor.define(&xml).await.unwrap();
    hypervisor.define(&xml).await.unwrap();
    let seen = reach(&hypervisor, shut_off(ShutOffReason::Unknown)).await;
    let (uid, namespace, name) = (seen.uid.as_str(), seen.namespace.as_str(), seen.name.as_str());
    assert_eq!((seen.domain.as_str(), uid, namespace, name), (DOMAIN, UID, "default", "web"));

    hypervisor.start(DOMAIN).await.unwrap();
    let again = hypervisor.start(DOMAIN).await;
    assert_eq!(again, Err(HypervisorError::AlreadyRunning(DOMAIN.into())));
    reach(&hypervisor, DomainState::Running).await;
    node.wait_for("the guest is up", || console(&node).contains("guest is up"));
    for line in [
        format!("uuid {FIRMWARE}"),
        "disk hello, harbour".into(),
        "mtu 1400".into(),
        "mac 02:00:00:00:00:01".into(),
    ] {
        assert!(console(&node).contains(&line), "no {line:?} in\n{}", console(&node));
    }

    hypervisor.shutdown(DOMAIN).await.unwrap();
    reach(&hypervisor, shut_off(ShutOffReason::Shutdown)).await;
    hypervisor.shutdown(DOMAIN).await.unwrap();
    hypervisor.destroy(DOMAIN).await.unwrap();
    reach(&hypervisor, shut_off(ShutOffReason::Shutdown)).await;

    hypervisor.start(DOMAIN).await.unwrap();
    hypervisor.destroy(DOMAIN).await.unwrap();
    reach(&hypervisor, shut_off(ShutOffReason::Destroyed)).await;
    hypervisor.undefine(DOMAIN).await.unwrap();
    assert_eq!(hypervisor.list().await, Ok(vec![]));
    assert_eq!(hypervisor.destroy(DOMAIN).await, not_found);
    assert_eq!(hypervisor.undefine(DOMAIN).await, not_found);
}

#[tokio::test]
async fn a_guest_and_its_port_outlive_libvirtd() {
    let node = Node::new();
    let hypervisor = connect(&node);
    // What the agent does before a start: ovs-vswitchd opens the tap when it appears.
    node.ovs_vsctl(&format!(
        "--no-wait add-port br-int {TAP} -- set Interface {TAP} external_ids:iface-id=web.default"
    ));
    hypervisor.define(&guest(&node)).await.unwrap();
    hypervisor.start(DOMAIN).await.unwrap();
    let column = |name: &str| node.ovs_vsctl(&format!("get Interface {TAP} {name}"));
    node.wait_for("OVS has opened the tap", || column("error") == "[]");
    let before = (column("ofport"), column("external_ids"));
    let process = node.inside(&format!("cat /run/libvirt/qemu/{DOMAIN}.pid"));

    node.kill_libvirtd();
    let lost = hypervisor.list().await;
    assert!(matches!(lost, Err(HypervisorError::Disconnected(_))), "{lost:?}");
    let lost = hypervisor.shutdown(DOMAIN).await;
    assert!(matches!(lost, Err(HypervisorError::Disconnected(_))), "{lost:?}");

    node.start_libvirtd();
    reach(&hypervisor, DomainState::Running).await;
    assert_eq!(node.inside(&format!("cat /run/libvirt/qemu/{DOMAIN}.pid")), process);
    assert_eq!((column("ofport"), column("external_ids")), before);

    // A restart between two calls is not even noticed.
    node.kill_libvirtd();
    node.start_libvirtd();
    assert_eq!(hypervisor.list().await.unwrap()[0].state, DomainState::Running);

    node.inside(&format!("kill -KILL {process}"));
    // The latter while libvirtd is still finding its guests again. Both are failures.
    let ends = [ShutOffReason::Crashed, ShutOffReason::Daemon];
    assert!(ends.iter().all(|reason| reason.is_failure()));
    reach_any(&hypervisor, &ends.map(shut_off)).await;
    hypervisor.undefine(DOMAIN).await.unwrap();
    assert_eq!(hypervisor.list().await, Ok(vec![]));
}

#[tokio::test]
async fn a_domain_of_somebody_else_is_neither_listed_nor_replaced_nor_ended() {
    let node = Node::new();
    let hypervisor = connect(&node);
    let theirs = guest(&node).replace("https://berth.io/domain/1", "https://example.com/1");
    hypervisor.define(&theirs).await.unwrap();
    assert_eq!(hypervisor.list().await, Ok(vec![]));
    let ours = guest(&node).replace(UID, "5e0f4b2e-0000-4000-8000-000000000002");
    let taken = hypervisor.define(&ours).await;
    assert!(matches!(taken, Err(HypervisorError::Refused(_))), "{taken:?}");
    // Whatever is to become of ours, which is not there, becomes nothing of theirs.
    let not_found = Err(HypervisorError::NotFound(DOMAIN.into()));
    assert_eq!(hypervisor.start(DOMAIN).await, not_found);
    node.inside(&format!("virsh -q -c qemu:///system start --paused {DOMAIN}"));
    assert_eq!(hypervisor.resume(DOMAIN).await, not_found);
    assert_eq!(hypervisor.shutdown(DOMAIN).await, not_found);
    assert_eq!(hypervisor.destroy(DOMAIN).await, not_found);
    assert_eq!(hypervisor.undefine(DOMAIN).await, not_found);
    assert_eq!(node.inside(&format!("virsh -q -c qemu:///system domstate {DOMAIN}")), "paused");
    assert_eq!(node.inside("virsh -q -c qemu:///system list --all --name --persistent"), DOMAIN);
    let broken = hypervisor.define("<domain><name>x</name></domain>").await;
    assert!(matches!(broken, Err(HypervisorError::Refused(_))), "{broken:?}");
}

#[tokio::test]
async fn a_vmi_boots_from_its_container_disk_and_runs_its_cloud_init() {
    let node = Node::new();
    let hypervisor = connect(&node);
    let mut vmi = instance();
    let devices = serde_norway::from_str(
        "{disks: [{name: root, disk: {bus: virtio}}, {name: init, disk: {bus: virtio}}]}",
    );
    vmi.spec.domain.devices = devices.unwrap();
    let volumes = serde_norway::from_str(
        "
- {name: root, containerDisk: {image: berth/guest:latest}}
- {name: init, cloudInitNoCloud: {userData: \"#!/bin/sh\\necho cloud-init ran >/dev/console\"}}
",
    );
    vmi.spec.volumes = volumes.unwrap();
    let state = node.path("state");
    let images = Images::new(&state, node::guest_image(), Settings::default());
    let dirs = Dirs { state, images, host_disks: Vec::new() };
    let disks = volumes::prepare(&vmi, &dirs, &Objects::default()).await.unwrap();
    let xml = domain::xml(&vmi, &place(&node, disks)).unwrap();

    hypervisor.define(&xml).await.unwrap();
    hypervisor.start(DOMAIN).await.unwrap();
    node.wait_for("cloud-init ran", || console(&node).contains("cloud-init ran"));
    hypervisor.shutdown(DOMAIN).await.unwrap();
    reach(&hypervisor, shut_off(ShutOffReason::Shutdown)).await;
    hypervisor.undefine(DOMAIN).await.unwrap();
    volumes::remove(DOMAIN, &dirs).await.unwrap();
}
