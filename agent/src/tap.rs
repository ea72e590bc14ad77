//! Taps: up, with their MTU, and plugged into the integration bridge.
//!
//! libvirt makes a tap when a domain starts and the kernel removes it when the
//! domain's process ends; one for a guest from another node is made before it comes
//! (`arrival.rs`). Everything else about it is done here, by name, and
//! may be done again: OVN binds the logical port that `iface-id` names, on the
//! node whose Open vSwitch has it.
//!
//! Rows of Open vSwitch outlive tap and process. The ones made here bear the
//! domain's name in `external_ids`, so that leftovers are known by it.
//!
//! ovs-vswitchd knows an interface by its name. One whose row went and came again
//! while it was not looking is unchanged to it, and it goes on reading from the tap
//! that is gone. So each removal counts `next_cfg` up, and no row is added before
//! `cur_cfg` says that ovs-vswitchd has acted on all removals.

mod announce;
mod arrival;
mod gateway;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ovn::ovsdb::{
    Client, Condition, Config, Mutation, Remote, Replica, Row, TransactError, Transaction, Value,
};
use rtnetlink::LinkUnspec;
use uuid::Uuid;

use crate::leases::Port;

pub use gateway::{GATEWAY_LINK, Gateway};

/// Key in an OVS Interface's `external_ids`: the domain whose tap it is.
const DOMAIN_KEY: &str = "berth-domain";

/// How long Open vSwitch may take to answer.
const OVSDB_LIMIT: Duration = Duration::from_secs(10);

/// The node's taps and its integration bridge.
#[derive(Clone, Debug)]
pub struct Taps {
    links: rtnetlink::Handle,
    ovsdb: Client,
    bridge: String,
    /// Where Open vSwitch has its sockets, if it is spoken to by one.
    directory: Option<PathBuf>,
}

/// Why a port is not on the network. Each is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// libvirt has not made the tap, or the process ended again.
    #[error("the tap {0} does not exist")]
    NoTap(String),
    #[error("the tap {0} cannot be changed: {1}")]
    Link(String, rtnetlink::Error),
    /// The database of Open vSwitch is away, or busy.
    #[error("Open vSwitch does not answer: {0}")]
    Away(String),
    /// `ip` could not make it.
    #[error("the tap {0} cannot be made: {1}")]
    NotMade(String, String),
    /// ovn-controller has not put the port in place.
    #[error("OVN has not put port {0} in place: see whether ovn-controller runs on this node")]
    NotInstalled(String),
    /// No socket of DHCP is on the tap.
    #[error("DHCP does not hear port {0}: the agent's log says why")]
    NotHeard(String),
    /// Earlier removals are still in force in the datapath.
    #[error("ovs-vswitchd does not carry out what its database says: see whether it runs")]
    Behind,
    #[error("Open vSwitch has no bridge {0}: create it, or name another with --bridge")]
    NoBridge(String),
    #[error("Open vSwitch refused the port: {0}")]
    Refused(#[from] TransactError),
}

impl Taps {
    /// Begins to follow Open vSwitch at `remote`. Nothing is waited for.
    ///
    /// # Errors
    /// The kernel gave no netlink socket.
    pub fn start(remote: Remote, bridge: String) -> std::io::Result<Self> {
        let (connection, links, _) = rtnetlink::new_connection()?;
        // Ends when the last handle is dropped.
        tokio::spawn(connection);
        let directory = match &remote {
            Remote::Unix(path) => path.parent().map(Path::to_owned),
            _ => None,
        };
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let ovsdb = Client::spawn(Config {
            remotes: vec![remote],
            database: "Open_vSwitch".to_owned(),
            tables: vec![
                ("Open_vSwitch".to_owned(), columns(&["next_cfg", "cur_cfg"])),
                ("Bridge".to_owned(), columns(&["name", "ports", "datapath_type"])),
                ("Port".to_owned(), columns(&["name", "interfaces"])),
                (
                    "Interface".to_owned(),
                    columns(&["name", "external_ids", "type", "mac", "mtu_request"]),
                ),
            ],
            leader_only: false,
        });
        Ok(Self { links, ovsdb, bridge, directory })
    }

    /// Whether frames with partial checksums survive in the bridge's datapath:
    /// in the kernel's, and not in that of a `netdev` bridge.
    ///
    /// # Errors
    /// `Away` or `NoBridge`.
    pub async fn checksum_offload(&self) -> Result<bool, TapError> {
        self.synced().await?;
        let datapath = self.ovsdb.read(|replica| {
            replica
                .by_name("Bridge", &self.bridge)
                .map(|(_, row)| row.str("datapath_type").to_owned())
        });
        let datapath = datapath.ok_or_else(|| TapError::NoBridge(self.bridge.clone()))?;
        Ok(datapath != "netdev")
    }

    /// Makes the ports' taps what they should be.
    ///
    /// # Errors
    /// The first that is not; those before it are.
    pub async fn attach(&self, domain: &str, ports: &[Port]) -> Result<(), TapError> {
        if ports.is_empty() {
            return Ok(());
        }
        for port in ports {
            self.set_up(port).await?;
        }
        self.plug(domain, ports).await
    }

    /// Makes the bridge have the ports, bound to their logical ports.
    async fn plug(&self, domain: &str, ports: &[Port]) -> Result<(), TapError> {
        self.synced().await?;
        let is_new =
            |port: &Port, replica: &Replica| replica.by_name("Interface", &port.tap).is_none();
        if self.ovsdb.read(|replica| ports.iter().any(|port| is_new(port, replica))) {
            self.caught_up().await?;
        }
        let plan = self.ovsdb.read(|replica| plan_attach(replica, &self.bridge, domain, ports));
        let plan = plan.ok_or_else(|| TapError::NoBridge(self.bridge.clone()))?;
        self.transact(plan).await
    }

