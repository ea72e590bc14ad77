//! What guests take of a node, and what a node has to give. Pure.
//!
//! A guest asks as its launcher pod would at KubeVirt: the processors that it requests, or a
//! tenth of one for each vCPU (`cpuAllocationRatio` 10), since vCPUs seldom are busy all at
//! once; the memory that it requests, or all that it sees, and what QEMU needs besides.

use crds::kubevirt::{DEDICATED_CPUS, DomainSpec, Quantity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use std::collections::BTreeMap;

/// A thousandth of a processor for each vCPU of a guest that requests none.
const MILLI_PER_VCPU: u64 = 100;
/// No sum of so many guests as there are can overflow.
const MOST: u64 = 1 << 50;
/// Huge pages by the size that guests ask for.
const PAGES: [&str; 2] = ["hugepages-2Mi", "hugepages-1Gi"];

/// Processors, memory, huge pages, and processors that are one guest's alone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    /// Thousandths of a processor.
    pub milli: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// Bytes of huge pages of 2Mi and 1Gi.
    pub pages: [u64; 2],
    /// Processors that are one guest's alone: they are none of the others.
    pub dedicated: u64,
}

impl Amount {
    /// What a guest of this hardware takes.
    #[must_use]
    pub fn of_guest(domain: &DomainSpec) -> Self {
        let resources = domain.resources.as_ref();
        let requested = |name: &str| resources.and_then(|one| one.requests.get(name));
        let limited = |name: &str| resources.and_then(|one| one.limits.get(name));
        let vcpus = vcpus(domain);
        let dedicated = domain.cpu.as_ref().map_or(0, |cpu| cpu.dedicated(vcpus));
        let milli = match requested("cpu") {
            _ if dedicated > 0 => 0,
            Some(asked) => milli(asked),
            None => vcpus.saturating_mul(MILLI_PER_VCPU),
        };
        let memory = domain.memory.as_ref();
        let page = memory.and_then(|one| one.hugepages.as_ref());
        let page = page.and_then(|pages| pages.page_size.as_deref());
        let guest = memory.and_then(|one| one.guest.as_ref());
        let asked = requested("memory").or(guest).or_else(|| limited("memory"));
        let asked = asked.map_or(0, bytes);
        let seen = guest.map_or(asked, bytes);
        let lends = resources.is_some_and(|one| {
            one.rest.get("overcommitGuestOverhead").and_then(serde_json::Value::as_bool)
                == Some(true)
        });
        let beside = DomainSpec::overhead(vcpus, seen);
        let beside = if lends || seen == 0 { 0 } else { beside };
        let dedicated = dedicated.min(MOST);
        let mut amount = Self { milli: milli.min(MOST), bytes: beside, pages: [0; 2], dedicated };
        let in_pages = page.and_then(|size| PAGES.iter().position(|name| name.ends_with(size)));
        match in_pages {
            Some(at) => amount.pages[at] = seen,
            None => amount.bytes = beside.saturating_add(asked),
        }
        amount.bytes = amount.bytes.min(MOST);
        amount
    }

    /// What these requests or capacities say, as far as it is of interest. `missing` stands for
    /// what they do not name.
    #[must_use]
    pub fn listed(listed: &BTreeMap<String, KubeQuantity>, missing: u64) -> Self {
        let told = |name: &str, read: fn(&Quantity) -> u64| {
            let amount = listed.get(name).map(|one| read(&Quantity::Text(one.0.clone())));
            amount.map_or(missing, |amount| amount.min(MOST))
        };
        Self {
            milli: told("cpu", milli),
            bytes: told("memory", bytes),
            pages: PAGES.map(|name| told(name, bytes)),
            dedicated: told(DEDICATED_CPUS, bytes),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// This without the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// Of each the greater one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    fn each(self, other: Self, one: fn(u64, u64) -> u64) -> Self {
        Self {
            milli: one(self.milli, other.milli),
            bytes: one(self.bytes, other.bytes),
            pages: [0, 1].map(|at| one(self.pages[at], other.pages[at])),
            dedicated: one(self.dedicated, other.dedicated),
        }
    }

    /// What of `room` is too little for this, in kube-scheduler's words.
    pub fn lacks(self, room: Self) -> impl Iterator<Item = &'static str> {
        const WORDS: [&str; 5] = [
            "Insufficient berth.io/dedicated-cpus",
            "Insufficient cpu",
            "Insufficient memory",
            "Insufficient hugepages-2Mi",
            "Insufficient hugepages-1Gi",
        ];
        let pairs = [
            (self.dedicated, room.dedicated),
            (self.milli, room.milli),
            (self.bytes, room.bytes),
            (self.pages[0], room.pages[0]),
            (self.pages[1], room.pages[1]),
        ];
        let lacks = pairs.into_iter().zip(WORDS);
        lacks.filter(|((asked, room), _)| *asked > 0 && asked > room).map(|(_, word)| word)
    }
}

