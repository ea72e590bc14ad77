//! What a VM's network needs on this node: DHCP answers, and taps in OVS.
//!
//! One handle for all of it, so that a driver says *serve*, *attach*, *detach*
//! and no more. With the fake hypervisor there are no taps, so nothing is
//! served and nothing plugged in; the bindings are kept all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dhcp::{Binding, Server};
use k8s_openapi::jiff::Timestamp;
use net::MacAddr;
use parking_lot::Mutex;
use serde::Serialize;

use crate::bindings::{Bindings, BindingsError, Kept, Record};
use crate::leases::Port;
use crate::reach::Way;
use crate::tap::{TapError, Taps};

#[cfg(test)]
mod tests;

/// How long DHCP may take to find a tap that is there.
const HEARD_LIMIT: Duration = Duration::from_secs(10);

/// The node's ports; a cheap handle.
#[derive(Clone, Debug)]
pub struct Ports {
    bindings: Bindings,
    wires: Option<Wires>,
    served: Arc<Mutex<BTreeMap<String, Served>>>,
    /// Ports whose record is of another version, and the domain of each.
    unread: Arc<Mutex<BTreeMap<String, String>>>,
}

/// What real taps need.
#[derive(Clone, Debug)]
pub struct Wires {
    pub dhcp: Server,
    pub taps: Taps,
}

/// One port as it is served now.
#[derive(Clone, Debug)]
struct Served {
    tap: String,
    /// Which of its guest's it is; the last one until the API has said so.
    place: usize,
    record: Record,
}

/// One line of the report to people and tests: `GET /ports`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub port: String,
    pub tap: String,
    pub mac: MacAddr,
    pub addresses: Vec<IpAddr>,
    /// RFC 3339; null until the guest has had its first acknowledgement.
    pub first_ack_v4: Option<String>,
    pub first_ack_v6: Option<String>,
}

impl Ports {
    #[must_use]
    pub fn new(bindings: Bindings, wires: Option<Wires>) -> Self {
        Self { bindings, wires, served: Arc::default(), unread: Arc::default() }
    }

    /// Serves again what was served when the last agent ended.
    ///
    /// # Errors
    /// The disk.
    pub fn restore(&self) -> Result<usize, BindingsError> {
        let mut count = 0;
        for (name, kept) in self.bindings.all()? {
            match kept {
                Kept::Record(record) => {
                    let tap = net::names::tap(&name);
                    self.answer(name, Served { tap, place: usize::MAX, record: *record });
                    count += 1;
                }
                Kept::Unread { domain } => drop(self.unread.lock().insert(name, domain)),
            }
        }
        Ok(count)
    }

    /// Keeps and serves the bindings of a VM's ports, and of no others of it.
    ///
    /// # Errors
    /// The disk. What was served before is served on.
    pub async fn serve(&self, domain: &str, ports: &[Port]) -> Result<(), BindingsError> {
        let wanted: BTreeSet<_> = ports.iter().map(|port| port.name.as_str()).collect();
        let stale: Vec<_> = self
            .names_where(|name, served| served.record.domain == domain && !wanted.contains(name));
        self.forget(stale).await?;
        for (place, port) in ports.iter().enumerate() {
            let record = Record { domain: domain.to_owned(), binding: port.binding.clone() };
            self.bindings.put(&port.name, &record).await?;
            self.answer(port.name.clone(), Served { tap: port.tap.clone(), place, record });
        }
        Ok(())
    }

    /// Joins the taps of a running domain to OVS.
    ///
    /// # Errors
    /// See [`TapError`].
    pub async fn attach(&self, domain: &str, ports: &[Port]) -> Result<(), TapError> {
        match &self.wires {
            Some(wires) => wires.taps.attach(domain, ports).await,
            None => Ok(()),
        }
    }

    /// Says to the network that a guest which has come from another node is here.
    pub fn announce(&self, ports: &[Port]) {
        if let Some(wires) = &self.wires {
            wires.taps.announce(ports);
        }
    }

    /// Makes the taps of a domain that comes from another node, joins them to OVS, and
    /// waits until OVN has put them in place and DHCP hears what comes from them: the
    /// first that the guest asks here is answered.
    ///
    /// # Errors
    /// See [`TapError`].
    pub async fn receive(
        &self,
        domain: &str,
        ports: &[Port],
        queues: bool,
    ) -> Result<(), TapError> {
        let Some(wires) = &self.wires else { return Ok(()) };
        wires.taps.receive(domain, ports, queues).await?;
        for port in ports {
            let heard = tokio::time::timeout(HEARD_LIMIT, wires.dhcp.opened(&port.name));
            heard.await.map_err(|_| TapError::NotHeard(port.name.clone()))?;
        }
        Ok(())
    }

