//! Guests of which nobody said that they ended.
//!
//! An instance leaves the API once its agent has seen the guest end. Whoever takes the
//! agent's finalizer off, because the node is lost, says that the guest is no more, and
//! cannot know it: if it lives it goes on with its address, as long as the lease that it
//! has. So what such a VM gives back rests for as long as that lease, if this is longer
//! than the rest that every address has.
//!
//! Only what was seen is known: of an instance that was taken out while no controller
//! watched the addresses rest as always.

use std::collections::{BTreeMap, HashMap};

use crds::annotations::{self, DHCP_V4_OPTIONS, DHCP_V6_OPTIONS};
use crds::kubeovn::SubnetSpec;
use crds::kubevirt::VirtualMachineInstance;
use ipam::Seconds;
use kube::ResourceExt as _;
use net::options::{LEASE, V4, V6};

use crate::ledger::VmKey;
use crate::world::node_of;

/// An endless lease would keep its address for ever: seconds after which it is over.
const LONGEST: u32 = 86_400;

/// The VMs whose last instance went without an end.
#[derive(Debug)]
pub struct Unended {
    /// The lease that agents give where nobody names one, in seconds.
    pub lease: u32,
    /// The longest lease that the VM's own annotations name, in seconds.
    leases: HashMap<VmKey, u32>,
}

impl Default for Unended {
    fn default() -> Self {
        Self { lease: LEASE, leases: HashMap::new() }
    }
}

impl Unended {
    /// An instance is not in the API any more, and was `last` seen like this.
    pub fn went(&mut self, key: &VmKey, last: &VirtualMachineInstance) {
        if may_live(last) {
            self.leases.insert(key.clone(), longest_lease(last.annotations()));
        } else {
            self.leases.remove(key);
        }
    }

    /// The time of release to write for what `key` gives back in a subnet at `now`, so
    /// that after `rest` seconds from then no lease of it is left.
    #[must_use]
    pub fn released_at(
        &self,
        key: &VmKey,
        subnet: Option<&SubnetSpec>,
        now: Seconds,
        rest: Seconds,
    ) -> Seconds {
        let Some(own) = self.leases.get(key) else { return now };
        let lease = subnet.map_or(self.lease, |subnet| self.lease_of(subnet));
        let lease = lease.max(*own).min(LONGEST);
        now.saturating_add(Seconds::from(lease).saturating_sub(rest))
    }

    /// The same of what every guest of a subnet was told with its lease.
    #[must_use]
    pub fn forgotten_by_all(&self, subnet: &SubnetSpec, now: Seconds, rest: Seconds) -> Seconds {
        let lease = self.lease_of(subnet).min(LONGEST);
        now.saturating_add(Seconds::from(lease).saturating_sub(rest))
    }

    /// What the VM had was given back.
    pub fn settle(&mut self, key: &VmKey) {
        self.leases.remove(key);
    }

    /// The longer one of the families that the subnet has: one guest has both.
    fn lease_of(&self, subnet: &SubnetSpec) -> u32 {
        let Ok(cidrs) = subnet.cidr_block.parse::<net::Cidrs>() else { return self.lease };
        let v4 = || V4::parse(&subnet.dhcp_v4_options).0.lease.unwrap_or(self.lease);
        let v6 = || V6::parse(&subnet.dhcp_v6_options).0.lease.unwrap_or(self.lease);
        let (v4, v6) = (cidrs.v4.map(|_| v4()), cidrs.v6.map(|_| v6()));
        v4.max(v6).unwrap_or(self.lease)
    }
}

/// Whether a guest may have been running: it had a node, and no end was told.
fn may_live(instance: &VirtualMachineInstance) -> bool {
    node_of(instance).is_some() && !instance.phase().is_final()
}

