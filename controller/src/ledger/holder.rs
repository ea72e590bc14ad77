//! Who holds an address: in the ledger's own words and in those of its blocks.

use std::net::IpAddr;

use crds::ledger::{Holder, Lender};
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

    /// What the IPAMClaim of this namespace and name is called.
    #[must_use]
    pub fn of_claim(claim: &Self) -> Self {
        let name = names::claim_holder(&claim.namespace, &claim.name);
        Self { namespace: String::new(), name }
    }

    /// Namespace and name of the IPAMClaim that this is, if it is one.
    #[must_use]
    pub fn claim(&self) -> Option<Self> {
        let claim = names::claim_of_holder(&self.name).filter(|_| self.namespace.is_empty());
        claim.map(|(namespace, name)| Self { namespace: namespace.into(), name: name.into() })
    }

    /// As what the replica set of this namespace and name is looked at.
    #[must_use]
    pub fn of_set(set: &Self) -> Self {
        Self { namespace: String::new(), name: names::set_holder(&set.namespace, &set.name) }
    }

    /// Namespace and name of the replica set that this is, if it is one.
    #[must_use]
    pub fn set(&self) -> Option<Self> {
        let set = names::set_of_holder(&self.name).filter(|_| self.namespace.is_empty());
        set.map(|(namespace, name)| Self { namespace: namespace.into(), name: name.into() })
    }

    /// Whether it holds addresses in order to lend them.
    #[must_use]
    pub fn is_lender(&self) -> bool {
        self.vip().is_some() || self.claim().is_some()
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
    /// Who has had what was no port's, and has it no more.
    pub(super) const fn nobody() -> Self {
        let vm = VmKey { namespace: String::new(), name: String::new() };
        Self { port: String::new(), vm, uid: String::new() }
    }

    /// The provider that its port is named by: the prefix of what is written of it.
    #[must_use]
    pub fn provider(&self) -> &str {
        names::provider_of_port(&self.port, &self.vm.name, &self.vm.namespace)
    }

    /// As whom the pools know it.
    pub(super) fn owner(&self) -> Owner {
        Owner::from(format!("{}/{}", self.port, self.uid).as_str())
    }

    /// Who holds `address` in a pool when this holds it beside its place: see
    /// `ledger/spare.rs`.
    pub(super) fn keeper(&self, address: IpAddr) -> Owner {
        Owner::from(format!("{}/{}@{address}", self.port, self.uid).as_str())
    }

    /// What the Vip of this name and uid holds by.
    #[must_use]
    pub fn of_vip(name: &str, uid: &str) -> Self {
        Self::without_port(names::vip_holder(name), uid)
    }

    /// What the IPAMClaim of this key and uid holds by.
    #[must_use]
    pub fn of_claim(claim: &VmKey, uid: &str) -> Self {
        Self::without_port(names::claim_holder(&claim.namespace, &claim.name), uid)
    }

    /// Something that holds addresses and has no port: it holds in the name of its kind.
    fn without_port(name: String, uid: &str) -> Self {
        let vm = VmKey { namespace: String::new(), name: name.clone() };
        Self { port: name, vm, uid: uid.to_owned() }
    }

    /// Who has lent what this holder has, if it was lent.
    pub(crate) fn of_lender(holder: &Holder) -> Option<Self> {
        holder.lender.as_ref().map(|one| Self::without_port(one.name.clone(), &one.uid))
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
        let (port, vm, uid) = (self.port.clone(), self.vm.to_string(), self.uid.clone());
        Holder { port, vm, uid, lender: None }
    }

    /// The entry of what it has on loan from `lender`.
    pub(super) fn borrower(&self, lender: &Self) -> Holder {
        let lender = Lender { name: lender.vm.name.clone(), uid: lender.uid.clone() };
        Holder { lender: Some(lender), ..self.holder() }
    }
}
