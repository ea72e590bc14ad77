//! What keeps a guest's process to what the guest requests and is limited to: libvirt's control
//! group of it; pure.
//!
//! | | |
//! |---|---|
//! | time of processors at most | `resources.limits.cpu` |
//! | share of it where many want it | `resources.requests.cpu`, else the limit, else 100m a vCPU |
//! | memory at most | `resources.limits.memory` and what QEMU needs beside the guest |
//!
//! It is set once the guest runs, and not in its definition: libvirt refuses to start what has
//! limits on a node without control groups, and has QEMU lock as much memory as it may have.

use crds::kubevirt::{DomainSpec, Quantity};

use crate::domain::{self, TRANSLATED};

/// The time within which a guest may use its quota, in µs.
pub const PERIOD: u64 = 100_000;

/// What the kernel takes for a quota at least, in µs.
const LEAST_QUOTA: u64 = 1_000;

/// Thousandths of a processor for each vCPU of a guest that requests none.
const MILLI_PER_VCPU: u64 = 100;

/// A processor's worth of shares is 100: what control groups of version 2 give by default. Those
/// have 10,000 at most, and those of version 1 have 2 at least.
const MILLI_PER_SHARE: u64 = 10;
const SHARES: (u64, u64) = (2, 10_000);

/// Limits of one guest. None is one that there is not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    pub shares: Option<u64>,
    /// µs in each [`PERIOD`].
    pub quota: Option<i64>,
    /// Bytes.
    pub memory: Option<u64>,
}

impl Limits {
    /// Those that a guest is to have. What cannot be read is no limit: such a guest does not
    /// start. `is_emulated`: its instructions are translated, and what was is kept.
    #[must_use]
    pub fn of(domain: &DomainSpec, is_emulated: bool) -> Self {
        let Ok(size) = domain::size(domain) else { return Self::default() };
        let resources = domain.resources.clone().unwrap_or_default();
        let vcpus = u64::from(size.vcpus);
        let is_dedicated = domain.cpu.as_ref().is_some_and(crds::kubevirt::Cpu::is_dedicated);
        let limit = resources.limits.get("cpu").and_then(milli);
        let asked = resources.requests.get("cpu").and_then(milli).or(limit);
        let asked = asked.filter(|_| !is_dedicated);
        let asked = asked.unwrap_or(vcpus * if is_dedicated { 1000 } else { MILLI_PER_VCPU });
        let quota = limit.filter(|_| !is_dedicated).map(|milli| {
            let micro = milli.saturating_mul(PERIOD / 1000).max(LEAST_QUOTA);
            i64::try_from(micro).unwrap_or(i64::MAX)
        });
        let memory = resources.limits.get("memory").and_then(|limit| limit.units().ok());
        let memory = memory.map(|limit| {
            let beside = DomainSpec::overhead(vcpus, size.memory);
            let beside = beside + if is_emulated { TRANSLATED } else { 0 };
            limit.saturating_add(beside).next_multiple_of(4096)
        });
        Self { shares: Some((asked / MILLI_PER_SHARE).clamp(SHARES.0, SHARES.1)), quota, memory }
    }
}

/// The fields by which somebody asks for processors within limits, and for memory.
#[must_use]
pub fn asked(domain: &DomainSpec) -> (Vec<&'static str>, Option<&'static str>) {
    let Some(resources) = &domain.resources else { return (Vec::new(), None) };
    let cpu = [
        ("spec.domain.resources.requests.cpu", resources.requests.contains_key("cpu")),
        ("spec.domain.resources.limits.cpu", resources.limits.contains_key("cpu")),
    ];
    let memory = resources.limits.contains_key("memory");
    (
        cpu.into_iter().filter(|(_, is_said)| *is_said).map(|(field, _)| field).collect(),
        memory.then_some("spec.domain.resources.limits.memory"),
    )
}

fn milli(quantity: &Quantity) -> Option<u64> {
    u64::try_from(quantity.milli().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(resources: &Value) -> DomainSpec {
        serde_json::from_value(json!({"devices": {}, "memory": {"guest": "128Mi"},
            "cpu": {"cores": 2}, "resources": resources}))
        .unwrap()
    }

    #[test]
    fn a_guest_is_kept_to_its_limits_and_shares_by_what_it_requests() {
        let of = |resources| Limits::of(&spec(&resources), false);
        let none = of(json!({}));
        assert_eq!(none, Limits { shares: Some(20), quota: None, memory: None });
        let both = of(json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m"}}));
        assert_eq!((both.shares, both.quota), (Some(25), Some(150_000)));
        let limit = of(json!({"limits": {"cpu": "2"}}));
        assert_eq!((limit.shares, limit.quota), (Some(200), Some(200_000)));
        let extremes = of(json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}}));
        assert_eq!((extremes.shares, extremes.quota), (Some(2), Some(1_000)));
        let most = of(json!({"requests": {"cpu": "200"}}));
        assert_eq!(most.shares, Some(10_000));
    }

    #[test]
    fn memory_is_limited_with_room_for_qemu_and_for_what_it_translates() {
        let limited = spec(&json!({"limits": {"memory": "256Mi"}}));
        let room = (256 << 20) + DomainSpec::overhead(2, 128 << 20);
        assert_eq!(Limits::of(&limited, false).memory, Some(room));
        assert_eq!(Limits::of(&limited, true).memory, Some(room + TRANSLATED));
        let (cpu, memory) = asked(&limited);
        assert!(cpu.is_empty() && memory == Some("spec.domain.resources.limits.memory"));
    }

    #[test]
    fn processors_of_its_own_are_a_guests_whole() {
        let mut own = spec(&json!({"limits": {"cpu": "2"}}));
        own.cpu.as_mut().unwrap().dedicated_cpu_placement = Some(true);
        let limits = Limits::of(&own, false);
        assert_eq!((limits.shares, limits.quota), (Some(200), None));
    }
}
