//! `berth up` as a person runs it: real guests, several times over the same data,
//! ended in every way that a person or a fault can end it.
//!
//! Needs root and the Debian packages; says so and passes without root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
mod foreground;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth::lab::{self, Layout};
use common::{Traces, root, sh};
use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use foreground::{BERTH, Foreground, free_port};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tempfile::TempDir;

/// Until guests run, on a machine that does something else besides.
const GUESTS: Duration = Duration::from_secs(120);
/// Until a step of the start is done.
const STEP: Duration = Duration::from_secs(60);

/// One at a time: each looks at the whole host afterwards.
fn alone() -> MutexGuard<'static, ()> {
    static HOST: Mutex<()> = Mutex::new(());
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("berth-up-").tempdir_in("/tmp").unwrap()
}

fn traces(dir: &Path) -> Traces {
    Traces::of(&Layout::at(dir).id, dir)
}

/// `berth up` that is expected to end by itself.
fn up(dir: &Path, more: &[&str]) -> Output {
    Command::new(BERTH)
        .args(["up", "--exit-when-ready", "--data-dir"])
        .arg(dir)
        .args(["--api-port", &free_port().to_string()])
        .args(more)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it said on standard error, having failed as it should.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Name, addresses and MAC of each VM, from the table.
fn places(text: &str) -> Vec<[&str; 4]> {
    rows(text).into_iter().map(|row| [row[0], row[2], row[3], row[4]]).collect()
}

/// The nodes of the VMs, from the table.
fn nodes(text: &str) -> Vec<&str> {
    rows(text).into_iter().map(|row| row[1]).collect()
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("web ") || line.starts_with("db "));
    rows.map(|row| row.split_whitespace().collect()).collect()
}

/// Asks the API of a running lab, as kubectl would.
fn ask<T>(dir: &Path, question: impl AsyncFnOnce(kube::Client) -> kube::Result<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = lab::client(&dir.join("api/kubeconfig")).await.unwrap();
        question(client).await.unwrap()
    })
}

fn patch_db(dir: &Path, patch: serde_json::Value) {
    ask(dir, async |client| {
        let machines: Api<VirtualMachine> = Api::namespaced(client, "default");
        machines.patch("db", &PatchParams::default(), &Patch::Merge(patch)).await
    });
}

