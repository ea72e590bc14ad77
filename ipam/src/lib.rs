//! Who holds which address of a subnet.
//!
//! A [`Pool`] is a plain value: no clock, no I/O, no Kubernetes. The controller
//! keeps one per subnet and family, fills it from the ledger when it starts, asks
//! it what to write, and writes that to the ledger before anybody acts on it.
//!
//! ```text
//!                    allocate, claim
//!   never used ─────────────────────────▶ held
//!       ▲                                │    ▲
//!       │ 65,536 later          release  │    │ claim, allocate: its last owner
//!       │ releases                       ▼    │ at once, others once rested
//!       └─────────────────────────── released
//! ```
//!
//! ```
//! use ipam::{Owner, Pool};
//!
//! let mut pool = Pool::new("10.0.0.0/24".parse()?, &[], &[], 60)?;
//! let web = Owner::from("web.default");
//! assert_eq!(pool.allocate(web, 1000)?.to_string(), "10.0.0.1");
//! assert_eq!(pool.allocate(web, 2000)?.to_string(), "10.0.0.1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod book;
mod error;
mod fresh;
mod index;
#[cfg(test)]
mod midst;
mod owner;
mod pool;
mod records;
mod releases;
mod slab;
mod spans;

pub use error::{AllocateError, ClaimError, PoolError};
pub use owner::Owner;
pub use pool::{Pool, SubPool};

/// Unix time in whole seconds, always given by the caller: the pool has no
/// clock.
pub type Seconds = u64;
