//! The processors of this node, and which of them guests have to themselves.
//!
//! The node sets some aside (`--dedicated-cpus`). A guest that asks for processors of its own
//! has some of these, one for each vCPU, until it ends; all others share the rest. So no guest
//! that runs has to make room for one that comes. Who has which says libvirt, in the domains
//! that run; only from the choice to the start of a guest it is kept here, and an agent that
//! is killed in between chooses anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use roxmltree::Document;

use crate::domain::{OwnCpu, Seat};

/// No node has more processors than this.
const MOST: u32 = 8192;

/// Processors by their numbers, as the kernel and libvirt write them: `0-3,8,^2`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Those of these that are not of the others.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        Self(self.0.difference(&others.0).copied().collect())
    }

    /// Whether all of them are of the others.
    #[must_use]
    pub fn is_part_of(&self, others: &Self) -> bool {
        self.0.is_subset(&others.0)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first so many.
    #[must_use]
    pub fn first(count: u32) -> Self {
        Self((0..count).collect())
    }
}

impl FromStr for CpuSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no list of processors: write one such as 2-7,10");
        let number =
            |text: &str| text.trim().parse().ok().filter(|number| *number < MOST).ok_or_else(wrong);
        let mut set = BTreeSet::new();
        for part in text.trim().split(',') {
            let (part, is_out) = match part.trim().strip_prefix('^') {
                Some(part) => (part, true),
                None => (part, false),
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            for one in first..=last {
                if is_out {
                    set.remove(&one);
                } else {
                    set.insert(one);
                }
            }
        }
        Ok(Self(set))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut between = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            write!(out, "{between}{first}")?;
            if last > first {
                write!(out, "-{last}")?;
            }
            between = ",";
        }
        Ok(())
    }
}

/// The processors of this node; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Cpus {
    /// Those that guests may have to themselves.
    dedicated: CpuSet,
    /// Those of all others; none if there is nothing to keep off.
    shared: CpuSet,
    /// By NUMA node.
    nodes: BTreeMap<u32, CpuSet>,
    /// Those that are chosen for a domain and may not be in use yet.
    chosen: Arc<Mutex<BTreeMap<String, BTreeSet<u32>>>>,
}

/// Why a guest has no processors to itself now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SeatError {
    #[error(
        "the node has no processors for guests to have to themselves: start its agent with \
         --dedicated-cpus"
    )]
    None,
    #[error(
        "the guest is to have {wanted} processors to itself, and {free} of the node's \
         {all} are left"
    )]
    TooFew { wanted: usize, free: usize, all: usize },
}

impl Cpus {
    /// Those of this host, of which some are set aside.
    ///
    /// # Errors
    /// What is wrong with these, for people.
    pub fn of_host(dedicated: Option<CpuSet>) -> Result<Self, String> {
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| error.to_string());
        let Some(dedicated) = dedicated else { return Ok(Self::default()) };
        let all: CpuSet = read("/sys/devices/system/cpu/online")?.parse()?;
        let mut nodes = BTreeMap::new();
        for node in std::fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten() {
            let name = node.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("node").and_then(|number| number.parse().ok());
            let list = read(&format!("/sys/devices/system/node/{name}/cpulist"));
            // One that has memory alone has an empty list.
            if let (Some(number), Ok(set)) = (number, list.and_then(|list| list.parse())) {
                nodes.insert(number, set);
            }
        }
        Self::of(dedicated, &all, nodes)
    }

    fn of(dedicated: CpuSet, all: &CpuSet, nodes: BTreeMap<u32, CpuSet>) -> Result<Self, String> {
        if !dedicated.is_part_of(all) {
            return Err(format!("the node has processors {all}, and {dedicated} are not of them"));
        }
        let shared = all.without(&dedicated);
        if shared.is_empty() {
            return Err(format!(
                "{dedicated} are all processors of the node: leave one for the host and its guests"
            ));
        }
        Ok(Self { dedicated, shared, nodes, chosen: Arc::default() })
    }

    /// How many guests may have to themselves.
    #[must_use]
    pub fn dedicated(&self) -> usize {
        self.dedicated.len()
    }

    /// The processors of guests that have none to themselves, if not all.
    #[must_use]
    pub fn shared(&self) -> Option<String> {
        (!self.dedicated.is_empty()).then(|| self.shared.to_string())
    }

    /// So many processors for a domain that is to start; none is of another one. `running`: the
    /// others as libvirt describes them.
    ///
    /// # Errors
    /// There are too few.
    pub fn choose(
        &self,
        domain: &str,
        wanted: usize,
        running: &[String],
    ) -> Result<Seat, SeatError> {
        let mut seat = Seat { shared: self.shared(), own: Vec::new() };
        if wanted == 0 {
            return Ok(seat);
        }
        if self.dedicated.is_empty() {
            return Err(SeatError::None);
        }
        let mut chosen = self.chosen.lock();
        chosen.remove(domain);
        let mut taken: BTreeSet<u32> = chosen.values().flatten().copied().collect();
        taken.extend(running.iter().flat_map(|xml| pinned(xml)));
        let free: BTreeSet<u32> = self.dedicated.0.difference(&taken).copied().collect();
        if free.len() < wanted {
            let all = self.dedicated.len();
            return Err(SeatError::TooFew { wanted, free: free.len(), all });
        }
        seat.own = self.near(&free, wanted);
        chosen.insert(domain.to_owned(), seat.own.iter().map(|one| one.cpu).collect());
        Ok(seat)
    }

    /// What was chosen for a domain is in use by now, as libvirt can tell, or never will be.
    pub fn forget(&self, domain: &str) {
        self.chosen.lock().remove(domain);
    }

    /// So many of those that are free, of as few NUMA nodes as can be.
    fn near(&self, free: &BTreeSet<u32>, wanted: usize) -> Vec<OwnCpu> {
        let node_of = |cpu: u32| {
            let found = self.nodes.iter().find(|(_, set)| set.0.contains(&cpu));
            found.map_or(0, |(node, _)| *node)
        };
        let mut by_node: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for cpu in free {
            by_node.entry(node_of(*cpu)).or_default().push(*cpu);
        }
        let mut nodes: Vec<(u32, Vec<u32>)> = by_node.into_iter().collect();
        // The smallest that has enough, else the largest: fewer are broken into.
        nodes.sort_by_key(|(node, cpus)| {
            let enough = cpus.len() >= wanted;
            let size = if enough { cpus.len() } else { usize::MAX - cpus.len() };
            (!enough, size, *node)
        });
        let all = nodes
            .into_iter()
            .flat_map(|(node, cpus)| cpus.into_iter().map(move |cpu| OwnCpu { cpu, node }));
        all.take(wanted).collect()
    }
}

