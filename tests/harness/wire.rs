//! DHCP of guests, as a third one hears it on the nodes that a guest moves between.
//!
//! All interfaces of a node are listened to: the tap of a guest that comes is not there
//! yet when the listening begins. Whose frames are meant is asked afterwards.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use dhcproto::{Decodable as _, Decoder, v4, v6};
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::namespace::inside;

/// Listens from its making to its end.
#[derive(Debug)]
pub struct Wire {
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<io::Result<()>>,
}

/// Which of the two nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The one that a guest leaves.
    Source,
    /// The one that it comes to.
    Target,
}

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// DHCPv4.
    V4,
    /// DHCPv6.
    V6,
}

/// A message of a guest, and all that was answered to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// Its protocol.
    pub family: Family,
    /// The type of the message, as `Request` or `Renew`; empty where answers came to none.
    pub asked: String,
    /// Its transaction.
    id: u32,
    /// How many messages had been heard before, on both nodes.
    pub place: usize,
    /// The types of the answers, and the place of each.
    pub answers: Vec<(usize, String)>,
}

/// A message that passed an interface.
#[derive(Clone, Debug)]
struct Heard {
    end: End,
    /// The kernel's number of the interface.
    link: usize,
    at: Instant,
    message: Message,
}

#[derive(Clone, Debug)]
struct Message {
    family: Family,
    id: u32,
    name: String,
    from_guest: bool,
}

impl Wire {
    /// Listens in these two network namespaces.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn between(source: &str, target: &str) -> anyhow::Result<Self> {
        let source = open(source).context(source.to_owned())?;
        let target = open(target).context(target.to_owned())?;
        let heard = Arc::default();
        let task = tokio::spawn(listen(source, target, Arc::clone(&heard)));
        Ok(Self { heard, task })
    }

    /// What passed an interface of this number, in its order.
    #[must_use]
    pub fn exchanges(&self, end: End, link: usize) -> Vec<Exchange> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, one) in heard.iter().enumerate() {
            if one.end != end || one.link != link {
                continue;
            }
            let Message { family, id, ref name, from_guest } = one.message;
            let made = Exchange { family, asked: name.clone(), id, place, answers: vec![] };
            if from_guest {
                exchanges.push(made);
                continue;
            }
            // A client may use one transaction again: the earliest that waits is answered.
            let is_its = |asked: &&mut Exchange| asked.family == family && asked.id == id;
            let is_open = |asked: &&mut Exchange| is_its(asked) && asked.answers.is_empty();
            let answer = (place, name.clone());
            if let Some(asked) = exchanges.iter_mut().find(is_open) {
                asked.answers.push(answer);
            } else if let Some(asked) = exchanges.iter_mut().rfind(is_its) {
                asked.answers.push(answer);
            } else {
                let asked = String::new();
                exchanges.push(Exchange { asked, answers: vec![answer], ..made });
            }
        }
        exchanges
    }

    /// The longest time between two answers of this protocol, on whichever interface of the
    /// two that are named.
    #[must_use]
    pub fn silence(&self, family: Family, links: [(End, usize); 2]) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_one = |one: &&Heard| {
            let Message { family: of, from_guest, .. } = one.message;
            of == family && !from_guest && links.contains(&(one.end, one.link))
        };
        let answers: Vec<Instant> = heard.iter().filter(is_one).map(|one| one.at).collect();
        let gaps = answers.windows(2).map(|two| two[1].duration_since(two[0]));
        gaps.max().unwrap_or_default()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket that hears all interfaces of a network namespace.
fn open(namespace: &str) -> anyhow::Result<AsyncFd<Socket>> {
    const ALL: i32 = 0x0003_u16.to_be() as i32;
    const RECEIVE_BUFFER: usize = 1 << 20;
    let socket = inside(namespace, || {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(ALL.into()))?;
        socket.attach_filter(&filter())?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(socket)
    })?;
    // Deprecated because it takes types that might change their descriptor; this one does
    // not. The successor is unsafe, which this workspace forbids.
    #[allow(deprecated)]
    Ok(AsyncFd::with_interest(socket, Interest::READABLE)?)
}

