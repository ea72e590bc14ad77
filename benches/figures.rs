//! Numbers in the one form that people and programs read:
//!
//! ```text
//! figure: <name> <value> <unit> [peer=<name> <value> ratio=<by how much ours is better>]
//! ```
//!
//! A benchmark sets up its world, measures for a number of rounds and takes the
//! median, as the machine is rarely idle and a mean remembers every interruption.
//!
//! What needs nothing but this process is carried out by the tests, too, once and small
//! (`short.rs`): a case that fails is seen, and not missed when somebody looks for its figure.

pub mod bed;
pub mod echo;
pub mod exchange;
pub mod flood;
pub mod memory;
pub mod peer;
pub mod pool;
pub mod responder;
pub mod server;
#[cfg(test)]
mod short;
pub mod wire;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::Context as _;

/// How much is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effort {
    /// As much as a figure takes.
    Whole,
    /// Each case once, and small, to see that it works. Its figures say nothing.
    Short,
}

impl Effort {
    /// How often a case is measured that otherwise is so many times.
    #[must_use]
    pub const fn rounds(self, whole: usize) -> usize {
        match self {
            Self::Whole => whole,
            Self::Short => 1,
        }
    }
}

/// Who is told each figure as soon as there is one.
pub type Tell<'a> = &'a mut dyn FnMut(Figure<'_>);

/// One measured value.
#[derive(Clone, Copy, Debug)]
pub struct Figure<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    peer: Option<(&'a str, f64)>,
    more_is_better: bool,
}

impl<'a> Figure<'a> {
    /// `value` in `unit`, known as `name`.
    #[must_use]
    pub const fn new(name: &'a str, value: f64, unit: &'a str) -> Self {
        Self { name, value, unit, peer: None, more_is_better: false }
    }

    /// What `peer` needs for the same, in the same unit. The caller says in a
    /// comment where that was measured.
    #[must_use]
    pub const fn against(mut self, peer: &'a str, value: f64) -> Self {
        self.peer = Some((peer, value));
        self
    }

    /// More is better, as of a rate; else less is, as of a time.
    #[must_use]
    pub const fn more_is_better(mut self) -> Self {
        self.more_is_better = true;
        self
    }

    /// Prints the line.
    pub fn print(self) {
        println!("{self}");
    }
}

impl fmt::Display for Figure<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, peer, more_is_better } = self;
        write!(out, "figure: {name} {value:.*} {unit}", decimals(*value))?;
        if let Some((peer, theirs)) = peer {
            let ratio = if *more_is_better { value / theirs } else { theirs / value };
            let (places, exact) = (decimals(*theirs), decimals(ratio));
            write!(out, " peer={peer} {theirs:.places$} ratio={ratio:.exact$}")?;
        }
        Ok(())
    }
}

/// Three significant digits are as many as repeat.
fn decimals(value: f64) -> usize {
    match value.abs() {
        0.0..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    }
}

/// Nanoseconds per operation: the median of `rounds`, each with a world of its own
/// that `prepare` makes and `work`, which says how many operations it did, uses up.
/// Neither the making nor the dropping of a world is counted.
///
/// # Panics
/// When `rounds` is zero.
pub fn ns_per_op<W>(
    rounds: usize,
    mut prepare: impl FnMut() -> W,
    mut work: impl FnMut(&mut W) -> u32,
) -> f64 {
    let round = |_| {
        let mut world = prepare();
        let started = Instant::now();
        let operations = work(&mut world);
        started.elapsed().as_secs_f64() * 1e9 / f64::from(operations)
    };
    median((0..rounds).map(round).collect())
}

/// The middle one of `values`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Memory of this process that is resident and its own, in bytes: what the allocator
/// really took from the system, its overhead included.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn resident_bytes() -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).context("no such line")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// Numbers that look random and are the same in every run (splitmix64), so that two
/// runs measure the same thing.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound as u64).expect("below a usize")
    }

    /// Brings `items` into random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Distinct addresses all over 10.0.0.0/8, the same in every run, made without taking
/// memory: its numbers from zero on, mixed by steps that can each be undone.
pub fn scattered_places() -> impl Iterator<Item = IpAddr> {
    const MASK: u32 = (1 << 24) - 1;
    let mix = |number: u32| {
        let mut mixed = number.wrapping_mul(0x9e_3779 | 1) & MASK;
        mixed ^= mixed >> 13;
        mixed = mixed.wrapping_mul(0x2c_1b3d) & MASK;
        mixed ^ (mixed >> 11)
    };
    let offsets = (0..=MASK).map(mix).filter(|offset| ![0, MASK].contains(offset));
    offsets.map(|offset| IpAddr::V4(Ipv4Addr::from_bits((10 << 24) + offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_one_line_with_as_many_digits_as_repeat() {
        let figure = Figure::new("pool_op_dense", 51.234, "ns");
        assert_eq!(figure.to_string(), "figure: pool_op_dense 51.2 ns");
        assert_eq!(
            figure.against("kube-ovn", 5050.0).to_string(),
            "figure: pool_op_dense 51.2 ns peer=kube-ovn 5050 ratio=98.6"
        );
        let rate = Figure::new("dhcp4_dora_kea", 9000.0, "per-s").more_is_better();
        assert_eq!(
            rate.against("kea", 3000.0).to_string(),
            "figure: dhcp4_dora_kea 9000 per-s peer=kea 3000 ratio=3.00"
        );
    }

    #[test]
    fn the_median_does_not_remember_an_interruption() {
        assert_eq!(median(vec![3.0, 900.0, 1.0, 2.0, 4.0]).to_bits(), 3.0_f64.to_bits());
    }

    #[test]
    fn scattered_places_are_distinct() {
        let places: std::collections::BTreeSet<_> = scattered_places().take(100_000).collect();
        assert_eq!(places.len(), 100_000);
    }

    #[test]
    fn shuffling_loses_nothing_and_repeats() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            Numbers::seeded(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(7), shuffled(7));
        assert_ne!(shuffled(7), shuffled(8));
        let mut sorted = shuffled(7);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }
}
