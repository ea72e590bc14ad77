//! How long the computation of a DHCP answer takes, and nothing but the computation.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcp::{Answer, Binding, Responder};
use serde_json::json;

use crate::exchange::{Family, mac_of, questions};
use crate::{Effort, Figure, Tell, ns_per_op};

/// The server's address, whoever serves.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// The address of the first client in IPv6; each has the next one.
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 1, 0);

/// Answers a DISCOVER and a REQUEST, each half of the time.
///
/// # Panics
/// When one is not answered.
pub fn measure(effort: Effort, tell: Tell<'_>) {
    let binding: Binding = serde_json::from_value(binding(Family::V4, 0)).expect("a binding");
    let questions = questions(address_of(0), SERVER);
    let times = match effort {
        Effort::Whole => 10_000,
        Effort::Short => 10,
    };
    let both = ns_per_op(
        effort.rounds(9),
        || (),
        |()| {
            for _ in 0..times {
                for question in &questions {
                    let answer = Responder::answer(&binding, std::hint::black_box(question));
                    assert!(matches!(answer, Answer::Send(..)), "{answer:?}");
                }
            }
            2 * times
        },
    );
    tell(Figure::new("dhcp_responder", both, "ns"));
}

/// What a client is told in one family, as JSON.
#[must_use]
pub fn binding(family: Family, client: u32) -> serde_json::Value {
    let mac = net::MacAddr::new(mac_of(client)).to_string();
    let hostname = format!("vm-{client}");
    match family {
        Family::V4 => json!({"mac": mac, "hostname": hostname, "v4": {
            "address": address_of(client), "prefix": 16, "gateway": SERVER, "server": SERVER,
            "dns": ["10.1.0.2"], "domain": "cluster.local", "lease": 3600,
        }}),
        Family::V6 => json!({"mac": mac, "hostname": hostname, "v6": {
            "address": Ipv6Addr::from_bits(FIRST_V6.to_bits() + u128::from(client)),
            "network": "fd10::/64", "dns": ["fd10::2"], "search": ["cluster.local"], "lease": 3600,
        }}),
    }
}

/// The address of a client, where the server has one for each.
#[must_use]
pub fn address_of(client: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 8, 0).to_bits() + client)
}
