//! The one place where messages become bytes and back, and the only user of `dhcproto`.
//!
//! Writing goes through `dhcproto`, one option at a time and in our order: its
//! own maps are sorted by code, and the client's order matters (RFC 2131 §4.3.1).
//! Options that a binding brings by number are written as they stand there.
//! Of what is read, only DHCPv4's fixed header goes through it. Its option readers stop
//! silently at the first malformed option, panic in debug builds on some lengths
//! that a guest may choose, know neither option overload nor the magic cookie,
//! and sort associations; so options are read here.

mod dhcp4;
mod dhcp6;

use std::net::IpAddr;

use net::options::Value;

pub(crate) use dhcp4::{decode_v4, encode_v4_header, encode_v4_option};
pub(crate) use dhcp6::{decode_v6, encode_v6};

use crate::binding::Route4;
use crate::labels;

fn value_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Addresses(list) => list
            .iter()
            .flat_map(|address| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            })
            .collect(),
        Value::Names(names) => labels::encode(names),
        Value::Routes(routes) => {
            let route = |(to, via): &(_, _)| Route4 { to: *to, via: *via };
            classless_routes(&routes.iter().map(route).collect::<Vec<_>>())
        }
        Value::Text(text) => text.as_bytes().to_vec(),
        Value::Flag(flag) => vec![u8::from(*flag)],
        Value::U8(number) => vec![*number],
        Value::U16(number) => number.to_be_bytes().to_vec(),
        Value::U32(number) => number.to_be_bytes().to_vec(),
        Value::I32(number) => number.to_be_bytes().to_vec(),
        Value::Bytes(octets) => octets.clone(),
    }
}

/// Prefix length, the octets of the destination that it covers, router (RFC 3442).
fn classless_routes(routes: &[Route4]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(routes.len() * 9);
    for Route4 { to, via } in routes {
        bytes.push(to.prefix());
        let significant = usize::from(to.prefix()).div_ceil(8);
        bytes.extend_from_slice(&to.network().octets()[..significant]);
        bytes.extend_from_slice(&via.octets());
    }
    bytes
}

fn architectures(value: &[u8]) -> Vec<u16> {
    value.chunks_exact(2).map(|arch| u16::from_be_bytes([arch[0], arch[1]])).collect()
}
