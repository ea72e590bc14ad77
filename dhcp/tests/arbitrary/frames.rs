//! Frames as a guest may send them, the binding they are answered from, and what holds for
//! every answer.

use std::sync::LazyLock;

use dhcp::{Answer, Binding, Ignored, Responder, Sent};
use serde_json::json;

pub(crate) const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 5];
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

/// The binding of the guest with [`MAC`].
pub(crate) static BINDING: LazyLock<Binding> = LazyLock::new(|| {
    serde_json::from_value(json!({
        "mac": "02:00:5e:10:00:05",
        "hostname": "web",
        "v4": {
            "address": "10.0.0.5", "prefix": 24, "gateway": "10.0.0.1", "server": "169.254.0.254",
            "dns": ["10.0.0.53"], "domain": "example.com", "search": ["example.com"], "mtu": 1400,
            "routes": [{"to": "192.0.2.0/24", "via": "10.0.0.2"}], "lease": 3600,
            "t1": 600, "t2": 1200, "next_server": "10.0.0.2", "broadcast": true, "always": [42, 108],
            "options": [
                {"code": 67, "value": "text:efi", "only": {"arch": [7, 9], "ipxe": false}},
                {"code": 67, "value": "text:menu", "only": {"ipxe": true}},
                {"code": 66, "value": "text:boot.example"},
                {"code": 42, "value": "ip:10.0.0.3;10.0.0.4"},
                {"code": 43, "value": long("hex:", "00", 300)},
                {"code": 108, "value": "u32:1800"},
                {"code": 53, "value": "hex:05"},
                {"code": 900, "value": "bool:true"},
            ],
        },
        "v6": {
            "address": "fd00::5", "delegated": "fd01:0:0:5::/64", "dns": ["fd00::53"],
            "search": ["example.com"], "lease": 3600,
            "options": [
                {"code": 59, "value": "text:http://boot/x64.efi", "only": {"arch": [16]}},
                {"code": 56, "value": "names:ntp.example"},
                {"code": 65000, "value": long("hex:", "00", 1100)},
            ],
        },
        "ra": {
            "router_mac": "02:00:5e:00:00:01", "managed": true, "other": true, "mtu": 1400,
            "prefixes": [{"network": "fd00::/64", "on_link": true, "autonomous": false}],
            "rdnss": ["fd00::53"], "dnssl": ["example.com"],
            "lifetime": 1800, "min_interval": 200, "max_interval": 600,
            "preference": "high", "routes": [{"to": "fd01::/48"}], "pref64": ["64:ff9b::/96"],
            "captive_portal": "https://portal.example/api",
            "encrypted_dns": ["1 dns.example.com fd00::53 alpn=dot"],
        },
    }))
    .unwrap()
});

pub(crate) fn long(start: &str, part: &str, times: usize) -> String {
    format!("{start}{}", part.repeat(times))
}

pub(crate) fn ethernet(ethertype: u16) -> Vec<u8> {
    [&[0xff; 6][..], &MAC, &ethertype.to_be_bytes()].concat()
}

pub(crate) fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}

/// DHCPv4 with these options, right up to the options.
pub(crate) fn v4_frame(options: &[u8]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 9, 9, 9, 9];
    message.resize(28, 0);
    message.extend(MAC);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    let mut frame = ethernet(0x0800);
    frame.extend([0x45, 0]);
    frame.extend(length(28 + message.len()));
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67]);
    frame.extend(length(8 + message.len()));
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

/// An IPv6 packet from the guest's link-local address.
pub(crate) fn v6_frame(protocol: u8, hop_limit: u8, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length(payload.len()));
    frame.extend([protocol, hop_limit]);
    frame.extend("fe80::5eff:fe10:5".parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame.extend(destination.parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame.extend(payload);
    frame
}

pub(crate) fn dhcp6_frame(message: &[u8]) -> Vec<u8> {
    let udp = [&[2, 34, 2, 35][..], &length(8 + message.len()), &[0, 0], message].concat();
    v6_frame(17, 1, "ff02::1:2", &udp)
}

/// What holds for every answer to every frame.
pub(crate) fn check(frame: &[u8]) {
    let answer = Responder::answer(&BINDING, frame);
    let from_guest = frame.get(6..12) == Some(&MAC[..]);
    match answer {
        Answer::Send(Sent { frame: reply, kind, .. }) => {
            assert!(from_guest, "a foreign MAC address was answered with {kind:?}");
            let to: [u8; 6] = reply[..6].try_into().unwrap();
            assert!(to == MAC || to == BROADCAST, "{kind:?} went to {to:?}");
            assert!(reply.len() <= 14 + 1400, "{kind:?} of {} bytes", reply.len());
            assert!(!says(&reply, &NEIGHBOUR), "{kind:?} says something of another port");
        }
        Answer::Ignore(reason) if frame.len() >= 14 => {
            assert!(reason != Ignored::ForeignMac || !from_guest || is_dhcp4(frame));
        }
        Answer::Ignore(reason) => assert_eq!(reason, Ignored::Malformed),
    }
}

/// A mark in the binding of the port beside this one.
pub(crate) const NEIGHBOUR: [u8; 9] = *b"neighbour";

pub(crate) fn says(frame: &[u8], what: &[u8]) -> bool {
    frame.windows(what.len()).any(|window| window == what)
}

/// Only DHCPv4 has a second place where a MAC address could be foreign.
pub(crate) fn is_dhcp4(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0]
}
