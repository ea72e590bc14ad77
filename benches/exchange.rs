//! Clients of DHCPv4 by the thousand, in one thread and on one packet socket.
//!
//! Each exchange is of a client with a MAC address of its own that is on the link, as
//! guests are: it says DISCOVER, takes the first offer and has it acknowledged. Load
//! generators play a relay instead, which servers answer along another way.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, bind, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

/// How many clients there are; one that is done begins anew.
pub const CLIENTS: u32 = 10_000;
/// Answers that come later than this after the last question are lost.
const PATIENCE: Duration = Duration::from_secs(1);

const BOOTP: usize = 14 + 20 + 8;
const OPTIONS: usize = BOOTP + 240;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// The MAC address of a client.
#[must_use]
pub fn mac_of(client: u32) -> [u8; 6] {
    let [_, a, b, c] = (client + 1).to_be_bytes();
    [2, 0, 0, a, b, c]
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
    /// The next transaction. Answers to older ones are nobody's.
    next: u32,
}

impl Clients {
    /// # Errors
    /// When there is no such interface, or this is not root.
    pub fn on(interface: &str) -> anyhow::Result<Self> {
        let protocol = Protocol::from(i32::from(0x0800_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
        socket.set_recv_buffer_size(8 << 20)?;
        let mut all = nix::ifaddrs::getifaddrs()?;
        let link = all.find_map(|one| {
            let is_it = one.interface_name == interface;
            one.address.filter(|_| is_it)?.as_link_addr().copied()
        });
        bind(socket.as_raw_fd(), &link.context("no such interface")?)?;
        Ok(Self { socket, next: 1 })
    }

    /// `rate` exchanges a second for `time`.
    ///
    /// # Errors
    /// When the interface fails.
    pub fn load(&mut self, rate: u32, time: Duration) -> anyhow::Result<Outcome> {
        let total = due_after(time, rate);
        let first = self.next;
        self.next += total;
        let [mut discover, mut request] = [frame(DISCOVER), frame(REQUEST)];
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
                address(&mut discover, first + number, number % CLIENTS);
                self.send(&discover)?;
                asked[number as usize] = Instant::now();
            }
            if outcome.begun < due {
                (outcome.begun, last) = (due, Instant::now());
            }
            let mut heard = false;
            // A turn of these, then those that are due.
            for _ in 0..64 {
                let Some(answer) = self.receive(&mut buffer)? else { break };
                heard = true;
                let Some(answer) = Answer::read(answer) else { continue };
                let Some(number) = answer.transaction.checked_sub(first) else { continue };
                let Some(asked) = asked.get_mut(number as usize) else { continue };
                match answer.kind {
                    OFFER => {
                        outcome.waits.push(asked.elapsed());
                        address(&mut request, answer.transaction, number % CLIENTS);
                        request[OPTIONS + 5..OPTIONS + 9].copy_from_slice(&answer.yours.octets());
                        request[OPTIONS + 11..OPTIONS + 15]
                            .copy_from_slice(&answer.server.octets());
                        self.send(&request)?;
                        *asked = Instant::now();
                    }
                    ACK => {
                        outcome.waits.push(asked.elapsed());
                        outcome.done += 1;
                    }
                    _ => {}
                }
            }
            if !heard {
                self.wait()?;
            }
        }
        let planned = time.as_secs_f64();
        outcome.kept_pace = (last - started).as_secs_f64() < planned * 1.1 + 0.05;
        outcome.waits.sort_unstable();
        Ok(outcome)
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self.socket.send(frame) {
            // The queue is full: that one is lost, as on any wire.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            sent => sent.map(drop),
        }
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
            Ok((length, _)) => Ok(buffer.get(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Until something comes, or the next millisecond.
    fn wait(&self) -> io::Result<()> {
        let mut one = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut one, PollTimeout::from(1_u8)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// How many exchanges are begun until then; the first one at once.
fn due_after(time: Duration, rate: u32) -> u32 {
    let due = time.as_micros() * u128::from(rate) / 1_000_000;
    u32::try_from(due).unwrap_or(u32::MAX).saturating_add(1)
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
    let length = |bytes: usize| u16::try_from(bytes).expect("a short message").to_be_bytes();
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&length(20 + udp));
    (ip[8], ip[9]) = (64, 17);
    ip[16..20].fill(255);
    let words = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let [_, _, high, low] = (!((sum & 0xffff) + (sum >> 16))).to_be_bytes();
    ip[10..12].copy_from_slice(&[high, low]);
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

/// Makes the message one of this client and transaction.
fn address(frame: &mut [u8], transaction: u32, client: u32) {
    let mac = mac_of(client);
    frame[6..12].copy_from_slice(&mac);
    frame[BOOTP + 4..BOOTP + 8].copy_from_slice(&transaction.to_be_bytes());
    frame[BOOTP + 28..BOOTP + 34].copy_from_slice(&mac);
}

/// A DISCOVER and a REQUEST for this address and server, of the first client.
#[must_use]
pub fn questions(yours: Ipv4Addr, server: Ipv4Addr) -> [Vec<u8>; 2] {
    let [mut discover, mut request] = [frame(DISCOVER), frame(REQUEST)];
    address(&mut discover, 1, 0);
    address(&mut request, 1, 0);
    request[OPTIONS + 5..OPTIONS + 9].copy_from_slice(&yours.octets());
    request[OPTIONS + 11..OPTIONS + 15].copy_from_slice(&server.octets());
    [discover, request]
}
