//! The vocabulary that layers share.
//!
//! MAC addresses, address ranges and dual-stack pairs as types that can only
//! hold valid values, and the one place where the names that OVN, Open vSwitch
//! and libvirt know a VM by are derived from its namespace and name; DHCP options as
//! people write them, with Kube-OVN's defaults. No I/O, no async, no Kubernetes API.

mod cidr;
mod delegation;
pub mod listed;
mod mac;
pub mod names;
pub mod options;
mod shown;

pub use cidr::{AddrRange, Cidrs, ParseCidrsError, ParseRangeError};
pub use delegation::{Delegation, DelegationError};
pub use mac::{MacAddr, ParseMacError};
pub use shown::shown;
