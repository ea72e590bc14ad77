//! `berth dhcp` and a real client, on the two ends of a veth pair.
//!
//! Needs root; says so and passes without.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Child, Command};

const NAMESPACES: [&str; 2] = ["berth-dhcptest-server", "berth-dhcptest-client"];
const BINDINGS: &str = "- mac: 02:00:00:00:00:07
  hostname: seven
  v4: {address: 10.7.0.7, prefix: 24, gateway: 10.7.0.1, server: 10.7.0.1, dns: [10.7.0.53], lease: 3600}
";

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The two namespaces, and the server in one of them.
struct World(Option<Child>);

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.0 {
            let _ = server.kill();
            let _ = server.wait();
        }
        for name in NAMESPACES {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

#[test]
fn a_client_gets_what_the_file_says() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    drop(World(None));
    let mut world = World(None);
    let [server, client] = NAMESPACES;
    sh(&format!(
        "ip netns add {server}; ip netns add {client}
         ip -n {server} link add tap type veth peer name eth0 netns {client}
         ip -n {server} link set tap up
         ip -n {client} link set eth0 address 02:00:00:00:00:07 up"
    ));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bindings.yaml");
    std::fs::write(&file, BINDINGS).unwrap();
    let program = env!("CARGO_BIN_EXE_berth");
    let words = ["netns", "exec", server, program, "dhcp", "--interface", "tap", "--bindings"];
    world.0 = Some(Command::new("ip").args(words).arg(&file).spawn().unwrap());

    // udhcpc asks every second until the server has come up.
    let script = dir.path().join("script");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ $1 = bound ] && echo $ip/$mask $router $dns $hostname $lease\ntrue\n",
    )
    .unwrap();
    let path = script.display();
    let told = sh(&format!(
        "chmod 755 {path}; ip netns exec {client} busybox udhcpc -i eth0 -q -n -t 20 -T 1 -s {path} 2>/dev/null"
    ));
    assert_eq!(told, "10.7.0.7/24 10.7.0.1 10.7.0.53 seven 3600\n");
}
