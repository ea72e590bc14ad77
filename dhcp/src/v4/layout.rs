//! Options into a message of limited length (RFC 2131 §4.1, RFC 2132 §9.3, RFC 3396).
//!
//! ```text
//! op … chaddr | sname 64 | file 128 | cookie | options … END | padding to 300
//!               └ third    └ second            └ first
//! ```
//!
//! Fields that hold no options hold the boot server's name and the boot file, each with
//! its terminating zero. Of the ways to lay a message out that is taken which leaves out the
//! fewest options, and of several the one that keeps the most of these two: boot ROMs look
//! for them there.

use super::{Opt, Reply};
use crate::codec;

/// What every client takes: an IP datagram of 576 bytes (RFC 2131 §2).
const LEAST_DATAGRAM: u16 = 576;
/// What ethernet carries where the binding does not say.
const ETHERNET_MTU: u16 = 1500;
/// IP header without options, and UDP header.
const OVERHEAD: u16 = 28;
/// The shortest BOOTP message (RFC 1542 §2.1): boot ROMs drop shorter ones.
const LEAST_MESSAGE: usize = 300;
const HEADER: usize = 240;
const FILE: usize = 128;
const SNAME: usize = 64;
const END: u8 = 255;
/// Option 52 with its header.
const OVERLOAD_SIZE: usize = 3;
/// Code and length of an option, or of a part of one.
const PART_HEADER: usize = 2;
/// The longest part of an option.
const PART: usize = 255;

/// A message, and the options that found no room in it.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) bytes: Vec<u8>,
    pub(super) left_out: Vec<u8>,
}

/// The longest message for a client that said option 57 = `max_size`, on a link of `mtu` bytes.
pub(super) fn limit(max_size: Option<u16>, mtu: Option<u16>) -> usize {
    let link = mtu.unwrap_or(ETHERNET_MTU).max(LEAST_DATAGRAM);
    let client = max_size.unwrap_or(LEAST_DATAGRAM).max(LEAST_DATAGRAM);
    usize::from(client.min(link) - OVERHEAD)
}

/// The bytes of `reply`, in at most `limit`.
pub(super) fn message(reply: &Reply, limit: usize) -> Laid {
    let encoded: Vec<Vec<u8>> = reply.options.iter().map(codec::encode_v4_option).collect();
    let room = limit - HEADER - 1;
    let mut fields = if encoded.iter().map(Vec::len).sum::<usize>() <= room {
        Fields { options: encoded.concat(), ..Fields::default() }
    } else {
        overloaded(reply, &encoded, room - OVERLOAD_SIZE)
    };
    for (field, text, room) in
        [(&mut fields.file, &reply.file, FILE), (&mut fields.sname, &reply.sname, SNAME)]
    {
        if field.is_empty() && text.len() < room {
            field.extend_from_slice(text.as_bytes());
        }
    }
    let mut message = codec::encode_v4_header(reply, &fields.file, &fields.sname);
    debug_assert_eq!(message.len(), HEADER, "the fixed part has a fixed length");
    message.append(&mut fields.options);
    message.push(END);
    message.resize(message.len().max(LEAST_MESSAGE), 0);
    Laid { bytes: message, left_out: fields.left_out }
}

/// The best use of the three places.
fn overloaded(reply: &Reply, encoded: &[Vec<u8>], room: usize) -> Fields {
    let (file, sname) = (FILE - 1, SNAME - 1);
    let ways = [[room, 0, 0], [room, file, 0], [room, 0, sname], [room, file, sname]];
    let laid = ways.map(|rooms| Fields::laid(encoded, rooms));
    let lost = |fields: &Fields| {
        let file = !fields.file.is_empty() && !reply.file.is_empty();
        let sname = !fields.sname.is_empty() && !reply.sname.is_empty();
        // A boot server without the file to get from it is of no use.
        (fields.left_out.len(), file, sname)
    };
    let mut best = laid.into_iter().min_by_key(lost).expect("there are four ways");
    best.announce_overload();
    best
}

/// The three places where options may stand, in the order in which they are read.
#[derive(Debug, Default)]
struct Fields {
    options: Vec<u8>,
    file: Vec<u8>,
    sname: Vec<u8>,
    /// Options that found no place.
    left_out: Vec<u8>,
}

impl Fields {
    /// The options in places of this many bytes.
    fn laid(encoded: &[Vec<u8>], rooms: [usize; 3]) -> Self {
        let mut fields = Self::default();
        for option in encoded {
            if !fields.place(option, rooms) && !fields.split(option, rooms) {
                fields.left_out.push(option[0]);
            }
        }
        fields
    }

    fn places(&mut self, rooms: [usize; 3]) -> impl Iterator<Item = (&mut Vec<u8>, usize)> {
        [&mut self.options, &mut self.file, &mut self.sname].into_iter().zip(rooms)
    }

    /// Puts an option into the first place that has room for all of it.
    fn place(&mut self, option: &[u8], rooms: [usize; 3]) -> bool {
        let mut places = self.places(rooms);
        let place = places.find(|(field, room)| field.len() + option.len() <= *room);
        place.map(|(field, _)| field.extend_from_slice(option)).is_some()
    }

    /// Puts an option into several places, a part of it in each (RFC 3396 §5).
    fn split(&mut self, option: &[u8], rooms: [usize; 3]) -> bool {
        let (code, whole) = (option[0], value(option));
        let mut value = whole.as_slice();
        let free = self.places(rooms).map(|(field, room)| capacity(room - field.len()));
        if free.sum::<usize>() < value.len() {
            return false;
        }
        for (field, room) in self.places(rooms) {
            let (here, rest) = value.split_at(capacity(room - field.len()).min(value.len()));
            for part in here.chunks(PART) {
                field.extend([code, u8::try_from(part.len()).expect("no part is longer")]);
                field.extend_from_slice(part);
            }
            value = rest;
        }
        true
    }

    fn announce_overload(&mut self) {
        let overload = u8::from(!self.file.is_empty()) | u8::from(!self.sname.is_empty()) << 1;
        for field in [&mut self.file, &mut self.sname] {
            if !field.is_empty() {
                field.push(END);
            }
        }
        if overload != 0 {
            // After the message type, which stays first for the clients that look there.
            let at = codec::encode_v4_option(&Opt::Type(super::Type::Ack)).len();
            self.options.splice(at..at, [52, 1, overload]);
        }
    }
}

/// How much of a value fits this many bytes, in parts.
const fn capacity(room: usize) -> usize {
    let whole = PART_HEADER + PART;
    room / whole * PART + (room % whole).saturating_sub(PART_HEADER)
}

/// The value of an encoded option, its parts joined.
fn value(option: &[u8]) -> Vec<u8> {
    let parts = option.chunks(PART_HEADER + PART);
    parts.flat_map(|part| &part[PART_HEADER..]).copied().collect()
}
