//! Options into a message of limited length (RFC 2131 §4.1, RFC 2132 §9.3).
//!
//! ```text
//! op … chaddr | sname 64 | file 128 | cookie | options … END | padding to 300
//!               └ third    └ second            └ first
//! ```
//!
//! Fields that hold no options hold the boot server's name and the boot file, each with
//! its terminating zero.

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

/// The longest message for a client that said option 57 = `max_size`, on a link of `mtu` bytes.
pub(super) fn limit(max_size: Option<u16>, mtu: Option<u16>) -> usize {
    let link = mtu.unwrap_or(ETHERNET_MTU).max(LEAST_DATAGRAM);
    let client = max_size.unwrap_or(LEAST_DATAGRAM).max(LEAST_DATAGRAM);
    usize::from(client.min(link) - OVERHEAD)
}

/// The bytes of `reply`, in at most `limit`: what does not fit the options field
/// goes into `file`, then into `sname`, and is left out after that.
pub(super) fn message(reply: &Reply, limit: usize) -> Vec<u8> {
    let encoded: Vec<Vec<u8>> = reply.options.iter().map(codec::encode_v4_option).collect();
    let room = limit - HEADER - 1;
    let mut fields = Fields::default();
    if encoded.iter().map(Vec::len).sum::<usize>() <= room {
        fields.options = encoded.concat();
    } else {
        for option in encoded {
            fields.place(&option, room - OVERLOAD_SIZE);
        }
        fields.announce_overload();
    }
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
    message
}

/// The three places where options may stand.
#[derive(Debug, Default)]
struct Fields {
    options: Vec<u8>,
    file: Vec<u8>,
    sname: Vec<u8>,
}

impl Fields {
    fn place(&mut self, option: &[u8], room: usize) {
        let places =
            [(&mut self.options, room), (&mut self.file, FILE - 1), (&mut self.sname, SNAME - 1)];
        for (field, room) in places {
            if field.len() + option.len() <= room {
                field.extend_from_slice(option);
                return;
            }
        }
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
