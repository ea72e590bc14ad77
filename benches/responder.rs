//! How long the computation of a DHCP answer takes, and nothing but the computation.

use std::net::Ipv4Addr;

use dhcp::{Answer, Binding, Responder};
use serde_json::json;

use crate::exchange::{mac_of, questions};
use crate::{Effort, Figure, Tell, ns_per_op};

/// The server's address, whoever serves.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// Answers a DISCOVER and a REQUEST, each half of the time.
///
/// # Panics
/// When one is not answered.
pub fn measure(effort: Effort, tell: Tell<'_>) {
    let binding: Binding = serde_json::from_value(binding(0)).expect("a binding");
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

/// What a client is told, as JSON.
#[must_use]
pub fn binding(client: u32) -> serde_json::Value {
    let mac = net::MacAddr::new(mac_of(client)).to_string();
    json!({"mac": mac, "hostname": format!("vm-{client}"), "v4": {
        "address": address_of(client), "prefix": 16, "gateway": SERVER, "server": SERVER,
        "dns": ["10.1.0.2"], "domain": "cluster.local", "lease": 3600,
    }})
}

/// The address of a client, where the server has one for each.
fn address_of(client: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 8, 0).to_bits() + client)
}