/// The processors that the threads of a domain are pinned to one by one.
fn pinned(xml: &str) -> Vec<u32> {
    let Ok(document) = Document::parse(xml) else { return Vec::new() };
    let is_pin = |name: &str| matches!(name, "vcpupin" | "emulatorpin");
    let pins = document.descendants().filter(|one| is_pin(one.tag_name().name()));
    let sets = pins.filter_map(|pin| pin.attribute("cpuset")?.parse::<CpuSet>().ok());
    sets.flat_map(|set| set.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    fn node() -> Cpus {
        let nodes = [(0, set("0-3")), (1, set("4-7"))].into();
        Cpus::of(set("1-7"), &set("0-7"), nodes).unwrap()
    }

    fn own(seat: &Seat) -> Vec<u32> {
        seat.own.iter().map(|one| one.cpu).collect()
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        assert_eq!(set("0-3,8,^2").to_string(), "0-1,3,8");
        assert_eq!(set(" 5\n").to_string(), "5");
        for wrong in ["", "a", "3-1", "1-", "-1", "0-99999999", "^"] {
            wrong.parse::<CpuSet>().unwrap_err();
        }
    }

    #[test]
    fn what_is_set_aside_is_of_the_node_and_not_all_of_it() {
        let of = |text| Cpus::of(set(text), &set("0-1"), BTreeMap::new());
        assert!(of("2").unwrap_err().contains("0-1"));
        assert!(of("0-1").unwrap_err().contains("leave one"));
        let cpus = of("1").unwrap();
        assert_eq!((cpus.dedicated(), cpus.shared().as_deref()), (1, Some("0")));
        assert_eq!(Cpus::default().shared(), None);
    }

    #[test]
    fn no_two_guests_have_one_processor_whether_they_run_or_are_about_to() {
        let cpus = node();
        let runs = "<domain><cputune><vcpupin vcpu='0' cpuset='4'/><emulatorpin cpuset='5'/>\
            </cputune></domain>"
            .to_owned();
        let first = cpus.choose("a", 3, std::slice::from_ref(&runs)).unwrap();
        assert_eq!(own(&first), [1, 2, 3]);
        let second = cpus.choose("b", 2, std::slice::from_ref(&runs)).unwrap();
        assert_eq!(own(&second), [6, 7]);
        let none = cpus.choose("c", 1, std::slice::from_ref(&runs));
        assert_eq!(none, Err(SeatError::TooFew { wanted: 1, free: 0, all: 7 }));
        // One that is chosen for again takes nothing twice.
        assert_eq!(own(&cpus.choose("b", 2, std::slice::from_ref(&runs)).unwrap()), [6, 7]);
        cpus.forget("a");
        assert_eq!(own(&cpus.choose("c", 1, &[runs]).unwrap()), [1]);
    }

    #[test]
    fn a_guest_is_on_as_few_numa_nodes_as_can_be() {
        let cpus = node();
        let four = cpus.choose("a", 4, &[]).unwrap();
        assert!(four.own.iter().all(|one| one.node == 1), "{four:?}");
        cpus.forget("a");
        let six = cpus.choose("a", 6, &[]).unwrap();
        assert_eq!(own(&six), [4, 5, 6, 7, 1, 2]);
    }

    #[test]
    fn a_guest_that_wants_none_shares_and_a_node_without_any_says_so() {
        assert_eq!(node().choose("a", 0, &[]).unwrap().shared.as_deref(), Some("0"));
        assert_eq!(Cpus::default().choose("a", 0, &[]).unwrap(), Seat::default());
        assert_eq!(Cpus::default().choose("a", 1, &[]), Err(SeatError::None));
    }
}
