//! The rules of RFC 2131 and its companions, one sentence each.
//!
//! Requests are made and replies are read with `dhcproto` alone, so that our
//! reading and writing are checked against someone else's.

mod layouts;
mod named;
mod rules;

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use net::MacAddr;

use crate::answer::{Answer, Ignored, Kind, Sent};
use crate::binding::{Binding, V4};
use crate::responder::Responder;

pub(crate) const MAC: MacAddr = MacAddr::new([2, 0, 0x5e, 0x10, 0, 5]);
const OTHER_MAC: MacAddr = MacAddr::new([2, 0, 0x5e, 0x10, 0, 6]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 254);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub(crate) fn v4() -> V4 {
    V4 {
        gateway: Some(GATEWAY),
        dns: vec![Ipv4Addr::new(10, 0, 0, 53)],
        domain: Some("example.com".to_owned()),
        search: vec!["example.com".to_owned()],
        mtu: Some(1400),
        ..V4::new(ADDRESS, 24, SERVER, 3600)
    }
}

pub(crate) fn binding() -> Binding {
    Binding { mac: MAC, hostname: Some("web".to_owned()), v4: Some(v4()), v6: None, ra: None }
}

fn binding_with(change: impl FnOnce(&mut V4)) -> Binding {
    let mut v4 = v4();
    change(&mut v4);
    Binding { v4: Some(v4), ..binding() }
}

/// A client's message, and how it travels.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    message: Message,
    ethernet: MacAddr,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

pub(crate) fn client(kind: MessageType) -> Client {
    let mut message = Message::new_with_id(0x1234_5678, NONE, NONE, NONE, NONE, &MAC.octets());
    message.set_opcode(Opcode::BootRequest);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    Client { message, ethernet: MAC, source: NONE, destination: Ipv4Addr::BROADCAST }
}

fn discover() -> Client {
    client(MessageType::Discover)
}

fn selecting(wanted: Ipv4Addr) -> Client {
    rebooting(wanted).with(DhcpOption::ServerIdentifier(SERVER))
}

fn rebooting(wanted: Ipv4Addr) -> Client {
    client(MessageType::Request).with(DhcpOption::RequestedIpAddress(wanted))
}

fn rebinding(current: Ipv4Addr) -> Client {
    let mut client = client(MessageType::Request);
    client.message.set_ciaddr(current);
    Client { source: current, ..client }
}

fn renewing(current: Ipv4Addr) -> Client {
    Client { destination: SERVER, ..rebinding(current) }
}

impl Client {
    pub(crate) fn with(mut self, option: DhcpOption) -> Self {
        self.message.opts_mut().insert(option);
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Message) -> &mut Message) -> Self {
        change(&mut self.message);
        self
    }

    fn wanting(self, codes: &[u8]) -> Self {
        let codes = codes.iter().map(|code| OptionCode::from(*code)).collect();
        self.with(DhcpOption::ParameterRequestList(codes))
    }

    fn broadcasting(self) -> Self {
        self.change(|message| message.set_flags(Flags::default().set_broadcast()))
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(self.ethernet, self.source, self.destination, &self.message.to_vec().unwrap())
    }

    fn ask(&self, binding: &Binding) -> Answer {
        Responder::answer(binding, &self.frame())
    }

    #[track_caller]
    fn reply(&self, binding: &Binding) -> Reply {
        match self.ask(binding) {
            Answer::Send(Sent { frame, kind, left_out }) => {
                Reply { left_out, ..Reply::read(&frame, kind) }
            }
            Answer::Ignore(reason) => panic!("ignored: {reason}"),
        }
    }

    #[track_caller]
    fn ignored(&self, binding: &Binding) -> Ignored {
        match self.ask(binding) {
            Answer::Ignore(reason) => reason,
            Answer::Send(Sent { kind, .. }) => panic!("answered with {kind:?}"),
        }
    }
}

/// A client's frame around a DHCP message, without a UDP checksum.
fn frame(ethernet: MacAddr, source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let length = |extra: usize| u16::try_from(message.len() + extra).unwrap().to_be_bytes();
    let mut frame = [&MacAddr::BROADCAST.octets()[..], &ethernet.octets(), &[8, 0]].concat();
    frame.extend([0x45, 0, length(28)[0], length(28)[1], 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend([0, 68, 0, 67, length(8)[0], length(8)[1], 0, 0]);
    frame.extend(message);
    frame
}

/// Our reply, taken apart.
#[derive(Clone, Debug)]
struct Reply {
    kind: Kind,
    message: Message,
    ethernet: (MacAddr, MacAddr),
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ports: (u16, u16),
    /// The DHCP message as sent.
    bytes: Vec<u8>,
    /// Options that are not in it.
    left_out: usize,
}

impl Reply {
    fn read(frame: &[u8], kind: Kind) -> Self {
        let mac = |at: usize| MacAddr::new(frame[at..at + 6].try_into().unwrap());
        let address = |at: usize| Ipv4Addr::from_octets(frame[at..at + 4].try_into().unwrap());
        let port = |at: usize| u16::from_be_bytes(frame[at..at + 2].try_into().unwrap());
        assert_eq!(frame[12..14], [8, 0]);
        assert_eq!(usize::from(port(16)) + 14, frame.len(), "total length");
        assert_eq!(usize::from(port(38)) + 34, frame.len(), "UDP length");
        assert_eq!(sum(&[&frame[14..34]]), 0xffff, "IP header checksum");
        let pseudo = [&[0, 17], &frame[38..40], &frame[26..34]];
        assert_eq!(sum(&[&pseudo.concat(), &frame[34..]]), 0xffff, "UDP checksum");
        let bytes = frame[42..].to_vec();
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(message.opcode(), Opcode::BootReply);
        Self {
            kind,
            message,
            ethernet: (mac(6), mac(0)),
            source: address(26),
            destination: address(30),
            ports: (port(34), port(36)),
            bytes,
            left_out: 0,
        }
    }

    fn get(&self, code: u8) -> Option<&DhcpOption> {
        self.message.opts().get(OptionCode::from(code))
    }

    /// The codes of the options field in the order sent.
    fn codes(&self) -> Vec<u8> {
        codes(&self.bytes[240..])
    }
}

/// The value of an option as sent, parts joined.
fn value_of(reply: &Reply, code: u8) -> Vec<u8> {
    value_in(&reply.bytes[240..], code)
}

/// The value of an option in one field, parts joined.
fn value_in(mut field: &[u8], code: u8) -> Vec<u8> {
    let mut value = Vec::new();
    while let [have, length, rest @ ..] = field
        && *have != 255
    {
        let (part, after) = rest.split_at(usize::from(*length));
        if *have == code {
            value.extend(part);
        }
        field = after;
    }
    value
}

/// The codes of one field's options in their order.
fn codes(mut field: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    while let [code, length, rest @ ..] = field
        && *code != 255
    {
        codes.push(*code);
        field = &rest[usize::from(*length)..];
    }
    codes
}

/// The one's complement sum of RFC 1071, written once more and more slowly.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let words = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    words.fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