/// 0 where no annotation names one.
fn longest_lease(written: &BTreeMap<String, String>) -> u32 {
    let leases = written.iter().filter_map(|(key, text)| {
        if annotations::is_field(key, DHCP_V4_OPTIONS) {
            V4::parse(text).0.lease
        } else if annotations::is_field(key, DHCP_V6_OPTIONS) {
            V6::parse(text).0.lease
        } else {
            None
        }
    });
    leases.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crds::kubevirt::InstancePhase;

    use super::*;

    const NOW: Seconds = 1_000_000;
    const REST: Seconds = 60;

    fn key() -> VmKey {
        VmKey { namespace: "default".to_owned(), name: "web".to_owned() }
    }

    fn instance(node: Option<&str>, phase: InstancePhase) -> VirtualMachineInstance {
        let mut instance = VirtualMachineInstance::new("web", Default::default());
        let status = instance.status.get_or_insert_default();
        status.node_name = node.map(str::to_owned);
        status.phase = Some(phase);
        instance
    }

    /// How long after `NOW` an address may be given away.
    fn rests(unended: &Unended, subnet: &SubnetSpec) -> Seconds {
        unended.released_at(&key(), Some(subnet), NOW, REST) + REST - NOW
    }

    #[test]
    fn only_a_guest_that_had_a_node_and_no_end_keeps_its_address_longer() {
        let subnet = SubnetSpec::default();
        for (node, phase, rest) in [
            (Some("n1"), InstancePhase::Running, 3600),
            (Some("n1"), InstancePhase::Scheduled, 3600),
            (Some("n1"), InstancePhase::Succeeded, REST),
            (Some("n1"), InstancePhase::Failed, REST),
            (None, InstancePhase::Pending, REST),
        ] {
            let mut unended = Unended::default();
            unended.went(&key(), &instance(node, phase));
            assert_eq!(rests(&unended, &subnet), rest, "{node:?} {phase:?}");
        }
    }

    #[test]
    fn the_longest_lease_of_either_family_and_of_the_port_counts_and_never_for_ever() {
        let both = "10.0.0.0/24,fd00::/64";
        for (cidr, v4, v6, annotation, rest) in [
            (both, "lease_time=30", "lease_time=20", "", REST),
            (both, "lease_time=7200", "lease_time=600", "", 7200),
            (both, "lease_time=600", "lease_time=7200", "", 7200),
            (both, "lease_time=600", "lease_time=600", "lease_time=9000", 9000),
            (both, "lease_time=4294967295", "", "", 86_400),
            (both, "lease_time=600", "", "", 3600),
            ("10.0.0.0/24", "lease_time=600", "", "", 600),
        ] {
            let mut last = instance(Some("n1"), InstancePhase::Running);
            let name = annotations::key("net2.default.ovn", DHCP_V4_OPTIONS);
            last.annotations_mut().insert(name, annotation.to_owned());
            let mut unended = Unended::default();
            unended.went(&key(), &last);
            let subnet = SubnetSpec {
                cidr_block: cidr.to_owned(),
                dhcp_v4_options: v4.to_owned(),
                dhcp_v6_options: v6.to_owned(),
                ..SubnetSpec::default()
            };
            assert_eq!(rests(&unended, &subnet), rest, "{cidr} {v4:?} {v6:?} {annotation:?}");
        }
    }

    #[test]
    fn where_nobody_names_a_lease_it_is_the_one_that_agents_give() {
        let mut unended = Unended { lease: 7200, ..Unended::default() };
        unended.went(&key(), &instance(Some("n1"), InstancePhase::Running));
        for (cidr, rest) in [("10.0.0.0/24", 7200), ("", 7200)] {
            let subnet = SubnetSpec { cidr_block: cidr.to_owned(), ..SubnetSpec::default() };
            assert_eq!(rests(&unended, &subnet), rest, "{cidr:?}");
        }
        let named = SubnetSpec {
            cidr_block: "10.0.0.0/24".to_owned(),
            dhcp_v4_options: "lease_time=600".to_owned(),
            ..SubnetSpec::default()
        };
        assert_eq!(rests(&unended, &named), 600);
    }

    #[test]
    fn what_is_known_of_one_instance_ends_with_the_next() {
        let subnet = SubnetSpec::default();
        let mut unended = Unended::default();
        unended.went(&key(), &instance(Some("n1"), InstancePhase::Running));
        unended.went(&key(), &instance(Some("n1"), InstancePhase::Succeeded));
        assert_eq!(rests(&unended, &subnet), REST);
        unended.went(&key(), &instance(Some("n1"), InstancePhase::Running));
        unended.settle(&key());
        assert_eq!(rests(&unended, &subnet), REST);
    }
}
