//! Who holds an address: in the ledger's own words and in those of its blocks.

use crds::ledger::Holder;
use ipam::Owner;

/// What a VM is called: namespace and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VmKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
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
    /// The name by which the pools know it.
    pub(super) fn owner(&self) -> Owner {
        Owner::from(format!("{}/{}", self.port, self.uid).as_str())
    }

    pub(super) fn from_holder(holder: &Holder) -> Self {
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
