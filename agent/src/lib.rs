//! One node: VMs through libvirt, taps in OVS, DHCP on the taps.
//!
//! ```text
//!   API: VMIs of this node, Subnets                      libvirt: domains
//!        │ watch                                              ▲ │ list, each second
//!        ▼                                                    │ ▼
//!      fleet ── newest of both, to each VM ──► vm::driver ── verbs ──► hypervisor
//!                                              │ step()         │
//!                        phase, interfaces     │                ├──► volumes: disk files
//!   API ◄── vm::publish ◄──────────────────────┘                ├──► domain: XML
//!                                                               └──► ports
//!                                    leases: annotations, Subnet     │
//!                                            └──► Binding ───────────┤
//!                                                          bindings (disk), dhcp, tap (OVS)
//! ```
//!
//! What runs on this node is known to libvirt, and which VM it is stands in the
//! domain's metadata. The agent keeps nothing else but DHCP bindings, so that it
//! may be killed at any moment: the next one looks at objects, domains and files
//! and goes on from there. No VM is ever restarted because the agent was.
//!
//! While the API is away, VMs run on, DHCP is answered from disk, and what is to
//! be written is written later.

pub mod admin;
mod args;
pub mod bindings;
pub mod commands;
mod confinement;
mod consoles;
pub mod control_groups;
pub mod cpus;
pub mod domain;
pub mod egress;
pub mod fleet;
pub mod guest;
pub mod host;
pub mod hypervisor;
pub mod imports;
mod kept;
pub mod leases;
pub mod live;
pub mod metrics;
#[cfg(test)]
mod netns;
pub mod node;
pub mod places;
pub mod ports;
mod probe;
mod processors;
pub mod reach;
pub mod registry;
mod run;
pub mod sending;
mod sparse;
pub mod tap;
pub mod telling;
pub mod vm;
pub mod volumes;
pub mod watch;

pub use args::{Args, EmulationChoice, HypervisorChoice};
pub use run::run;