    /// Removes the rows of every domain for which `is_dead` says so.
    ///
    /// # Errors
    /// `Away` or `Refused`.
    pub async fn detach(&self, is_dead: impl Fn(&str) -> bool) -> Result<(), TapError> {
        self.synced().await?;
        self.remove_taps(&is_dead).await?;
        let plan = self.ovsdb.read(|replica| plan_detach(replica, is_dead));
        self.transact(plan).await
    }

    async fn set_up(&self, port: &Port) -> Result<(), TapError> {
        let wanted = LinkUnspec::new_with_name(&port.tap).mtu(u32::from(port.mtu)).up().build();
        match self.links.link().change(wanted).execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(message))
                if message.raw_code() == -nix::libc::ENODEV =>
            {
                Err(TapError::NoTap(port.tap.clone()))
            }
            Err(error) => Err(TapError::Link(port.tap.clone(), error)),
        }
    }

    async fn synced(&self) -> Result<(), TapError> {
        tokio::time::timeout(OVSDB_LIMIT, self.ovsdb.synced()).await.map_err(|_| self.away())
    }

    /// Waits until ovs-vswitchd has acted on every removal.
    async fn caught_up(&self) -> Result<(), TapError> {
        let caught_up = self.ovsdb.wait_for(|replica| has_caught_up(replica).then_some(()));
        tokio::time::timeout(OVSDB_LIMIT, caught_up).await.map_err(|_| TapError::Behind)
    }

    fn away(&self) -> TapError {
        let why = self.ovsdb.trouble();
        TapError::Away(why.unwrap_or_else(|| "see whether ovsdb-server runs".to_owned()))
    }

    async fn transact(&self, plan: Transaction) -> Result<(), TapError> {
        match tokio::time::timeout(OVSDB_LIMIT, self.ovsdb.transact(plan)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(TransactError::Disconnected)) | Err(_) => Err(self.away()),
            Ok(Err(refused)) => Err(TapError::Refused(refused)),
        }
    }
}

/// What makes the bridge have the ports; `None` where there is no such bridge.
fn plan_attach(
    replica: &Replica,
    bridge: &str,
    domain: &str,
    ports: &[Port],
) -> Option<Transaction> {
    let (bridge, bridge_row) = replica.by_name("Bridge", bridge)?;
    let on_bridge: BTreeSet<_> = bridge_row.uuids("ports").collect();
    let mut plan = Transaction::new();
    for port in ports {
        let ids = [
            ("iface-id", port.name.clone()),
            ("attached-mac", port.mac.to_string()),
            ("iface-status", "active".to_owned()),
            (DOMAIN_KEY, domain.to_owned()),
        ];
        let interface = replica.by_name("Interface", &port.tap);
        let holder = interface.and_then(|(uuid, _)| replica.holders("Port", uuid).next());
        match interface.filter(|_| holder.is_some_and(|port| on_bridge.contains(&port))) {
            Some((uuid, row)) => {
                if ids.iter().any(|(key, value)| row.key("external_ids", key) != Some(value)) {
                    let keys = Value::set(ids.iter().map(|(key, _)| *key));
                    plan.mutate(
                        "Interface",
                        Condition::row(uuid),
                        vec![
                            Mutation::delete("external_ids", keys),
                            Mutation::insert("external_ids", Value::map(ids)),
                        ],
                    );
                }
            }
            None => {
                // A port of that name elsewhere is a leftover: the tap is ours.
                if let Some(stray) = holder {
                    remove_port(&mut plan, replica, stray);
                }
                let external_ids = Value::map(ids);
                let name = || Value::from(&port.tap);
                let interface = plan
                    .insert("Interface", vec![("name", name()), ("external_ids", external_ids)]);
                let row = plan
                    .insert("Port", vec![("name", name()), ("interfaces", Value::from(interface))]);
                plan.mutate("Bridge", Condition::row(bridge), vec![Mutation::insert("ports", row)]);
            }
        }
    }
    Some(plan)
}

/// Whether ovs-vswitchd has acted on all that was to be waited for.
fn has_caught_up(replica: &Replica) -> bool {
    replica.rows("Open_vSwitch").all(|(_, row)| row.integer("cur_cfg") >= row.integer("next_cfg"))
}

/// What removes the ports of dead domains.
fn plan_detach(replica: &Replica, is_dead: impl Fn(&str) -> bool) -> Transaction {
    remove_where(replica, |row| row.key("external_ids", DOMAIN_KEY).is_some_and(&is_dead))
}

/// What removes the ports of these interfaces, and has it counted.
fn remove_where(replica: &Replica, which: impl Fn(&Row) -> bool) -> Transaction {
    let mut plan = Transaction::new();
    for (uuid, row) in replica.rows("Interface") {
        if which(row) {
            for port in replica.holders("Port", uuid) {
                remove_port(&mut plan, replica, port);
            }
        }
    }
    if !plan.is_empty() {
        for (uuid, _) in replica.rows("Open_vSwitch") {
            let count = vec![Mutation::add("next_cfg", 1)];
            plan.mutate("Open_vSwitch", Condition::row(uuid), count);
        }
    }
    plan
}

/// Takes the port off its bridge; the server collects what nothing holds.
fn remove_port(plan: &mut Transaction, replica: &Replica, port: Uuid) {
    for bridge in replica.holders("Bridge", port) {
        plan.mutate("Bridge", Condition::row(bridge), vec![Mutation::delete("ports", port)]);
    }
}
