//! What an address that is held costs in memory: what the process really has more of
//! afterwards, the allocator's losses included, for owners with names as the controller
//! makes them. A pool keeps sixteen bytes of a name, however long it is.

use anyhow::ensure;
use ipam::{Owner, Pool};

use crate::{resident_bytes, scattered_places};

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its figure.
    pub name: &'static str,
    network: &'static str,
    /// How many addresses are held.
    pub held: u32,
    scattered: bool,
}

const fn case(name: &'static str, network: &'static str, held: u32) -> Case {
    Case { name, network, held, scattered: false }
}

/// All of them.
pub const CASES: &[Case] = &[
    case("pool_bytes_per_address", "10.0.0.0/16", 65_533),
    case("pool_bytes_per_address_v6", "fd00::/64", 65_533),
    case("pool_bytes_per_address_wide", "fd00::/48", 65_533),
    case("pool_bytes_per_address_million", "10.0.0.0/8", 1_000_000),
    Case { scattered: true, ..case("pool_bytes_per_address_scattered", "10.0.0.0/8", 50_000) },
    // Just after the tables have grown.
    case("pool_bytes_per_address_at_worst", "10.0.0.0/16", 57_400),
];

impl Case {
    /// Fills a pool and says by how many bytes that made the process grow. Memory that
    /// another case freed hides what this one takes: each needs a process of its own.
    ///
    /// # Errors
    /// When an address cannot be had, or `/proc` not be read.
    pub fn measure(&self) -> anyhow::Result<u64> {
        let owner = |number: u32| {
            let port = format!("vm-{number:05}.default.ovn-net");
            Owner::from(format!("{port}/3f9c2a17-b04d-4c5e-8f00-{number:012x}").as_str())
        };
        let before = resident_bytes()?;
        let mut pool = Pool::new(self.network.parse()?, &[], &[], 60)?;
        for (number, place) in (0..self.held).zip(scattered_places()) {
            if self.scattered {
                pool.claim(owner(number), place, 0)?;
            } else {
                pool.allocate(owner(number), 0)?;
            }
        }
        let after = resident_bytes()?;
        ensure!(pool.held() == u64::from(self.held), "the pool was measured while it was full");
        Ok(after.saturating_sub(before))
    }
}
