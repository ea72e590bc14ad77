//! What a client of DHCPv4 says: DISCOVER, and a REQUEST for what is offered.

use std::net::Ipv4Addr;

use super::{Heard, checksum, client_of, length, mac_of};

const BOOTP: usize = 14 + 20 + 8;
const OPTIONS: usize = BOOTP + 240;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

#[derive(Debug)]
pub(super) struct Talk {
    discover: Vec<u8>,
    request: Vec<u8>,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self { discover: frame(DISCOVER), request: frame(REQUEST) }
    }
}

impl super::Talk for Talk {
    fn begin(&mut self, transaction: u32) -> &[u8] {
        address(&mut self.discover, transaction);
        &self.discover
    }

    fn hear(&mut self, frame: &[u8]) -> Option<Heard<'_>> {
        let Answer { kind, transaction, yours, server } = Answer::read(frame)?;
        let next = match kind {
            OFFER => {
                ask(&mut self.request, transaction, yours, server);
                Some(self.request.as_slice())
            }
            ACK => None,
            _ => return None,
        };
        Some(Heard { transaction, next })
    }
}

/// An answer, as far as a client reads it.
struct Answer {
    kind: u8,
    transaction: u32,
    yours: Ipv4Addr,
    server: Ipv4Addr,
}

impl Answer {
    fn read(frame: &[u8]) -> Option<Self> {
        let four = |at: usize| frame.get(at..at + 4)?.first_chunk::<4>().copied();
        let is_reply = frame.get(23) == Some(&17) && frame.get(34..36) == Some(&[0, 67]);
        if !is_reply || frame.get(BOOTP) != Some(&2) {
            return None;
        }
        let (mut kind, mut server) = (0, Ipv4Addr::UNSPECIFIED);
        let mut options = frame.get(OPTIONS..)?;
        while let [code, rest @ ..] = options {
            match code {
                0 => options = rest,
                255 => break,
                _ => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    match code {
                        53 => kind = *value.first()?,
                        54 => server = Ipv4Addr::from(*value.first_chunk::<4>()?),
                        _ => {}
                    }
                    options = rest;
                }
            }
        }
        let transaction = u32::from_be_bytes(four(BOOTP + 4)?);
        Some(Self { kind, transaction, yours: four(BOOTP + 16)?.into(), server })
    }
}

/// A client's message of this kind, of nobody yet. In a REQUEST, the address and the
/// server that are asked for follow the kind.
fn frame(kind: u8) -> Vec<u8> {
    let mut options = vec![53, 1, kind];
    if kind == REQUEST {
        options.extend([50, 4, 0, 0, 0, 0, 54, 4, 0, 0, 0, 0]);
    }
    options.extend([55, 5, 1, 3, 6, 15, 51, 255]);
    options.resize(60, 0);
    let udp = 8 + 240 + options.len();
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&length(20 + udp));
    (ip[8], ip[9]) = (64, 17);
    ip[16..20].fill(255);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum);
    let mut frame = vec![255; 6];
    frame.extend([0; 6]);
    frame.extend([8, 0]);
    frame.extend(ip);
    // No checksum, which IPv4 allows (RFC 768).
    frame.extend([0, 68, 0, 67]);
    frame.extend(length(udp));
    frame.extend([0, 0]);
    frame.extend([1, 1, 6, 0]);
    frame.resize(OPTIONS - 4, 0);
    frame.extend([99, 130, 83, 99]);
    frame.extend(options);
    frame
}

/// Makes the message one of this transaction, and of its client.
fn address(frame: &mut [u8], transaction: u32) {
    let mac = mac_of(client_of(transaction));
    frame[6..12].copy_from_slice(&mac);
    frame[BOOTP + 4..BOOTP + 8].copy_from_slice(&transaction.to_be_bytes());
    frame[BOOTP + 28..BOOTP + 34].copy_from_slice(&mac);
}

/// Makes the REQUEST one for this address, of this server.
fn ask(request: &mut [u8], transaction: u32, yours: Ipv4Addr, server: Ipv4Addr) {
    address(request, transaction);
    request[OPTIONS + 5..OPTIONS + 9].copy_from_slice(&yours.octets());
    request[OPTIONS + 11..OPTIONS + 15].copy_from_slice(&server.octets());
}

/// A DISCOVER and a REQUEST for this address and server, of the first client.
#[must_use]
pub fn questions(yours: Ipv4Addr, server: Ipv4Addr) -> [Vec<u8>; 2] {
    let Talk { mut discover, mut request } = Talk::new();
    address(&mut discover, 0);
    ask(&mut request, 0, yours, server);
    [discover, request]
}
