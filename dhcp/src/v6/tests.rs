//! The rules of RFC 9915, one sentence each.
//!
//! Messages are made and replies are read with `dhcproto` alone, so that our
//! reading and writing are checked against someone else's.

mod delegation;
mod named;
mod options;
mod rules;

use std::net::Ipv6Addr;

use dhcproto::v6::{
    DhcpOption, IAAddr, IANA, IAPD, IAPrefix, Message, MessageType, OptionCode, Status,
};
use dhcproto::{Decodable, Decoder, Encodable};
use net::MacAddr;

use crate::answer::{Answer, Ignored, Kind, Sent};
use crate::binding::{Binding, Prefix, Ra, V6};
use crate::responder::Responder;

pub(crate) const MAC: MacAddr = MacAddr::new([2, 0, 0x5e, 0x10, 0, 5]);
const ROUTER_MAC: MacAddr = MacAddr::new([2, 0, 0x5e, 0, 0, 1]);
const CLIENT_DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0x5e, 0x10, 0, 5];
const SERVER_DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0x5e, 0, 0, 1];
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);
const FOREIGN: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x77);
const OFF_LINK: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 5);

pub(crate) fn binding() -> Binding {
    Binding {
        mac: MAC,
        hostname: None,
        v4: None,
        v6: Some(V6 {
            dns: vec!["fd00::53".parse().unwrap()],
            search: vec!["eng.example.com".to_owned()],
            server: Some(ROUTER_MAC),
            ..V6::new(ADDRESS, 3600)
        }),
        ra: Some(Ra {
            prefixes: vec![Prefix {
                network: "fd00::/64".parse().unwrap(),
                on_link: true,
                autonomous: false,
            }],
            ..Ra::new(ROUTER_MAC)
        }),
    }
}

/// A client's message, and how it travels.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    message: Message,
    ethernet: MacAddr,
    destination: Ipv6Addr,
}

/// A message with a client identifier, and with our server identifier where it needs one.
pub(crate) fn client(kind: MessageType) -> Client {
    let message = Message::new_with_id(kind, [1, 2, 3]);
    let client = Client { message, ethernet: MAC, destination: SERVERS };
    let client = client.with(DhcpOption::ClientId(CLIENT_DUID.to_vec()));
    match kind {
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            client.with(DhcpOption::ServerId(SERVER_DUID.to_vec()))
        }
        _ => client,
    }
}

/// An IA_NA that names these addresses.
pub(crate) fn ia(id: u32, addresses: &[Ipv6Addr]) -> DhcpOption {
    let address = |address: &Ipv6Addr| {
        let opts = Default::default();
        DhcpOption::IAAddr(IAAddr { addr: *address, preferred_life: 0, valid_life: 0, opts })
    };
    DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: addresses.iter().map(address).collect() })
}

impl Client {
    pub(crate) fn with(mut self, option: DhcpOption) -> Self {
        self.message.opts_mut().insert(option);
        self
    }

    fn without(mut self, code: OptionCode) -> Self {
        self.message.opts_mut().remove(code);
        self
    }

    fn wanting(self, codes: &[u16]) -> Self {
        let opts = codes.iter().map(|code| OptionCode::from(*code)).collect();
        self.with(DhcpOption::ORO(dhcproto::v6::ORO { opts }))
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(self.ethernet, self.destination, &self.message.to_vec().unwrap())
    }

    #[track_caller]
    fn reply(&self, binding: &Binding) -> Reply {
        match Responder::answer(binding, &self.frame()) {
            Answer::Send(Sent { frame, kind, left_out }) => {
                Reply { left_out, ..Reply::read(&frame, kind) }
            }
            Answer::Ignore(reason) => panic!("ignored: {reason}"),
        }
    }

    #[track_caller]
    fn ignored(&self, binding: &Binding) -> Ignored {
        match Responder::answer(binding, &self.frame()) {
            Answer::Ignore(reason) => reason,
            Answer::Send(Sent { kind, .. }) => panic!("answered with {kind:?}"),
        }
    }
}

/// A client's frame around a DHCPv6 message, with the checksum left to hardware.
fn frame(ethernet: MacAddr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + message.len()).unwrap().to_be_bytes();
    let multicast = [0x33, 0x33, 0, 1, 0, 2];
    let mut frame = [&multicast[..], &ethernet.octets(), &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0, length[0], length[1], 17, 1]);
    frame.extend(MAC.link_local().octets());
    frame.extend(destination.octets());
    frame.extend([2, 34, 2, 35, length[0], length[1], 0x12, 0x34]);
    frame.extend(message);
    frame
}

/// Our reply, taken apart.
#[derive(Clone, Debug)]
struct Reply {
    kind: Kind,
    message: Message,
    bytes: Vec<u8>,
    /// Options that are not in it.
    left_out: usize,
}

impl Reply {
    fn read(frame: &[u8], kind: Kind) -> Self {
        let address = |at: usize| Ipv6Addr::from_octets(frame[at..at + 16].try_into().unwrap());
        assert_eq!(frame[..6], MAC.octets());
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!((frame[20], address(38)), (17, MAC.link_local()));
        assert!(address(22).is_unicast_link_local());
        assert_eq!(frame[54..58], [2, 35, 2, 34], "ports 547 and 546");
        let bytes = frame[62..].to_vec();
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(message.xid(), [1, 2, 3]);
        Self { kind, message, bytes, left_out: 0 }
    }

    fn get(&self, code: u16) -> Option<&DhcpOption> {
        self.message.opts().get(OptionCode::from(code))
    }

    /// The IA_NA with this id: T1, T2, its addresses with lifetimes, its status.
    fn ia(&self, id: u32) -> Option<Ia> {
        let all = self.message.opts().iter().filter_map(|option| match option {
            DhcpOption::IANA(ia) if ia.id == id => Some(ia),
            _ => None,
        });
        let [ia] = all.collect::<Vec<_>>()[..] else { return None };
        let addresses = ia.opts.iter().filter_map(|option| match option {
            DhcpOption::IAAddr(ia) => Some((ia.addr, ia.preferred_life, ia.valid_life)),
            _ => None,
        });
        let addresses = addresses.collect();
        Some(Ia { t1: ia.t1, t2: ia.t2, addresses, status: status(ia.opts.iter()) })
    }

    fn status(&self) -> Option<Status> {
        status(self.message.opts().iter())
    }
}

fn status<'a>(mut options: impl Iterator<Item = &'a DhcpOption>) -> Option<Status> {
    options.find_map(|option| match option {
        DhcpOption::StatusCode(code) => Some(code.status),
        _ => None,
    })
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Ia {
    t1: u32,
    t2: u32,
    addresses: Vec<(Ipv6Addr, u32, u32)>,
    status: Option<Status>,
}

impl Ia {
    /// The port's address for its whole lease.
    fn given() -> Self {
        Self { t1: 1125, t2: 1800, addresses: vec![(ADDRESS, 2250, 3600)], status: None }
    }

    fn refused(status: Status) -> Self {
        Self { t1: 0, t2: 0, addresses: Vec::new(), status: Some(status) }
    }
}
