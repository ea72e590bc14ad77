//! DHCPv4, DHCPv6 and router advertisements for the ports of one host: a pure
//! responder and one socket file.
//!
//! ```text
//!             guest                     │ host
//!  udhcpc, dhclient, kernel ─── tap ────┼──────────────> bridge, datapath
//!                                ▲      │
//!             filter in kernel   │      │
//!   ┌ TapSocket ─────────────────┘      │   set_port(name, interface, Binding)
//!   │ frame                             │        │
//!   ▼                                   │        ▼
//! Responder::answer(binding, frame) <── Server: one task for all ports
//!   │                                        │ periodic advertisements,
//!   └─ Send(frame) | Ignore(reason) ────────>│ counters, PortReports
//! ```
//!
//! A port has one guest, and a guest has one [`Binding`]. **The port is the
//! identity:** what arrives on a tap is answered from that tap's binding or not at
//! all. Ethernet source and `chaddr` must be the binding's MAC address; client
//! identifiers and DUIDs are echoed and never looked up. Leases imply nothing that
//! would have to be remembered: the address is the guest's for as long as the
//! binding says so. Where many guests share an interface (`berth dhcp`), a guest's port is
//! known by the ethernet source. Hence an answer depends on binding and frame alone, is the
//! same on every node, and needs neither clock, disk, controller nor OVN.
//!
//! # What is answered
//!
//! | message | answer | rules |
//! |---|---|---|
//! | DHCPDISCOVER | OFFER, or ACK with Rapid Commit | RFC 2131 §4.3.1, RFC 4039 |
//! | DHCPREQUEST in SELECTING, INIT-REBOOT, RENEWING, REBINDING | ACK, or NAK for a foreign address | RFC 2131 §4.3.2 |
//! | DHCPINFORM | ACK without address and lease | RFC 2131 §4.3.5 |
//! | Solicit | Advertise, or Reply with Rapid Commit | RFC 9915 §18.3.1 |
//! | Request, Renew, Rebind | Reply | RFC 9915 §18.3.2, §18.3.4, §18.3.5 |
//! | Confirm | Reply: Success or NotOnLink | RFC 9915 §18.3.3 |
//! | Release, Decline | Reply: Success; a conflict is a Decline of the port's own address | RFC 9915 §18.3.7, §18.3.8 |
//! | Information-request | Reply with options | RFC 9915 §18.3.6 |
//! | router solicitation | advertisement, at once (see [`ra`]) | RFC 4861 §6.2.6 |
//!
//! DHCPv4 options: any, by number ([`V4::options`]); by themselves 1, 3, 6, 12, 15, 26, 28,
//! 51, 53, 54, 56, 58, 59, 60 (UEFI's HTTP boot), 61 (RFC 6842), 80 (RFC 4039), 81
//! (RFC 4702), 97 (RFC 4578), 119 (RFC 3397), 121 and 249 (RFC 3442), over `file` and
//! `sname` (52) where a short datagram needs it, in parts where one is long (RFC 3396);
//! boot files by architecture and for iPXE, in the header too. DHCPv6: any, by number
//! ([`V6::options`]); by themselves 1, 2, 3, 5, 7, 13, 14, 16 (UEFI's HTTP boot), 23, 24, 25
//! and 26 (prefixes), 32, 39 (RFC 4704), 82, 83; boot files in the same way (RFC 5970). In
//! advertisements source link-layer address, MTU, prefixes, RDNSS and DNSSL (RFC 8106),
//! preference and routes (RFC 4191), NAT64 prefixes (RFC 8781), the captive portal (RFC 8910).
//! What the guest asks for is sent in its order; see [`V4`], [`V6`] and [`Ra`].
//!
//! # What is ignored
//!
//! Everything else, each with a reason ([`Ignored`]) that is counted: foreign MAC
//! addresses, relayed messages (`giaddr`, Relay-forward: a guest is no relay), what
//! servers send, requests to another server, VLAN tags, fragments, BOOTP, unicast
//! DHCPv6 (RFC 9915 §16), malformed messages. DHCPRELEASE and DHCPDECLINE have no
//! answer; a decline of the port's address is reported on the port, as someone else must be
//! using it. What was sent to another server is its affair, but for a renewal of the port's
//! own address: its guest knows the server by an earlier name.
//! UDP checksums are not verified: guests leave them to hardware that a tap lacks.
//!
//! # Not here
//!
//! FORCERENEW and Reconfigure (changed options arrive with the next renewal, changed
//! advertisements at once or three seconds after the last), relays, DNS updates; routes for
//! what is delegated, which whoever sets the binding makes.

mod answer;
mod binding;
mod boot;
mod codec;
mod fqdn;
mod frame;
mod labels;
mod limit;
mod metrics;
mod poller;
pub mod ra;
mod responder;
mod server;
mod socket;
mod v4;
mod v6;

pub use answer::{Answer, Ignored, Kind, Sent};
pub use binding::{Binding, INFINITE, Prefix, Ra, Route4, V4, V6};
pub use limit::Limit;
pub use responder::Responder;
pub use server::{PortReport, Server, StartError};
