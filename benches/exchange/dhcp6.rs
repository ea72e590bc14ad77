//! What a client of DHCPv6 says: Solicit, and a Request for what is advertised.

use super::{Heard, checksum, client_of, length, link_local_of, mac_of};

const UDP: usize = 14 + 40;
const MESSAGE: usize = UDP + 8;
const OPTIONS: usize = MESSAGE + 4;
/// Where the client's own MAC address stands in its identifier, which is first.
const DUID_MAC: usize = OPTIONS + 4 + 4;
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 7;
const CLIENT_ID: u8 = 1;
const SERVER_ID: u8 = 2;
const IA_NA: u8 = 3;
const REQUESTED: u8 = 6;
const ELAPSED: u8 = 8;

#[derive(Debug)]
pub(super) struct Talk {
    solicit: Vec<u8>,
    request: Vec<u8>,
    /// How long a message is before what differs from client to client.
    common: usize,
}

impl Talk {
    pub(super) fn new() -> Self {
        let (mut solicit, request) = (frame(SOLICIT), frame(REQUEST));
        add(&mut solicit, IA_NA, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        Self { solicit, common: request.len(), request }
    }
}

impl super::Talk for Talk {
    fn begin(&mut self, transaction: u32) -> &[u8] {
        finish(&mut self.solicit, transaction);
        &self.solicit
    }

    fn hear(&mut self, frame: &[u8]) -> Option<Heard<'_>> {
        let Answer { kind, transaction, server, association } = Answer::read(frame)?;
        let next = match kind {
            ADVERTISE => {
                self.request.truncate(self.common);
                add(&mut self.request, SERVER_ID, server);
                add(&mut self.request, IA_NA, association);
                finish(&mut self.request, transaction);
                Some(self.request.as_slice())
            }
            REPLY => None,
            _ => return None,
        };
        Some(Heard { transaction, next })
    }
}

/// An answer with an address, as far as a client reads it.
struct Answer<'a> {
    kind: u8,
    transaction: u32,
    server: &'a [u8],
    association: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(frame: &'a [u8]) -> Option<Self> {
        let is_answer = frame.get(20) == Some(&17) && frame.get(UDP..UDP + 2) == Some(&[2, 35]);
        let [kind, a, b, c] = *frame.get(MESSAGE..OPTIONS)?.first_chunk::<4>()?;
        if !is_answer {
            return None;
        }
        let (mut server, mut association) = (None, None);
        let mut options = frame.get(OPTIONS..)?;
        while let [0, code, high, low, rest @ ..] = options {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (value, rest) = rest.split_at_checked(length)?;
            match *code {
                SERVER_ID => server = Some(value),
                // An address in it: else it says why there is none.
                IA_NA if value.get(12..14) == Some(&[0, 5]) => association = Some(value),
                _ => {}
            }
            options = rest;
        }
        let transaction = u32::from_be_bytes([0, a, b, c]);
        Some(Self { kind, transaction, server: server?, association: association? })
    }
}

/// A client's message of this kind, of nobody yet, with what is the same in all of them.
fn frame(kind: u8) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0, 1, 0, 2];
    frame.extend([0; 6]);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 1]);
    frame.extend([0; 16]);
    // All servers and relays of the link.
    frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
    // Ports 546 and 547; length and checksum are not known yet.
    frame.extend([2, 34, 2, 35, 0, 0, 0, 0]);
    frame.extend([kind, 0, 0, 0]);
    // By the link-layer address, of ethernet (RFC 9915 §11.4).
    add(&mut frame, CLIENT_ID, &[0, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
    add(&mut frame, ELAPSED, &[0, 0]);
    // Name servers and search list.
    add(&mut frame, REQUESTED, &[0, 23, 0, 24]);
    frame
}

fn add(frame: &mut Vec<u8>, code: u8, value: &[u8]) {
    frame.extend([0, code]);
    frame.extend(length(value.len()));
    frame.extend(value);
}

/// Makes the message one of this transaction, and of its client; its checksum is right.
fn finish(frame: &mut [u8], transaction: u32) {
    let client = client_of(transaction);
    let mac = mac_of(client);
    frame[6..12].copy_from_slice(&mac);
    frame[22..38].copy_from_slice(&link_local_of(client).octets());
    frame[DUID_MAC..DUID_MAC + 6].copy_from_slice(&mac);
    frame[MESSAGE + 1..OPTIONS].copy_from_slice(&transaction.to_be_bytes()[1..]);
    let udp = length(frame.len() - UDP);
    frame[18..20].copy_from_slice(&udp);
    frame[UDP + 4..UDP + 6].copy_from_slice(&udp);
    frame[UDP + 6..UDP + 8].fill(0);
    let (addresses, datagram) = (&frame[22..UDP], &frame[UDP..]);
    let sum = match checksum(&[addresses, &udp, &[0, 17], datagram]) {
        // Zero would mean that there is none (RFC 8200 §8.1).
        [0, 0] => [255, 255],
        sum => sum,
    };
    frame[UDP + 6..UDP + 8].copy_from_slice(&sum);
}