    /// Removes taps of these ports that nobody uses, as far as they are there.
    pub async fn clear_taps(&self, ports: &[Port]) {
        let Some(wires) = &self.wires else { return };
        for port in ports {
            if let Err(error) = wires.taps.clear(&port.tap).await {
                tracing::warn!(tap = port.tap, %error, "A tap that is left over was not removed");
            }
        }
    }

    /// Whether taps may carry frames with partial checksums.
    ///
    /// # Errors
    /// See [`TapError`].
    pub async fn checksum_offload(&self) -> Result<bool, TapError> {
        match &self.wires {
            Some(wires) => wires.taps.checksum_offload().await,
            None => Ok(false),
        }
    }

    /// Removes bindings and OVS ports of every domain for which `is_dead` says so.
    ///
    /// # Errors
    /// The disk, or OVS. May be repeated.
    pub async fn detach(&self, is_dead: impl Fn(&str) -> bool) -> Result<(), DetachError> {
        let mut stale = self.names_where(|_, served| is_dead(&served.record.domain));
        let unread = self.unread.lock().clone();
        stale
            .extend(unread.into_iter().filter(|(_, domain)| is_dead(domain)).map(|(name, _)| name));
        self.forget(stale).await?;
        if let Some(wires) = &self.wires {
            wires.taps.detach(is_dead).await?;
        }
        Ok(())
    }

    /// How often what [`note_conflicts`](Self::note_conflicts) says of any port changed.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.wires.as_ref().map_or(0, |wires| wires.dhcp.conflicts())
    }

    /// Says of each port whether its guest finds its address in use by somebody else.
    pub fn note_conflicts(&self, ports: &mut [Port]) {
        let Some(wires) = &self.wires else { return };
        for port in ports {
            let report = wires.dhcp.port(&port.name);
            port.conflict = report.is_some_and(|report| report.conflict.is_some());
        }
    }

    /// Every port served, by name.
    #[must_use]
    pub fn report(&self) -> Vec<Line> {
        let seen = self.wires.as_ref().map(|wires| wires.dhcp.ports()).unwrap_or_default();
        let acks: BTreeMap<_, _> = seen
            .into_iter()
            .map(|port| (port.name, (port.first_ack_v4, port.first_ack_v6)))
            .collect();
        let served = self.served.lock();
        served
            .iter()
            .map(|(name, Served { tap, record, .. })| {
                let (v4, v6) = acks.get(name).copied().unwrap_or_default();
                let binding = &record.binding;
                Line {
                    port: name.clone(),
                    tap: tap.clone(),
                    mac: binding.mac,
                    addresses: addresses(binding),
                    first_ack_v4: v4.and_then(rfc3339),
                    first_ack_v6: v6.and_then(rfc3339),
                }
            })
            .collect()
    }

    /// The ways to a domain's guest, its first interface's first, without those that have no
    /// address. None where nothing is wired.
    #[must_use]
    pub fn ways(&self, domain: &str) -> Vec<Way> {
        if self.wires.is_none() {
            return Vec::new();
        }
        let served = self.served.lock();
        ways(served.values().filter(|one| one.record.domain == domain))
    }

    fn answer(&self, name: String, served: Served) {
        if let Some(wires) = &self.wires {
            wires.dhcp.set_port(&name, &served.tap, served.record.binding.clone());
        }
        self.unread.lock().remove(&name);
        self.served.lock().insert(name, served);
    }

    fn names_where(&self, which: impl Fn(&str, &Served) -> bool) -> Vec<String> {
        let served = self.served.lock();
        served.iter().filter(|(name, one)| which(name, one)).map(|(name, _)| name.clone()).collect()
    }

    async fn forget(&self, names: Vec<String>) -> Result<(), BindingsError> {
        if names.is_empty() {
            return Ok(());
        }
        self.bindings.remove(&names).await?;
        for name in names {
            if let Some(wires) = &self.wires {
                wires.dhcp.remove_port(&name);
            }
            self.served.lock().remove(&name);
            self.unread.lock().remove(&name);
        }
        Ok(())
    }
}

fn ways<'a>(served: impl Iterator<Item = &'a Served>) -> Vec<Way> {
    let mut served: Vec<_> = served.collect();
    served.sort_by_key(|one| one.place);
    let ways = served.into_iter().map(|Served { tap, record, .. }| Way {
        tap: tap.clone(),
        mac: record.binding.mac,
        addresses: addresses(&record.binding),
    });
    ways.filter(|way| !way.addresses.is_empty()).collect()
}

/// What a guest is told that it has, IPv4 first.
fn addresses(binding: &Binding) -> Vec<IpAddr> {
    let first = binding.v4.iter().map(|v4| IpAddr::V4(v4.address));
    first.chain(binding.v6.iter().map(|v6| IpAddr::V6(v6.address))).collect()
}

/// Why something of a dead domain is still there.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    #[error(transparent)]
    Bindings(#[from] BindingsError),
    #[error(transparent)]
    Taps(#[from] TapError),
}

fn rfc3339(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}
