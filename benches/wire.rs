//! Two network namespaces with two cables between them: a DHCP server at one end, its
//! clients at the other. Made by the run, and removed with it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use net::MacAddr;
use tests::namespace::inside;
use tests::process::Process;
use tests::scratch::Scratch;

use crate::exchange::{CLIENTS, Clients, Family, link_local_of, mac_of};
use crate::responder::SERVER;
use crate::server::Server;

/// The cables. The ends of each are called the same: `eth0`, on which all is measured, and
/// `eth1`, for a guest that is to be in the way.
#[derive(Debug)]
pub struct Wire {
    id: u32,
    scratch: Scratch,
}

impl Wire {
    /// # Errors
    /// When this is not root.
    pub fn lay() -> anyhow::Result<Self> {
        let wire = Self { id: std::process::id(), scratch: Scratch::new("dhcp")? };
        let [server, clients] = [wire.server(), wire.clients()];
        for line in [
            format!("netns add {server}"),
            format!("netns add {clients}"),
            format!("-n {server} link add eth0 type veth peer name eth0 netns {clients}"),
            format!("-n {server} link add eth1 type veth peer name eth1 netns {clients}"),
            // Its own link-local address would not be ready at once.
            format!("-n {server} link set eth0 addrgenmode none"),
            format!("-n {server} addr add {SERVER}/16 dev eth0"),
            format!("-n {server} addr add fe80::1/64 dev eth0 nodad"),
            format!("-n {server} link set lo up"),
            format!("-n {server} link set eth0 up"),
            format!("-n {clients} link set eth0 up"),
            format!("-n {server} link set eth1 up"),
            format!("-n {clients} link set eth1 up"),
        ] {
            ip(&line)?;
        }
        wire.acquaint()?;
        Ok(wire)
    }

    /// Tells the server's kernel where each client is, which else those servers that
    /// leave that to it would wait for, and no client says.
    fn acquaint(&self) -> anyhow::Result<()> {
        let mut lines = String::new();
        for client in 0..CLIENTS {
            let (address, mac) = (link_local_of(client), MacAddr::new(mac_of(client)));
            writeln!(lines, "neigh replace {address} lladdr {mac} nud permanent dev eth0")?;
        }
        let file = self.scratch.path().join("neighbours");
        std::fs::write(&file, lines)?;
        ip(&format!("-n {} -batch {}", self.server(), file.display()))
    }

    fn server(&self) -> String {
        format!("berth-bench-{}-s", self.id)
    }

    fn clients(&self) -> String {
        format!("berth-bench-{}-c", self.id)
    }

    /// Starts a server, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, server: Server, family: Family) -> anyhow::Result<Process> {
        let name = format!("{}{}", server.name(), family.number());
        let dir = self.scratch.path().join(&name);
        std::fs::create_dir_all(&dir)?;
        let inside = ["netns", "exec", &self.server()].map(str::to_owned);
        let words = [inside.into(), server.words(family, &dir)?].concat();
        let mut process =
            Process::start(&name, &PathBuf::from("ip"), &words, &self.scratch.logs())?;
        self.among_clients(family, |clients| {
            for _ in 0..20 {
                process.check_running()?;
                if clients.load(1, Duration::from_millis(500))?.is_whole() {
                    return Ok(());
                }
            }
            Err(anyhow!("{name} does not answer"))
        })?;
        Ok(process)
    }

    /// Runs something of the clients of `eth0`.
    ///
    /// # Errors
    /// Its own.
    pub fn among_clients<T: Send>(
        &self,
        family: Family,
        work: impl FnOnce(&mut Clients) -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        self.at_clients(|| work(&mut Clients::on("eth0", family)?))
    }

    /// Runs something in the clients' namespace.
    ///
    /// # Errors
    /// Its own.
    pub fn at_clients<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        inside(&self.clients(), work)
    }

    /// Runs something in the server's namespace.
    ///
    /// # Errors
    /// Its own.
    pub fn at_server<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        inside(&self.server(), work)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [self.server(), self.clients()] {
            drop(ip(&format!("netns del {namespace}")));
        }
    }
}

/// Runs `ip` with these words.
///
/// # Errors
/// What it says.
pub fn ip(line: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output()?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