/// What comes out of `berth console` when this is piped into it.
fn console(dir: &Path, vm: &str, input: &str) -> String {
    let mut child = Command::new(BERTH)
        .args(["console", vm, "--data-dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    stdout(&output)
}

#[test]
fn the_machines_keep_their_places_and_changes_however_it_ended() {
    if !root() {
        return;
    }
    let _alone = alone();
    let scratch = scratch();
    let dir = scratch.path();
    let before = traces(dir);

    let first = up(dir, &[]);
    let said = stdout(&first);
    assert!(first.status.success(), "{said}{}", String::from_utf8_lossy(&first.stderr));
    assert!(said.contains("created VirtualMachine web"), "{said}");
    assert!(said.contains("web: pings db") && said.contains("db: pings web"), "{said}");
    let placed = places(&said);
    assert_eq!(placed.len(), 2, "{said}");
    let web = placed.iter().find(|place| place[0] == "web").unwrap();
    assert_eq!(web[1..3], ["10.66.0.10", "fd66::10"], "the addresses that the manifest asks for");
    assert_ne!(nodes(&said)[0], nodes(&said)[1], "the two are on different nodes");
    assert_eq!(traces(dir), before);

    // Again, until Ctrl-C.
    let mut second = Foreground::up(dir, &[]);
    let again = second.wait_for("Ctrl-C stops everything", GUESTS);
    assert!(again.contains("VirtualMachine web is there already"), "{again}");
    assert_eq!(places(&again), placed);
    let states: Vec<_> = again.lines().filter(|line| line.contains("] web: ")).collect();
    assert!(states[0].ends_with("waits for its instance"), "a state of the first run: {states:?}");

    assert_refusals_beside(dir, &second);
    // The quotes differ in what is echoed.
    let shown = console(dir, "db", "echo \"li\"sten; echo $((6 * 7))\n");
    assert!(shown.contains("listen\r\n42\r\n"), "{shown:?}");
    assert!(!shown.contains("\u{1b}[6n"), "{shown:?}");

    let agent = sh(&format!("pgrep -f 'berth [a]gent --node n1 .*{}/'", dir.display()));
    sh(&format!("kill -9 {}", agent.trim()));
    let told = second.wait_for("n1/agent ended: killed by SIGKILL; started again", STEP);
    assert!(told.contains(&format!("{}/log/n1-agent.log", dir.display())), "{told}");

    patch_db(
        dir,
        json!({"metadata": {"annotations": {"mine": "kept"}}, "spec": {"runStrategy": "Halted"}}),
    );
    second.interrupt();
    assert_eq!(second.wait(STEP).code(), Some(0));
    assert_eq!(traces(dir), before);
    let sockets = sh(&format!("find {} -type s", dir.display()));
    assert_eq!(sockets, "", "sockets are left");

    // db is not waited for now, and stays as it was left.
    let mut third = Foreground::up(dir, &[]);
    let kept = third.wait_for("Ctrl-C stops everything", GUESTS);
    assert!(kept.contains("not to run, by their run strategy: db"), "{kept}");
    assert!(places(&kept).contains(web), "{kept}");
    let (db, instance) = ask(dir, async |client| {
        let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), "default");
        let instances: Api<VirtualMachineInstance> = Api::namespaced(client, "default");
        Ok((machines.get("db").await?, instances.get_opt("db").await?))
    });
    assert_eq!(db.metadata.annotations.unwrap()["mine"], "kept");
    assert!(instance.is_none(), "db was started again");

    // What a fault leaves is no obstacle, even if nobody cleans up.
    third.kill();
    assert_ne!(traces(dir), before, "a killed one leaves its processes");
    let mut fourth = Foreground::up(dir, &[]);
    fourth.wait_for("removed leftovers of an earlier run", STEP);
    fourth.wait_for("every node is registered", STEP);
    fourth.interrupt();
    assert_eq!(fourth.wait(STEP).code(), Some(0));
    assert_eq!(traces(dir), before);
}

/// While one runs: another one in the same directory, and one with the same port.
fn assert_refusals_beside(dir: &Path, running: &Foreground) {
    let reason = refusal(&up(dir, &[]));
    for part in ["a lab runs", &running.pid().to_string(), "--data-dir", "--api-port"] {
        assert!(reason.contains(part), "{part} is not in: {reason}");
    }
    let reason = refusal(&clean(dir));
    assert!(reason.contains("nothing was removed") && reason.contains("a lab runs"));

    let elsewhere = scratch();
    let port = running.port().to_string();
    let output = Command::new(BERTH)
        .args(["up", "--api-port", &port, "--data-dir"])
        .arg(elsewhere.path())
        .output()
        .unwrap();
    let reason = refusal(&output);
    assert!(reason.contains(&format!("port {port}")) && reason.contains("--api-port"), "{reason}");
}

fn clean(dir: &Path) -> Output {
    Command::new(BERTH).args(["clean", "--data-dir"]).arg(dir).output().unwrap()
}

#[test]
fn ctrl_c_or_a_closed_terminal_at_any_time_of_the_start_leaves_nothing() {
    if !root() {
        return;
    }
    let _alone = alone();
    let scratch = scratch();
    let dir = scratch.path();
    let before = traces(dir);
    for moment in ["guest image: initramfs", "Kubernetes API on", "OVN central"] {
        let mut started = Foreground::up(dir, &[]);
        started.wait_for(moment, STEP);
        if moment == "Kubernetes API on" {
            started.hang_up()
        } else {
            started.interrupt()
        }
        let status = started.wait(STEP);
        let said = started.said();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("stopped before it was up"), "not at {moment:?}: {said}");
        assert_eq!(traces(dir), before, "after {moment:?}");
        assert_eq!(sh(&format!("find {} -name 'work.*'", dir.display())), "", "a half-built image");
    }
}

