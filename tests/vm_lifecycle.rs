//! A VM keeps its place through everything but its deletion.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::json;
use tests::kinds::{BLOCK, VM, VMI};
use tests::objects::Vm;
use tests::world::{Place, START, World, port_of};
use tests::{berth_binary, eventually, same};
use tokio::process::Command;

use crate::port_lifecycle::{SUBNET_NAME, web_and_db};

const SOON: Duration = Duration::from_secs(45);

pub(super) async fn a_stopped_vm_keeps_its_place_and_starts_with_it(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let before = world.place("db").await?;
    let node = world.node_of("db").await?;
    world.cluster.merge(VM, "db", json!({"spec": {"runStrategy": "Halted"}})).await?;
    world.cluster.gone(VMI, "db", SOON).await?;
    world.nothing_runs_of("db", &node).await?;
    eventually("the VM to be Stopped", SOON, async || {
        let vm = world.cluster.get(VM, "db").await?;
        same("its status", vm["status"]["printableStatus"].as_str(), Some("Stopped"))
    })
    .await?;
    same("the place of the stopped VM", world.place("db").await?, before.clone())?;
    ensure!(world.northbound().vm_ports().await?.contains_key(&port_of("db")), "no port");

    world.cluster.merge(VM, "db", json!({"spec": {"runStrategy": "Always"}})).await?;
    world.running("db").await?;
    is_where_it_was(world, "db", &before).await
}

pub(super) async fn a_rebooted_guest_keeps_place_and_instance(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let before = world.place("db").await?;
    let (instance, qemu) = (world.running("db").await?, world.qemu("db").await?);
    let boots = world.reports("db").await?.len();
    world.guest("db").await?.leave_with("reboot").await?;
    another_report(world, "db", boots).await?;
    is_where_it_was(world, "db", &before).await?;
    let uid = "/metadata/uid";
    same("its instance", world.running("db").await?.pointer(uid), instance.pointer(uid))?;
    same("its QEMU", world.qemu("db").await?, qemu)
}

/// Who breaks out of a guest into its QEMU has won little: a user without capabilities, with
/// few system calls, who reads no key of the node and no file of another program.
pub(super) async fn a_guests_process_has_none_of_roots_rights(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let (qemu, node) = (world.qemu("db").await?, world.node_of("db").await?);
    let user = User::from_name("libvirt-qemu")?.context("Debian's libvirt has a user for QEMU")?;
    let status = std::fs::read_to_string(format!("/proc/{qemu}/status"))?;
    let says = |what: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    same("its user", says("Uid:"), Some([&*uid; 4].join(" ")))?;
    same("its group", says("Gid:"), Some([&*gid; 4].join(" ")))?;
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        same(set, says(set), Some("0000000000000000".to_owned()))?;
    }
    same("its filter of system calls", says("Seccomp:"), Some("2".to_owned()))?;

    let keys = node.libvirt().join("etc/pki/serverkey.pem");
    let tried =
        [&keys, &node.admin(), &node.state().join("bindings/db"), world.cluster.kubeconfig()];
    for path in tried {
        ensure!(path.exists(), "{} is not there", path.display());
        let test = format!("test -r {0} -o -w {0}", path.display());
        let groups = ["--regid", &gid, "--clear-groups", "--reuid", &uid, "sh", "-c", &test];
        let can = Command::new("setpriv").args(groups).status().await?.success();
        ensure!(!can, "QEMU may use {}", path.display());
    }
    Ok(())
}

pub(super) async fn a_killed_qemu_comes_back_with_the_same_place(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let before = world.place("db").await?;
    let qemu = world.qemu("db").await?;
    kill(Pid::from_raw(qemu), Signal::SIGKILL)?;
    another_qemu(world, "db", qemu).await?;
    world.running("db").await?;
    is_where_it_was(world, "db", &before).await
}