/// As `domain::sizing` of the agent counts them; it also says what cannot be.
fn vcpus(domain: &DomainSpec) -> u64 {
    let cpu = domain.cpu.clone().unwrap_or_default();
    let written = cpu.cores.is_some() || cpu.sockets.is_some() || cpu.threads.is_some();
    if written {
        let counts = [cpu.cores, cpu.sockets, cpu.threads];
        let counts = counts.into_iter().map(|count| u64::from(count.unwrap_or(1).max(1)));
        return counts.fold(1, u64::saturating_mul);
    }
    let resources = domain.resources.as_ref();
    let asked = resources.and_then(|one| one.limits.get("cpu").or_else(|| one.requests.get("cpu")));
    asked.and_then(|one| one.units().ok()).unwrap_or(1).max(1)
}

fn milli(quantity: &Quantity) -> u64 {
    quantity.milli().map_or(0, |milli| u64::try_from(milli).unwrap_or(u64::MAX).min(MOST))
}

fn bytes(quantity: &Quantity) -> u64 {
    let whole = quantity.milli().map(|milli| milli.div_ceil(1000));
    whole.map_or(0, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX).min(MOST))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(domain: Value) -> Amount {
        let mut domain = domain;
        domain["devices"] = json!({});
        Amount::of_guest(&serde_json::from_value(domain).unwrap())
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_guest_takes_what_it_requests_or_else_what_it_sees_and_what_qemu_needs_besides() {
        let small = of(json!({"memory": {"guest": "512Mi"}}));
        assert_eq!((small.milli, small.bytes), (100, (512 + 64 + 8 + 1) * MIB));
        let cores = of(json!({"cpu": {"cores": 2, "sockets": 3}, "memory": {"guest": "1Gi"}}));
        assert_eq!((cores.milli, cores.bytes), (600, (1024 + 64 + 48 + 2) * MIB));
        let asked = of(json!({"memory": {"guest": "1Gi"}, "resources":
            {"requests": {"memory": "512Mi", "cpu": "1500m"}}}));
        assert_eq!((asked.milli, asked.bytes), (1500, (512 + 64 + 16 + 2) * MIB));
        let lends = of(json!({"resources": {"requests": {"memory": "512Mi"},
            "overcommitGuestOverhead": true}}));
        assert_eq!(lends.bytes, 512 * MIB);
        let alone = of(json!({"cpu": {"cores": 2, "dedicatedCpuPlacement": true}}));
        assert_eq!((alone.milli, alone.dedicated, alone.bytes), (0, 2, 0));
        let isolated = of(json!({"cpu": {"cores": 2, "dedicatedCpuPlacement": true,
            "isolateEmulatorThread": true}}));
        assert_eq!(isolated.dedicated, 3);
    }

    #[test]
    fn huge_pages_are_counted_by_their_size_and_what_qemu_needs_is_not_of_them() {
        let huge = of(json!({"memory": {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}}}));
        assert_eq!((huge.bytes, huge.pages), ((64 + 8 + 2) * MIB, [1024 * MIB, 0]));
    }

    #[test]
    fn what_is_no_quantity_and_what_is_beyond_measure_is_no_panic() {
        assert_eq!(of(json!({"memory": {"guest": "much"}})).bytes, 0);
        let most = of(json!({"memory": {"guest": "999999Ei"}, "cpu":
            {"cores": 4_000_000_000_u32, "sockets": 4_000_000_000_u32}}));
        assert_eq!((most.milli, most.bytes), (MOST, MOST));
        let sum = (0..1000).fold(Amount::default(), |sum, _| sum.and(most));
        assert_eq!(sum.without(most).and(most), sum);
    }

    #[test]
    fn what_lacks_is_told_and_what_nobody_asks_for_is_not() {
        let room = Amount { milli: 50, bytes: 4096 * MIB, pages: [0, 0], dedicated: 1 };
        let small = of(json!({"memory": {"guest": "512Mi"}}));
        assert_eq!(small.lacks(room).collect::<Vec<_>>(), ["Insufficient cpu"]);
        let mut alone = json!({"cpu": {"cores": 1, "dedicatedCpuPlacement": true}});
        assert_eq!(of(alone.clone()).lacks(room).count(), 0);
        alone["cpu"]["isolateEmulatorThread"] = json!(true);
        let lacks: Vec<_> = of(alone).lacks(room).collect();
        assert_eq!(lacks, ["Insufficient berth.io/dedicated-cpus"]);
        assert_eq!(Amount::default().lacks(Amount::default()).count(), 0);
    }
}
