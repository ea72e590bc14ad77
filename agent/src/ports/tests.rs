//! Ports on a wire, and a guest at its other end.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use dhcp::{Limit, V4};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Encodable as _};
use net::MacAddr;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use prometheus::Registry;

use super::*;
use crate::netns;
use crate::tap::tests::{port, run};

/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A guest behind an interface of this thread's network namespace.
struct Guest {
    socket: OwnedFd,
    mac: MacAddr,
}

impl Guest {
    fn on(interface: &str, mac: MacAddr) -> Self {
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll).unwrap();
        let mut links = nix::ifaddrs::getifaddrs().unwrap();
        let link = links.find(|one| one.interface_name == interface).unwrap().address.unwrap();
        bind(socket.as_raw_fd(), link.as_link_addr().unwrap()).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(20, 0)).unwrap();
        Self { socket, mac }
    }

    /// From DISCOVER to ACK.
    fn lease(&self, number: u32) -> std::net::Ipv4Addr {
        let (kind, offer) = self.ask(number, MessageType::Discover, &[]);
        assert_eq!(kind, MessageType::Offer);
        let server = offer.opts().get(OptionCode::ServerIdentifier).unwrap().clone();
        let wanted = DhcpOption::RequestedIpAddress(offer.yiaddr());
        let (kind, ack) = self.ask(number, MessageType::Request, &[wanted, server]);
        assert_eq!(kind, MessageType::Ack);
        ack.yiaddr()
    }

    fn ask(&self, number: u32, kind: MessageType, more: &[DhcpOption]) -> (MessageType, Message) {
        let mut message = Message::default();
        message.set_xid(number).set_chaddr(&self.mac.octets());
        message.set_flags(Flags::default().set_broadcast());
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        more.iter().for_each(|option| drop(message.opts_mut().insert(option.clone())));
        let frame = frame(self.mac, &message.to_vec().unwrap());
        send(self.socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
        let mut buffer = [0; 2048];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let frame = &buffer[..length.expect("an answer comes")];
            let Some(message) = frame.get(HEADERS..) else { continue };
            let Ok(answer) = Message::from_bytes(message) else { continue };
            if answer.opcode() == Opcode::BootReply && answer.xid() == number {
                return (answer.opts().msg_type().unwrap(), answer);
            }
        }
    }
}

/// A client's message to all servers, as it goes over the wire.
fn frame(from: MacAddr, message: &[u8]) -> Vec<u8> {
    let length = |octets: usize| u16::try_from(octets).unwrap().to_be_bytes();
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    ip[2..4].copy_from_slice(&length(20 + 8 + message.len()));
    let words = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let [_, _, high, low] = (!((sum & 0xffff) + (sum >> 16))).to_be_bytes();
    ip[10..12].copy_from_slice(&[high, low]);
    let ethernet = [&[0xff; 6][..], &from.octets(), &[8, 0]].concat();
    // No checksum, which IPv4 allows (RFC 768).
    let udp = [&[0, 68, 0, 67][..], &length(8 + message.len()), &[0, 0]].concat();
    [&ethernet[..], &ip, &udp, message].concat()
}

/// All that a directory has: by path, what is in a file and when that was written.
fn contents(dir: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, about) = (entry.path(), entry.metadata().unwrap());
        let text = if about.is_dir() {
            found.extend(contents(&path));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path.display().to_string(), (about.modified().unwrap(), text));
    }
    found
}

/// What is different, without what is in it.
fn changed(
    before: &BTreeMap<String, (SystemTime, Vec<u8>)>,
    after: &BTreeMap<String, (SystemTime, Vec<u8>)>,
) -> Vec<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}

#[test]
fn the_way_to_a_guest_is_by_its_first_interface_that_has_an_address() {
    let served = |name: &str, place: usize, address: Option<[u8; 4]>| {
        let mut binding = port(name).binding;
        let v4 = |address: [u8; 4]| V4::new(address.into(), 24, [169, 254, 0, 254].into(), 3600);
        binding.v4 = address.map(v4);
        Served {
            tap: name.to_owned(),
            place,
            record: Record { domain: "default_web".to_owned(), binding },
        }
    };
    let all = [
        served("a", 2, Some([10, 0, 0, 1])),
        served("b", 1, Some([10, 0, 0, 2])),
        served("c", 0, None),
        served("d", usize::MAX, Some([10, 0, 0, 3])),
    ];
    let taps: Vec<_> = ways(all.iter()).into_iter().map(|way| way.tap).collect();
    assert_eq!(taps, ["b", "a", "d"]);
}

#[test]
fn a_thousand_leases_change_nothing_in_the_directory_of_the_bindings() {
    netns::apart(|| async {
        let mut web = port("web");
        let address = [10, 66, 0, 5].into();
        web.binding.v4 = Some(V4::new(address, 24, [169, 254, 0, 254].into(), 3600));
        let mac = web.mac.to_string();
        let words = ["link", "add", &web.tap, "type", "veth", "peer", "name", "eth0"];
        run("ip", &[&words[..], &["address", &mac]].concat());
        [&web.tap, "eth0"].iter().for_each(|link| drop(run("ip", &["link", "set", link, "up"])));

        let dir = tempfile::tempdir().unwrap();
        // More than two messages a lease.
        let limit = Limit { rate: 1_000_000, burst: 10_000 };
        let dhcp = Server::start_limited(&Registry::new(), limit).unwrap();
        let taps = Taps::start("unix:/nonexistent".parse().unwrap(), "br-int".to_owned()).unwrap();
        let wires = Wires { dhcp: dhcp.clone(), taps };
        let ports = Ports::new(Bindings::open(dir.path()).unwrap(), Some(wires));
        ports.serve("default_web", std::slice::from_ref(&web)).await.unwrap();
        let open = async {
            while !dhcp.port(&web.name).is_some_and(|port| port.open) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), open).await.expect("the port is open");

        let before = contents(dir.path());
        assert!(before.values().any(|(_, text)| !text.is_empty()), "the binding is on disk");
        let leases = tokio::task::spawn_blocking(move || {
            let guest = Guest::on("eth0", web.mac);
            (1..=1000).filter(|number| guest.lease(*number) == address).count()
        });
        assert_eq!(leases.await.unwrap(), 1000);
        assert!(ports.report()[0].first_ack_v4.is_some());
        assert_eq!(changed(&before, &contents(dir.path())), <[String; 0]>::default());
        // Nor is anything to be written later.
        drop((ports, dhcp));
        assert_eq!(changed(&before, &contents(dir.path())), <[String; 0]>::default());
    });
}
