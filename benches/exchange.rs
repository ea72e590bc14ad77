//! Clients of DHCP by the thousand, in one thread and on one packet socket.
//!
//! Each exchange is of a client with a MAC address of its own that is on the link, as
//! guests are. Its question is answered by an offer; it takes the first one, and has it
//! acknowledged. Load generators play a relay instead, which servers answer along another
//! way. What is said in which family is in `exchange/`.

mod dhcp4;
mod dhcp6;

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use net::MacAddr;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, bind, recvfrom, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

pub use self::dhcp4::questions;

/// How many clients there are; one that is done begins anew.
pub const CLIENTS: u32 = 10_000;
/// Answers that come later than this after the last question are lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which DHCP is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// DISCOVER, OFFER, REQUEST, ACK (RFC 2131).
    V4,
    /// Solicit, Advertise, Request, Reply (RFC 9915).
    V6,
}

impl Family {
    /// As in names of figures.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    fn talk(self) -> Box<dyn Talk> {
        match self {
            Self::V4 => Box::new(dhcp4::Talk::new()),
            Self::V6 => Box::new(dhcp6::Talk::new()),
        }
    }

    /// In an ethernet header.
    const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }
}

/// What clients say in one family. The client of a transaction is `client_of` it.
trait Talk: fmt::Debug {
    /// The frame that begins a transaction.
    fn begin(&mut self, transaction: u32) -> &[u8];

    /// What a frame says to a client, if it is a server's answer.
    fn hear(&mut self, frame: &[u8]) -> Option<Heard<'_>>;
}

/// An answer.
#[derive(Clone, Copy, Debug)]
struct Heard<'a> {
    transaction: u32,
    /// What is asked next; nothing once the address is given.
    next: Option<&'a [u8]>,
}

/// The MAC address of a client.
#[must_use]
pub fn mac_of(client: u32) -> [u8; 6] {
    let [_, a, b, c] = (client + 1).to_be_bytes();
    [2, 0, 0, a, b, c]
}

/// The address that a client speaks DHCPv6 from.
#[must_use]
pub fn link_local_of(client: u32) -> Ipv6Addr {
    MacAddr::new(mac_of(client)).link_local()
}

const fn client_of(transaction: u32) -> u32 {
    transaction % CLIENTS
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Exchanges that were begun.
    pub begun: u32,
    /// Those that were carried through.
    pub done: u32,
    /// Whether they were begun as fast as was asked for.
    pub kept_pace: bool,
    /// From each question to its answer, in order of length.
    pub waits: Vec<Duration>,
}

impl Outcome {
    /// Whether nothing was lost.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.done == self.begun
    }

    /// The wait that this share of all is not longer than.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.waits.len() * percent / 100).min(self.waits.len().saturating_sub(1));
        self.waits.get(at).copied().unwrap_or_default()
    }
}

/// All clients, behind one interface of this thread's network namespace.
#[derive(Debug)]
pub struct Clients {
    socket: Socket,
    talk: Box<dyn Talk>,
    /// The next transaction. Answers to older ones are nobody's.
    next: u32,
}