#[test]
fn clean_removes_what_a_killed_one_left() {
    if !root() {
        return;
    }
    let _alone = alone();
    let scratch = scratch();
    let dir = &scratch.path().join("data");
    let before = traces(dir);
    let vpc = scratch.path().join("vpc.yaml");
    std::fs::write(&vpc, "{apiVersion: kubeovn.io/v1, kind: Vpc, metadata: {name: a}}\n").unwrap();
    let mut killed = Foreground::up(dir, &["--nodes", "1", "--apply", vpc.to_str().unwrap()]);
    killed.wait_for("Ctrl-C stops everything", STEP);
    killed.kill();
    assert_ne!(traces(dir), before, "a killed one leaves its processes");
    let cleaned = clean(dir);
    assert!(cleaned.status.success() && stdout(&cleaned).contains("removed "), "{cleaned:?}");
    assert_eq!(traces(dir), before);
    assert_eq!(sh(&format!("find {} -type s", dir.display())), "", "sockets are left");
    assert!(stdout(&clean(dir)).contains("removed 0 processes and 0 namespaces"));

    // What a file asks for in vain is named, and what would serve.
    let reason = |yaml: &str| {
        let file = scratch.path().join("wrong.yaml");
        std::fs::write(&file, yaml).unwrap();
        refusal(&up(dir, &["--nodes", "1", "--apply", file.to_str().unwrap()]))
    };
    let said = reason(
        "{apiVersion: kubeovn.io/v1, kind: Vpc, metadata: {name: a}}\n---\n\
         {apiVersion: kubeovn.io/v1, kind: Vcp, metadata: {name: a}}\n",
    );
    for part in ["wrong.yaml, document 2, Vcp a", "no kind Vcp in kubeovn.io/v1", "Vpc (kubeovn"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let said = reason(
        "{apiVersion: kubeovn.io/v1, kind: Subnet, metadata: {name: s}, spec: {cidrBlock: 7}}\n",
    );
    for part in ["wrong.yaml, document 1, Subnet s", "refuses", "spec.cidrBlock"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(traces(dir), before);
}

#[test]
fn a_file_that_cannot_be_read_ends_it_before_anything_is_started() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let file = scratch.path().join("bad.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [\n").unwrap();
    let dir = scratch.path().join("data");
    let reason = |file: &Path| refusal(&up(&dir, &["--apply", file.to_str().unwrap()]));
    let said = reason(&scratch.path().join("none.yaml"));
    assert!(said.contains("none.yaml") && said.contains("No such file"), "{said}");
    assert!(reason(scratch.path()).contains("name the files in it"));
    let said = reason(&file);
    assert!(said.contains("bad.yaml, document 1 is not YAML") && said.contains("line 5"), "{said}");
    assert!(!dir.exists());
}

#[test]
fn whoever_is_not_root_is_told_so_first() {
    if !root() {
        return;
    }
    // Where nobody may go, unlike the place it was built in.
    let scratch = scratch();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), open).unwrap();
    let program = scratch.path().join("berth");
    std::fs::copy(BERTH, &program).unwrap();
    for words in [&["up", "--exit-when-ready"][..], &["console", "web"], &["clean"]] {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(words)
            .output()
            .unwrap();
        let reason = refusal(&output);
        assert!(reason.contains("needs root") && stdout(&output).is_empty(), "{words:?}: {reason}");
    }
}

#[test]
fn a_machine_that_cannot_get_ready_ends_it_with_the_reason() {
    if !root() {
        return;
    }
    let _alone = alone();
    let scratch = scratch();
    let file = scratch.path().join("lost.yaml");
    let lost = berth::manifests::QUICKSTART.split("---").nth(3).unwrap();
    std::fs::write(&file, lost.replace("logical_switch: quickstart", "logical_switch: nowhere"))
        .unwrap();
    let args = ["--nodes", "1", "--timeout", "3", "--apply", file.to_str().unwrap()];
    // Not beside the file: a directory with other things in it is not taken.
    let reason = refusal(&up(scratch.path(), &args));
    assert!(reason.contains("holds other things (lost.yaml)"), "{reason}");
    let output = up(&scratch.path().join("data"), &args);
    let reason = refusal(&output);
    assert!(reason.contains("db has no instance yet") && reason.contains("nowhere"), "{reason}");
}
