//! Echo requests to a guest, one each millisecond and numbered, from a port of its subnet
//! that a node has instead of a guest; when each was answered, and what of it passed the
//! guest's tap. The guest's kernel answers by itself.
//!
//! RFC 792 of the messages, RFC 903 of what QEMU sends once a guest runs where it has come to.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::tests::namespace::inside;
use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

/// Between two requests.
pub const EVERY: Duration = Duration::from_millis(1);
/// How long the last of them may be answered.
const PATIENCE: Duration = Duration::from_secs(1);
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
/// By which our messages know each other.
const IDENTIFIER: u16 = 0xbe27;

/// Requests that are on their way.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    is_answered: Arc<AtomicBool>,
    sends: JoinHandle<anyhow::Result<Vec<Instant>>>,
    hears: JoinHandle<anyhow::Result<Vec<(u64, Instant)>>>,
}

/// When which request was sent and answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// When each was sent, by its number.
    pub sent: Vec<Instant>,
    /// Which was answered and when, in the order of the answers.
    pub answered: Vec<(u64, Instant)>,
}

impl Echo {
    /// Begins to ask `to`, in this network namespace.
    ///
    /// # Errors
    /// When the namespace is not there.
    pub fn begin(namespace: &str, to: Ipv4Addr) -> anyhow::Result<Self> {
        let (sender, hearer) = (open(namespace)?, open(namespace)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (until, till) = (Arc::clone(&stop), Arc::clone(&stop));
        let sends = std::thread::spawn(move || send(&sender, to, &until));
        let is_answered = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&is_answered);
        let hears = std::thread::spawn(move || hear(&hearer, to, &first, &till));
        Ok(Self { stop, is_answered, sends, hears })
    }

    /// Whether there was an answer: it has to be found first.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }

    /// Ends, and waits for the last answers.
    ///
    /// # Errors
    /// When something could not be sent or heard.
    pub fn end(self) -> anyhow::Result<Answers> {
        self.stop.store(true, Ordering::Release);
        let sent = self.sends.join().map_err(|_| anyhow!("who sends panicked"))??;
        let answered = self.hears.join().map_err(|_| anyhow!("who hears panicked"))??;
        Ok(Answers { sent, answered })
    }
}

impl Answers {
    /// How many were never answered.
    #[must_use]
    pub fn lost(&self) -> usize {
        let mut answered = vec![false; self.sent.len()];
        for (number, _) in &self.answered {
            if let Some(one) = usize::try_from(*number).ok().and_then(|at| answered.get_mut(at)) {
                *one = true;
            }
        }
        answered.into_iter().filter(|one| !one).count()
    }

    /// How many were answered more than once.
    #[must_use]
    pub fn repeated(&self) -> usize {
        (self.answered.len() + self.lost()).saturating_sub(self.sent.len())
    }

    /// The longest time between two answers, and when it was over.
    #[must_use]
    pub fn longest_gap(&self) -> Option<(Duration, Instant)> {
        let gaps =
            self.answered.windows(2).map(|two| (two[1].1.duration_since(two[0].1), two[1].1));
        gaps.max()
    }
}

/// What passes the interfaces of a node.
#[derive(Debug)]
pub struct Ears {
    stop: Arc<AtomicBool>,
    hears: JoinHandle<anyhow::Result<Vec<Heard>>>,
}

/// A frame of ours on an interface, or the announcement of a guest that has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// The kernel's number of the interface.
    pub link: usize,
    /// What.
    pub frame: Frame,
}

/// What is listened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frame {
    /// The request of this number.
    Request(u64),
    /// The answer to it.
    Reply(u64),
    /// RARP.
    Announcement,
}

impl Ears {
    /// Begins to listen to all interfaces in this network namespace, also to such as come
    /// later.
    ///
    /// # Errors
    /// When it is not there.
    pub fn begin(namespace: &str) -> anyhow::Result<Self> {
        const ALL: i32 = 0x0003_u16.to_be() as i32;
        let socket = open_as(namespace, Domain::PACKET, Protocol::from(ALL))?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let hears = std::thread::spawn(move || listen(&socket, &until));
        Ok(Self { stop, hears })
    }

    /// Ends; what was heard, in its order.
    ///
    /// # Errors
    /// When nothing could be heard.
    pub fn end(self) -> anyhow::Result<Vec<Heard>> {
        self.stop.store(true, Ordering::Release);
        self.hears.join().map_err(|_| anyhow!("who listens panicked"))?
    }
}

fn listen(socket: &Socket, stop: &AtomicBool) -> anyhow::Result<Vec<Heard>> {
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Acquire) {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => {
                let at = Instant::now();
                let link = from.map_or(0, |from| from.ifindex());
                let frame = buffer.get(..length).and_then(frame);
                heard.extend(frame.map(|frame| Heard { at, link, frame }));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // An interface went.
            Err(Errno::ENETDOWN) => {}
            Err(error) => return Err(error).context("nothing can be heard"),
        }
    }
    Ok(heard)
}

/// What an Ethernet frame is, if it is listened for.
fn frame(bytes: &[u8]) -> Option<Frame> {
    match bytes.get(12..14)? {
        [0x80, 0x35] => Some(Frame::Announcement),
        [0x08, 0x00] => match message(bytes.get(14..)?)? {
            (REQUEST, number) => Some(Frame::Request(number)),
            (REPLY, number) => Some(Frame::Reply(number)),
            _ => None,
        },
        _ => None,
    }
}

