//! One TCP connection to a guest: smoltcp on a [`Wire`], with a stream of bytes for its user.
//!
//! Each has a task of its own, which ends with the connection, whoever ends it: the user by
//! dropping the stream, the guest, or time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::{Duration as Span, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use super::wire::Wire;
use super::{HERE_V4, HERE_V6, ReachError, Way};

/// Bytes under way in each direction.
const WINDOW: usize = 64 << 10;
/// Bytes that are handed over at once.
const PIECE: usize = 16 << 10;
/// What is not acknowledged for so long never will be.
const PATIENCE: Span = Span::from_secs(60);
/// One that says nothing is asked so often whether it is there.
const KEEP_ALIVE: Span = Span::from_secs(20);
/// The longest time in which nothing is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Our ports: each connection has another one.
const PORTS: std::ops::Range<u16> = 32768..60999;
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Connects to one address and port of the guest.
pub(super) async fn connect(
    way: &Way,
    address: IpAddr,
    port: u16,
    limit: Duration,
    linger: Duration,
) -> Result<DuplexStream, ReachError> {
    let own = own_port();
    let unusable = |error: io::Error| ReachError::Tap(error.to_string());
    let wire = Wire::open(&way.tap, way.mac, address.is_ipv6(), own).map_err(unusable)?;
    let (near, far) = tokio::io::duplex(PIECE);
    let (opened, open) = oneshot::channel();
    let connection = Connection::begin(wire, address, port, own, far);
    let connection = connection.ok_or(ReachError::Refused(address, port))?;
    let task = tokio::spawn(connection.run(opened, linger));
    match tokio::time::timeout(limit, open).await {
        Ok(Ok(())) => Ok(near),
        Ok(Err(_)) => Err(ReachError::Refused(address, port)),
        Err(_) => {
            task.abort();
            Err(ReachError::Silent(address, port))
        }
    }
}

/// How long to wait for anything at most.
fn look_within(end: Option<tokio::time::Instant>) -> Duration {
    end.map_or(LOOK, |end| end.saturating_duration_since(tokio::time::Instant::now()))
}

/// A port that no connection of this process has used for long; a new process begins
/// elsewhere, as guests may remember what the last one has left.
fn own_port() -> u16 {
    let count = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % count;
    PORTS.start + (start + next) % count
}

struct Connection {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    from_user: ReadHalf<DuplexStream>,
    to_user: WriteHalf<DuplexStream>,
    /// What the user has yet to take.
    waiting: Vec<u8>,
    /// Whether the user says nothing more.
    said_all: bool,
}

impl Connection {
    /// Sends the first segment, or will; `None` if there is no such address or port.
    fn begin(
        mut wire: Wire,
        address: IpAddr,
        port: u16,
        own: u16,
        user: DuplexStream,
    ) -> Option<Self> {
        let now = Instant::now();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let mut interface = Interface::new(config, &mut wire, now);
        let here = if address.is_ipv4() { IpAddr::V4(HERE_V4) } else { IpAddr::V6(HERE_V6) };
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(here.into(), if here.is_ipv4() { 16 } else { 64 }));
        });
        let routes = interface.routes_mut();
        // Everything is at the other end of the wire, by way of whoever that is.
        routes.add_default_ipv4_route(Ipv4Addr::new(169, 254, 0, 1)).ok()?;
        routes.add_default_ipv6_route(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)).ok()?;
        let buffer = || SocketBuffer::new(vec![0; WINDOW]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_timeout(Some(PATIENCE));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.connect(interface.context(), (address, port), (here, own)).ok()?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (from_user, to_user) = tokio::io::split(user);
        let (waiting, said_all) = (Vec::new(), false);
        Some(Self { wire, interface, sockets, handle, from_user, to_user, waiting, said_all })
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Until it has ended; `opened` hears when it is there, or is dropped. The guest has
    /// `patience` to end its side once its user has.
    async fn run(mut self, opened: oneshot::Sender<()>, patience: Duration) {
        let mut opened = Some(opened);
        let mut piece = vec![0; PIECE];
        let mut linger: Option<tokio::time::Instant> = None;
        loop {
            let now = Instant::now();
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let state = self.socket().state();
            if self.socket().may_send()
                && let Some(opened) = opened.take()
            {
                let _ = opened.send(());
            }
            if self.take().is_err() {
                let _ = self.to_user.shutdown().await;
            }
            if matches!(state, State::Closed | State::TimeWait) && self.waiting.is_empty() {
                return;
            }
            if linger.is_some_and(|end| end <= tokio::time::Instant::now()) {
                return self.abort();
            }
            let room = {
                let said_all = self.said_all;
                let socket = self.socket();
                let room = socket.send_capacity() - socket.send_queue();
                if said_all || !socket.may_send() { 0 } else { room.min(PIECE) }
            };
            let pause = self.interface.poll_delay(now, &self.sockets);
            let pause = pause.map_or(LOOK, |span| Duration::from_micros(span.total_micros()));
            tokio::select! {
                heard = self.wire.listen() => if heard.is_err() { return },
                () = tokio::time::sleep(pause.min(look_within(linger))) => {}
                read = self.from_user.read(&mut piece[..room]), if room > 0 => match read {
                    Ok(length @ 1..) => {
                        // There is room for it.
                        let _ = self.socket().send_slice(&piece[..length]);
                    }
                    Ok(0) | Err(_) => {
                        self.said_all = true;
                        self.socket().close();
                        linger = Some(tokio::time::Instant::now() + patience);
                    }
                },
                written = self.to_user.write(&self.waiting), if !self.waiting.is_empty() => {
                    match written {
                        Ok(length @ 1..) => drop(self.waiting.drain(..length)),
                        Ok(0) | Err(_) => return self.abort(),
                    }
                }
            }
            // A guest that still talks to a user who still listens may go on.
            if linger.is_some() && !self.waiting.is_empty() {
                linger = Some(tokio::time::Instant::now() + patience);
            }
        }
    }

    /// Takes from the guest what the user has yet to take.
    ///
    /// # Errors
    /// The guest says nothing more, and the user has it all.
    fn take(&mut self) -> Result<(), RecvError> {
        if !self.waiting.is_empty() {
            return Ok(());
        }
        let mut piece = vec![0; PIECE];
        match self.socket().recv_slice(&mut piece) {
            Ok(length) => {
                piece.truncate(length);
                self.waiting = piece;
                Ok(())
            }
            Err(RecvError::InvalidState) if self.is_opening() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_opening(&mut self) -> bool {
        matches!(self.socket().state(), State::SynSent | State::SynReceived)
    }

    /// Tells the guest that nobody is there any more.
    fn abort(mut self) {
        self.socket().abort();
        self.interface.poll(Instant::now(), &mut self.wire, &mut self.sockets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_port_of_its_own() {
        let ports: std::collections::BTreeSet<u16> = (0..5000).map(|_| own_port()).collect();
        assert_eq!(ports.len(), 5000);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
