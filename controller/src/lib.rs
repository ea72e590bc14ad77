//! Cluster state to addresses, OVN rows and placed VMs.
//!
//! ```text
//!  watches ─► world ─► dirty VMs ─► decide ─► round ─► ledger, OVN, IP objects, instances
//!             (data)                (pure)    (edge)          │
//!               ▲                                             │
//!               └──────────── what the API answered ◄─────────┘
//! ```
//!
//! One task owns the [`world`]: watches feed it, a [`round`] takes what is dirty,
//! [`decide`] says what each VM's place should be, and the round carries it out
//! for all of them together. Nothing is remembered besides: at start, and on a
//! period, the same code runs over everything. [`ledger`] is the one place that
//! says who holds an address, [`rows`] the one place that says what OVN should
//! hold.

pub mod access;
pub mod admission;
pub mod agenda;
mod args;
pub mod binding;
pub mod claims;
pub mod data_volumes;
pub mod decide;
pub mod defaults;
pub mod dhcp;
pub mod drain;
pub mod egress;
pub mod endpoints;
pub mod evacuation;
pub mod expression;
pub mod family;
pub mod fencing;
pub mod few;
pub mod flaw;
pub mod hold;
pub mod instancetypes;
pub mod leave;
pub mod ledger;
pub mod lenders;
pub mod live;
pub mod lost;
pub mod machine;
pub mod metrics;
pub mod migration;
pub mod multicast;
pub mod namespaces;
pub mod network;
pub mod notices;
pub mod objects;
pub mod peering;
pub mod placement;
pub mod pools;
pub mod port_names;
pub mod ranges;
pub mod replica_sets;
pub mod request;
pub mod reserved;
pub mod round;
pub mod routes;
pub mod rows;
mod run;
pub mod shelf;
pub mod status;
pub mod storage;
pub mod subresources;
pub mod telling;
pub mod unended;
pub mod vips;
pub mod warning;
pub mod watch;
pub mod webhook;
pub mod world;

/// By what name the controller writes.
const MANAGER: &str = "berth-controller";

pub use args::Args;
pub use run::run;