/// A socket of ICMP in this network namespace.
fn open(namespace: &str) -> anyhow::Result<Socket> {
    open_as(namespace, Domain::IPV4, Protocol::ICMPV4)
}

fn open_as(namespace: &str, domain: Domain, protocol: Protocol) -> anyhow::Result<Socket> {
    const BUFFER: usize = 1 << 22;
    inside(namespace, || {
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket)
    })
}

fn send(socket: &Socket, to: Ipv4Addr, stop: &AtomicBool) -> anyhow::Result<Vec<Instant>> {
    let to = SocketAddrV4::new(to, 0).into();
    let mut sent = Vec::new();
    let begun = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let number = sent.len() as u64;
        let due = begun + EVERY * u32::try_from(number).unwrap_or(u32::MAX);
        // Nobody wakes it: it keeps a pace, and waits for nothing.
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        sent.push(Instant::now());
        match socket.send_to(&request(number), &to) {
            Ok(_) => {}
            // Full for a moment: it is lost, as on any wire.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
            Err(error) => return Err(error).context("an echo request was not sent"),
        }
    }
    Ok(sent)
}

fn hear(
    mut socket: &Socket,
    from: Ipv4Addr,
    is_answered: &AtomicBool,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<(u64, Instant)>> {
    let mut answered = Vec::new();
    let mut end = None;
    let mut buffer = [0; 256];
    loop {
        if stop.load(Ordering::Acquire) {
            let end = *end.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() > end {
                return Ok(answered);
            }
        }
        match socket.read(&mut buffer) {
            Ok(length) => {
                let at = Instant::now();
                if let Some(number) = reply(&buffer[..length], from) {
                    answered.push((number, at));
                    is_answered.store(true, Ordering::Release);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("nothing can be heard"),
        }
    }
}

/// An echo request: type, code, checksum, identifier, sequence number, and as data the
/// whole number.
fn request(number: u64) -> Vec<u8> {
    let mut message = vec![REQUEST, 0, 0, 0];
    message.extend(IDENTIFIER.to_be_bytes());
    let [.., high, low] = number.to_be_bytes();
    message.extend([high, low]);
    message.extend(number.to_be_bytes());
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The number of the request that this IPv4 packet answers, if it is from there and does.
fn reply(packet: &[u8], from: Ipv4Addr) -> Option<u64> {
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let (kind, number) = message(packet)?;
    (kind == REPLY && Ipv4Addr::from(source) == from).then_some(number)
}

/// The type and number of a message of ours in this IPv4 packet.
fn message(packet: &[u8]) -> Option<(u8, u64)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let message = packet.get(header..)?;
    let is_icmp = *packet.get(9)? == 1;
    let identifier: [u8; 2] = message.get(4..6)?.try_into().ok()?;
    let number: [u8; 8] = message.get(8..16)?.try_into().ok()?;
    (is_icmp && u16::from_be_bytes(identifier) == IDENTIFIER)
        .then_some((*message.first()?, u64::from_be_bytes(number)))
}

/// RFC 1071, of an even number of octets.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 9);

    /// What a guest answers to this: RFC 792, the same with another type.
    fn answer(mut message: Vec<u8>, from: Ipv4Addr) -> Vec<u8> {
        message[0] = REPLY;
        let mut packet = vec![0x45; 9];
        packet.extend([1, 0, 0]);
        packet.extend(from.octets());
        packet.extend([0; 4]);
        packet.extend(message);
        packet
    }

    #[test]
    fn an_answer_is_known_by_its_number_and_a_message_adds_up() {
        assert_eq!(checksum(&request(70_000)), 0, "RFC 1071: with its checksum it is nought");
        assert_eq!(reply(&answer(request(70_000), GUEST), GUEST), Some(70_000));
        assert_eq!(reply(&answer(request(1), GUEST), Ipv4Addr::LOCALHOST), None);
        assert_eq!(reply(&answer(request(1), GUEST)[..30], GUEST), None, "cut short");
        let mut asked = answer(request(1), GUEST);
        asked[20] = REQUEST;
        assert_eq!(reply(&asked, GUEST), None);
        let ethernet = |kind: [u8; 2], packet: &[u8]| [&[0; 12], &kind[..], packet].concat();
        assert_eq!(frame(&ethernet([8, 0], &asked)), Some(Frame::Request(1)));
        let answer = answer(request(1), GUEST);
        assert_eq!(frame(&ethernet([8, 0], &answer)), Some(Frame::Reply(1)));
        assert_eq!(frame(&ethernet([0x86, 0xdd], &answer)), None);
        assert_eq!(frame(&ethernet([0x80, 0x35], &[])), Some(Frame::Announcement));
    }

    #[test]
    fn what_was_lost_and_repeated_is_counted_and_the_longest_gap_found() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let answers = Answers {
            sent: (0..6).map(at).collect(),
            answered: vec![(0, at(1)), (1, at(2)), (1, at(3)), (4, at(40)), (5, at(41))],
        };
        assert_eq!((answers.lost(), answers.repeated()), (2, 1));
        assert_eq!(answers.longest_gap(), Some((Duration::from_millis(37), at(40))));
    }
}