/// Lets UDP between the ports of DHCP through, and no fragments (linux/filter.h): by far
/// the most that passes a node is something else.
fn filter() -> Vec<SockFilter> {
    const LD_H: u16 = 0x28;
    const LD_B: u16 = 0x30;
    const LD_H_INDEXED: u16 = 0x48;
    const LDX_IP_HEADER_LENGTH: u16 = 0xb1;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    const UDP: u32 = 17;
    const TAKE: u8 = 14;
    const DROP: u8 = 15;
    // Jumps count from the next instruction on.
    let jump = |at: u8, value: u32, yes: u8, no: u8| {
        SockFilter::new(JEQ, yes - at - 1, no - at - 1, value)
    };
    let load = |code, offset| SockFilter::new(code, 0, 0, offset);
    vec![
        /*  0 */ load(LD_H, 12),
        /*  1 */ jump(1, 0x0800, 2, 8),
        /*  2 */ load(LD_B, 23),
        /*  3 */ jump(3, UDP, 4, DROP),
        /*  4 */ load(LDX_IP_HEADER_LENGTH, 14),
        /*  5 */ load(LD_H_INDEXED, 16),
        /*  6 */ jump(6, 67, TAKE, 7),
        /*  7 */ jump(7, 68, TAKE, DROP),
        /*  8 */ jump(8, 0x86dd, 9, DROP),
        /*  9 */ load(LD_B, 20),
        /* 10 */ jump(10, UDP, 11, DROP),
        /* 11 */ load(LD_H, 56),
        /* 12 */ jump(12, 546, TAKE, 13),
        /* 13 */ jump(13, 547, TAKE, DROP),
        /* 14 */ SockFilter::new(RET, 0, 0, 0xffff),
        /* 15 */ SockFilter::new(RET, 0, 0, 0),
    ]
}

/// Takes down what is heard. A guest is at the source first, so all that there is from
/// there comes before what is from the target.
async fn listen(
    source: AsyncFd<Socket>,
    target: AsyncFd<Socket>,
    heard: Arc<Mutex<Vec<Heard>>>,
) -> io::Result<()> {
    loop {
        let next = match receive(End::Source, source.get_ref())? {
            Some(frame) => Some(frame),
            None => receive(End::Target, target.get_ref())?,
        };
        match next {
            Some(Some(one)) => heard.lock().unwrap_or_else(PoisonError::into_inner).push(one),
            Some(None) => {}
            None => tokio::select! {
                ready = source.readable() => ready?.clear_ready(),
                ready = target.readable() => ready?.clear_ready(),
            },
        }
    }
}

/// The next frame, if there is one; the message in it, if it is one of DHCP.
fn receive(end: End, socket: &Socket) -> io::Result<Option<Option<Heard>>> {
    let mut buffer = [0; 2048];
    match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
        Ok((length, Some(from))) => {
            let message = read(&buffer[..length.min(buffer.len())]);
            let link = from.ifindex();
            // What the switch sends to a guest is no word of that guest's.
            let leaves = from.pkttype() == OUTGOING;
            let message = message.filter(|message| message.from_guest != leaves);
            Ok(Some(message.map(|message| Heard { end, link, at: Instant::now(), message })))
        }
        Ok((_, None)) | Err(Errno::EINTR | Errno::ENETDOWN) => Ok(Some(None)),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `PACKET_OUTGOING` (linux/if_packet.h).
const OUTGOING: u8 = 4;

/// The DHCP message of a frame that has one.
fn read(frame: &[u8]) -> Option<Message> {
    const UDP: u8 = 17;
    let packet = frame.get(14..)?;
    let datagram = match frame.get(12..14)? {
        [8, 0] if packet.get(9) == Some(&UDP) => packet.get(usize::from(packet[0] & 15) * 4..)?,
        [0x86, 0xdd] if packet.get(6) == Some(&UDP) => packet.get(40..)?,
        _ => return None,
    };
    let payload = datagram.get(8..)?;
    match u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]) {
        port @ (67 | 68) => {
            let message = v4::Message::decode(&mut Decoder::new(payload)).ok()?;
            let name = format!("{:?}", message.opts().msg_type()?);
            Some(Message { family: Family::V4, id: message.xid(), name, from_guest: port == 67 })
        }
        port @ (546 | 547) => {
            let message = v6::Message::decode(&mut Decoder::new(payload)).ok()?;
            let name = format!("{:?}", message.msg_type());
            let (id, from_guest) = (message.xid_num(), port == 547);
            Some(Message { family: Family::V6, id, name, from_guest })
        }
        _ => None,
    }
}
