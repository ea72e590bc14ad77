//! Who holds an address: in the ledger's own words and in those of its blocks.

use std::net::IpAddr;

use crds::ledger::Holder;
use ipam::Owner;
use net::names;

/// What a holder of addresses is called: a VM by namespace and name, anything else
/// by no namespace and the name of its holding, of which the kind is a part.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VmKey {
    /// Namespace; empty for what is not a VM.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl VmKey {
    /// What the Vip of this name is called.
    #[must_use]
    pub fn of_vip(name: &str) -> Self {
        Self { namespace: String::new(), name: names::vip_holder(name) }
    }

    /// The Vip that this is, if it is one.
    #[must_use]
    pub fn vip(&self) -> Option<&str> {
        names::vip_of_holder(&self.name).filter(|_| self.namespace.is_empty())
    }

    /// What the node of this name is called.
    #[must_use]
    pub fn of_node(name: &str) -> Self {
        Self { namespace: String::new(), name: names::node_holder(name) }
    }

    /// The node that this is, if it is one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        names::node_of_holder(&self.name).filter(|_| self.namespace.is_empty())
    }
}

impl std::fmt::Display for VmKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// One port of one VM, as the ledger knows it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Claimant {
    /// The port.
    pub port: String,
    /// The VM.
    pub vm: VmKey,
    /// The VM's uid; empty for a reservation.
    pub uid: String,
}

impl Claimant {
    /// As whom the pools know it.
    pub(super) fn owner(&self) -> Owner {
        Owner::from(format!("{}/{}", self.port, self.uid).as_str())
    }

    /// Who holds `address` in a pool when this holds it beside its place: see
    /// `ledger/spare.rs`.
    pub(super) fn keeper(&self, address: IpAddr) -> Owner {
        Owner::from(format!("{}/{}@{address}", self.port, self.uid).as_str())
    }

    pub(crate) fn from_holder(holder: &Holder) -> Self {
        let (namespace, name) = holder.vm.split_once('/').unwrap_or(("", &holder.vm));
        Self {
            port: holder.port.clone(),
            vm: VmKey { namespace: namespace.to_owned(), name: name.to_owned() },
            uid: holder.uid.clone(),
        }
    }

    pub(super) fn holder(&self) -> Holder {
        Holder { port: self.port.clone(), vm: self.vm.to_string(), uid: self.uid.clone() }
    }
}