impl Clients {
    /// # Errors
    /// When there is no such interface, or this is not root.
    pub fn on(interface: &str, family: Family) -> anyhow::Result<Self> {
        let protocol = Protocol::from(i32::from(family.ethertype().to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
        // More than others may have (`net.core.rmem_max`): no answer is to be lost here.
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
        let mut all = nix::ifaddrs::getifaddrs()?;
        let link = all.find_map(|one| {
            let is_it = one.interface_name == interface;
            one.address.filter(|_| is_it)?.as_link_addr().copied()
        });
        bind(socket.as_raw_fd(), &link.context("no such interface")?)?;
        Ok(Self { socket, talk: family.talk(), next: 1 })
    }

    /// `rate` exchanges a second for `time`.
    ///
    /// # Errors
    /// When the interface fails.
    pub fn load(&mut self, rate: u32, time: Duration) -> anyhow::Result<Outcome> {
        let total = due_after(time, rate);
        let Self { socket, talk, next } = self;
        let first = *next;
        *next += total;
        let mut asked = vec![Instant::now(); total as usize];
        let mut outcome = Outcome { kept_pace: true, ..Outcome::default() };
        let (started, mut last) = (Instant::now(), Instant::now());
        let mut buffer = [0; 2048];
        while outcome.done < total {
            let now = Instant::now();
            let due = due_after(now - started, rate).min(total);
            if outcome.begun == total && now - last > PATIENCE {
                break;
            }
            for number in outcome.begun..due {
                send(socket, talk.begin(first + number))?;
                asked[number as usize] = Instant::now();
            }
            if outcome.begun < due {
                (outcome.begun, last) = (due, Instant::now());
            }
            let mut heard = false;
            // A turn of these, then those that are due.
            for _ in 0..64 {
                let Some(answer) = receive(socket, &mut buffer)? else { break };
                heard = true;
                let Some(Heard { transaction, next }) = talk.hear(answer) else { continue };
                let Some(number) = transaction.checked_sub(first) else { continue };
                let Some(asked) = asked.get_mut(number as usize) else { continue };
                outcome.waits.push(asked.elapsed());
                match next {
                    Some(question) => {
                        send(socket, question)?;
                        *asked = Instant::now();
                    }
                    None => outcome.done += 1,
                }
            }
            if !heard {
                wait(socket)?;
            }
        }
        let planned = time.as_secs_f64();
        outcome.kept_pace = (last - started).as_secs_f64() < planned * 1.1 + 0.05;
        outcome.waits.sort_unstable();
        Ok(outcome)
    }

    /// One frame and no more.
    ///
    /// # Errors
    /// When the interface fails.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, frame)
    }
}

fn send(socket: &Socket, frame: &[u8]) -> io::Result<()> {
    match socket.send(frame) {
        // The queue is full: that one is lost, as on any wire.
        Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        sent => sent.map(drop),
    }
}

fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    match recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer) {
        Ok((length, _)) => Ok(buffer.get(..length)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Until something comes, or the next millisecond.
fn wait(socket: &Socket) -> io::Result<()> {
    let mut one = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut one, PollTimeout::from(1_u8)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How many exchanges are begun until then; the first one at once.
fn due_after(time: Duration, rate: u32) -> u32 {
    let due = time.as_micros() * u128::from(rate) / 1_000_000;
    u32::try_from(due).unwrap_or(u32::MAX).saturating_add(1)
}

/// The internet checksum (RFC 1071) of parts, each but the last of an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let sum: u32 = pairs.map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (!((folded & 0xffff) + (folded >> 16))).to_be_bytes();
    [high, low]
}

/// A length as headers have it.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a short message").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use dhcp::{Answer, Responder};

    use super::*;
    use crate::responder::binding;

    /// What our server answers to a client.
    fn answer(family: Family, client: u32, question: &[u8]) -> Vec<u8> {
        let binding = serde_json::from_value(binding(family, client)).unwrap();
        match Responder::answer(&binding, question) {
            Answer::Send(sent) => sent.frame,
            Answer::Ignore(reason) => panic!("{family:?}: {reason}"),
        }
    }

    #[test]
    fn an_exchange_of_either_family_is_two_questions_and_two_answers() {
        for family in [Family::V4, Family::V6] {
            let mut talk = family.talk();
            let transaction = 3 * CLIENTS + 7;
            let offer = answer(family, 7, talk.begin(transaction));
            let heard = talk.hear(&offer).expect("an offer");
            assert_eq!(heard.transaction, transaction, "{family:?}");
            let given = answer(family, 7, heard.next.expect("an offer is taken"));
            let heard = talk.hear(&given).expect("an acknowledgement");
            assert_eq!((heard.transaction, heard.next), (transaction, None), "{family:?}");
        }
    }

    #[test]
    fn what_clients_say_is_no_answer() {
        for family in [Family::V4, Family::V6] {
            let mut talk = family.talk();
            let question = talk.begin(1).to_vec();
            assert!(talk.hear(&question).is_none(), "{family:?}");
        }
    }

    #[test]
    fn the_checksum_of_rfc_1071_comes_out() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), [0x22, 0x0d]);
    }
}
