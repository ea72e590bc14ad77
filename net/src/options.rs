//! DHCP options as people write them, understood.
//!
//! ```text
//! a Subnet's options ────┐   lease_time=3600,ntp_server=10.0.0.2;10.0.0.3,option_43=hex:0104
//! annotation of a port ──┼──> pairs ──> names, kinds ──> V4, V6, Ra: what is typed, and Coded
//! a VM's dhcpOptions ────┘                        └────> faults: what is written, what to write
//! ```
//!
//! Names are OVN's where OVN has one, so that options of Kube-OVN's mean here what they
//! mean there. What cannot be understood is a [`Fault`], and the rest counts all the same.

mod dnr;
mod guest;
mod numbered;
pub mod ra;
mod table;
mod text;
mod v4;
mod v6;
mod value;

use serde::{Deserialize, Serialize};

pub use dnr::Resolver;
pub use guest::Guest;
pub use ra::Ra;
pub use table::{Definition, Kind, V4_TABLE, V6_TABLE};
pub use v4::{LEASE, V4, is_servers_own};
pub use v6::{V6, is_servers_own_v6};
pub use value::{Advice, Value, is_name};

/// One option by its number.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Coded {
    /// Its number.
    pub code: u16,
    /// What it says.
    pub value: Value,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "Clients::are_all")]
    pub only: Clients,
}

/// Which clients an option is for: all, if nothing is said.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// Boot ROMs of one of these architectures (RFC 4578 §2.1, RFC 5970 §3.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<u16>,
    /// iPXE, or whoever is not iPXE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipxe: Option<bool>,
}

impl Clients {
    /// Whether nobody is left out.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.arch.is_empty() && self.ipxe.is_none()
    }
}

/// A pair that cannot be in force, while the others are.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{pair:?}: {advice}")]
pub struct Fault {
    /// The pair as it was written, `key=value`.
    pub pair: String,
    /// What to write instead.
    pub advice: String,
}