pub(super) async fn a_guest_that_powers_off_is_started_again(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let before = world.place("db").await?;
    let instance = world.running("db").await?;
    world.guest("db").await?.leave_with("poweroff").await?;
    eventually("another instance", START, async || {
        let now = world.running("db").await?;
        let uid = "/metadata/uid";
        ensure!(now.pointer(uid) != instance.pointer(uid), "still the one that powered off");
        Ok(())
    })
    .await?;
    is_where_it_was(world, "db", &before).await?;
    // Why it ended stands in what it said.
    let log = async |more: &[&str]| {
        let kubeconfig = world.cluster.kubeconfig().to_owned();
        let output = Command::new(berth_binary()?)
            .args(["logs", "db", "--kubeconfig"])
            .arg(kubeconfig)
            .args(more)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{said}");
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let end = log(&["--previous", "--tail", "1"]).await?;
    ensure!(end.contains("reboot: Power down"), "the start before ended with {end:?}");
    let now = log(&[]).await?;
    ensure!(now.contains("BusyBox") && !now.contains("Power down"), "this one said {now:?}");
    Ok(())
}

pub(super) async fn a_deleted_vm_leaves_nothing_and_its_name_serves_again(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let before = world.place("db").await?;
    let node = world.node_of("db").await?;
    world.cluster.delete(VM, "db").await?;
    nothing_is_left_of(world, "db", &before, &node).await?;

    world.cluster.create(VM, Vm::named("db").on(SUBNET_NAME).pinned_to("n2").object()).await?;
    world.running("db").await?;
    let after = world.place("db").await?;
    ensure!(after.v4 != before.v4, "{} has not rested", before.v4);
    crate::port_lifecycle::guest_has_its_place(world, "db").await?;
    world.ping("web", &after.v4).await
}

/// Waits until the guest has reported more often than `before`: it has booted again.
pub(super) async fn another_report(world: &World, vm: &str, before: usize) -> anyhow::Result<()> {
    eventually("the guest to report again", START, async || {
        let reports = world.reports(vm).await?;
        ensure!(reports.len() > before, "{reports:?}");
        Ok(())
    })
    .await
}

/// Waits until a VM's QEMU is another one than the one that was killed.
pub(super) async fn another_qemu(world: &World, vm: &str, killed: i32) -> anyhow::Result<()> {
    eventually("another QEMU", START, async || {
        ensure!(world.qemu(vm).await? != killed, "still the one that was killed");
        Ok(())
    })
    .await
}

/// Same addresses and MAC, in the objects, in OVN and in the guest; and reachable.
pub(super) async fn is_where_it_was(world: &World, vm: &str, before: &Place) -> anyhow::Result<()> {
    same("its place", &world.place(vm).await?, before)?;
    crate::port_lifecycle::guest_has_its_place(world, vm).await?;
    let from = if vm == "web" { "db" } else { "web" };
    world.ping(from, &before.v4).await
}

/// No object, row, ledger entry, domain, tap, DHCP binding or file.
pub(super) async fn nothing_is_left_of(
    world: &World,
    vm: &str,
    place: &Place,
    node: &berth::lab::NodeLayout,
) -> anyhow::Result<()> {
    world.cluster.gone(VM, vm, SOON).await?;
    eventually(&format!("nothing to be left of {vm}"), SOON, async || {
        ensure!(world.cluster.find(VMI, vm).await?.is_none(), "its instance");
        ensure!(world.find_place(vm).await?.is_none(), "its IP object");
        let ports = world.northbound().vm_ports().await?;
        ensure!(!ports.contains_key(&port_of(vm)), "its logical port");
        for block in world.cluster.list(BLOCK).await? {
            let held = block["spec"]["held"].as_object().cloned().unwrap_or_default();
            for address in [&place.v4, &place.v6] {
                let holder = held.get(address.as_str());
                ensure!(holder.is_none(), "the ledger holds {address}: {holder:?}");
            }
        }
        Ok(())
    })
    .await?;
    world.nothing_runs_of(vm, node).await?;
    world.no_files_of(vm, node).await.context("on its node")
}
