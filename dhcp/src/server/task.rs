//! The task behind the handles: it alone touches sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::port::{Attached, Port, recheck_after};
use super::{PortReport, Shared, Wanted};
use crate::answer::{Answer, Ignored, Kind};
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::poller::Poller;
use crate::ra;
use crate::responder::Responder;
use crate::socket::Links;

/// Frames read from one port before the others get their turn.
const TURN: usize = 16;
/// Longer than any frame of an interface.
const FRAME: usize = 65_536;

/// Everything that the server's task owns.
pub(super) struct Task {
    shared: Arc<Shared>,
    metrics: Metrics,
    limit: Limit,
    poller: Poller,
    buffer: Vec<u8>,
    /// Ports by the token their sockets are waited for with; no token is used twice.
    ports: HashMap<u64, Port>,
    tokens: BTreeMap<String, u64>,
    next_token: u64,
    /// When which port's advertisement is due: the `due` of each port, in order.
    agenda: BTreeSet<(Instant, u64)>,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, metrics: Metrics, limit: Limit, poller: Poller) -> Self {
        Self {
            shared,
            metrics,
            limit,
            poller,
            buffer: vec![0; FRAME],
            ports: HashMap::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            agenda: BTreeSet::new(),
        }
    }

    /// Serves until the last handle is gone.
    pub(super) async fn run(mut self, mut wakes: mpsc::Receiver<()>) {
        let mut recheck = Instant::now();
        loop {
            let due = self.agenda.first().map(|(due, _)| *due);
            let alarm = due.map_or(recheck, |due| due.min(recheck));
            tokio::select! {
                wake = wakes.recv() => match wake {
                    Some(()) => self.take_changes(),
                    None => return,
                },
                ready = self.poller.ready() => match ready {
                    Ok(tokens) => tokens.into_iter().for_each(|token| self.serve(token)),
                    Err(error) => warn!(%error, "Cannot wait for frames"),
                },
                () = tokio::time::sleep_until(alarm.into()) => {
                    let now = Instant::now();
                    if now >= recheck {
                        let all: Vec<u64> = self.ports.keys().copied().collect();
                        let missing = self.attach(&all);
                        recheck = now + recheck_after(missing);
                    }
                    self.advertise(now);
                }
            }
        }
    }

    /// Makes the ports that changed what is wanted of them.
    fn take_changes(&mut self) {
        let changes: Vec<(String, Option<Wanted>)> = {
            let mut state = self.shared.lock();
            let changed = std::mem::take(&mut state.changed);
            changed
                .into_iter()
                .map(|name| (name.clone(), state.wanted.get(&name).cloned()))
                .collect()
        };
        let now = Instant::now();
        let mut touched = Vec::new();
        for (name, wanted) in changes {
            match (self.tokens.get(&name).copied(), wanted) {
                (Some(token), Some(wanted)) => {
                    self.change(token, wanted, now);
                    touched.push(token);
                }
                (None, Some(wanted)) => {
                    let token = self.next_token;
                    self.next_token += 1;
                    self.tokens.insert(name.clone(), token);
                    self.ports.insert(token, Port::new(name, wanted, self.limit, now));
                    touched.push(token);
                }
                (Some(token), None) => {
                    self.tokens.remove(&name);
                    self.reschedule(token, Port::detach);
                    self.ports.remove(&token);
                }
                (None, None) => {}
            }
        }
        self.attach(&touched);
        self.advertise(now);
    }

    fn change(&mut self, token: u64, wanted: Wanted, now: Instant) {
        if let Some(farewell) = self.reschedule(token, |port| port.change(wanted, now)).flatten() {
            self.send(token, &farewell, Kind::RouterAdvertisement);
        }
    }

    /// Brings the sockets of these ports in line with the interfaces that there
    /// are. Returns whether one of them has no interface.
    fn attach(&mut self, tokens: &[u64]) -> bool {
        if !tokens.is_empty() {
            match Links::list() {
                Ok(links) => tokens.iter().for_each(|token| self.attach_one(*token, &links)),
                Err(error) => warn!(%error, "Cannot list the interfaces"),
            }
        }
        let open = self.ports.values().filter(|port| port.socket.is_some()).count();
        self.metrics.set_ports(open, self.ports.len() - open);
        open < self.ports.len()
    }

    fn attach_one(&mut self, token: u64, links: &Links) {
        let now = Instant::now();
        let Some(attached) = self.reschedule(token, |port| port.attach(links, now)) else { return };
        let Some(port) = self.ports.get_mut(&token) else { return };
        let (name, ifname) = (port.name.as_str(), port.wanted.ifname.as_str());
        match (attached, &port.socket) {
            (Ok(Attached::Same), _) => {}
            (Ok(Attached::Opened), Some(socket)) => match self.poller.add(socket, token) {
                Ok(()) => info!(port = name, ifname, "Serving the port"),
                Err(error) => {
                    warn!(port = name, ifname, %error, "Cannot wait for the port's frames");
                    self.reschedule(token, Port::detach);
                }
            },
            (Ok(Attached::Opened | Attached::Closed), _) => {
                info!(port = name, ifname, "The port's interface is gone");
            }
            // Said again at every look: the port is not served until it works.
            (Err(error), _) => warn!(port = name, ifname, %error, "Cannot open the port's socket"),
        }
        let open = self.ports.get(&token).is_some_and(|port| port.socket.is_some());
        self.report(token, |report| report.open = open);
    }

    /// Answers what a port has, for one turn.
    fn serve(&mut self, token: u64) {
        for _ in 0..TURN {
            let started = Instant::now();
            let Some(port) = self.ports.get_mut(&token) else { return };
            let Some(socket) = &port.socket else { return };
            let frame = match socket.receive(&mut self.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => {
                    // The interface went down or away; the next look finds out which.
                    debug!(port = port.name, %error, "Cannot read from the port");
                    return;
                }
            };
            if !port.bucket.take(started) {
                self.metrics.rate_limited.inc();
                continue;
            }
            match Responder::answer(&port.wanted.binding, frame) {
                Answer::Send(answer, Kind::RouterAdvertisement)
                    if ra::is_to_all(&answer) && !self.may_tell_all(token, started) => {}
                Answer::Send(answer, kind) => {
                    self.send(token, &answer, kind);
                    self.metrics.answer_seconds.observe(started.elapsed().as_secs_f64());
                }
                Answer::Ignore(reason) => {
                    let port = self.ports.get(&token).map(|port| port.name.as_str());
                    debug!(port, %reason, "Frame ignored");
                    self.metrics.ignored(reason);
                    if reason == Ignored::Decline {
                        self.declined(token);
                    }
                }
            }
        }
    }

    fn may_tell_all(&mut self, token: u64, now: Instant) -> bool {
        self.reschedule(token, |port| port.may_tell_all(now)).unwrap_or_default()
    }

    /// Sends the advertisements that are due.
    fn advertise(&mut self, now: Instant) {
        while let Some(&(due, token)) = self.agenda.first() {
            if due > now {
                return;
            }
            match self.reschedule(token, |port| port.take_advertisement(now)).flatten() {
                Some(frame) => self.send(token, &frame, Kind::RouterAdvertisement),
                None => drop(self.agenda.remove(&(due, token))),
            }
        }
    }

    fn send(&mut self, token: u64, frame: &[u8], kind: Kind) {
        let Some(port) = self.ports.get(&token) else { return };
        let Some(socket) = &port.socket else { return };
        if let Err(error) = socket.send(frame) {
            debug!(port = port.name, kind = kind.label(), %error, "Cannot write to the port");
            self.metrics.send_failures.inc();
            return;
        }
        debug!(port = port.name, kind = kind.label(), "Sent");
        self.metrics.sent(kind);
        match kind {
            Kind::Ack => self.report(token, |report| first_now(&mut report.first_ack_v4)),
            Kind::Reply => self.report(token, |report| first_now(&mut report.first_ack_v6)),
            Kind::RouterAdvertisement => self.report(token, |report| report.ra_sent += 1),
            Kind::Declined => self.declined(token),
            _ => {}
        }
    }

    fn declined(&self, token: u64) {
        let Some(port) = self.ports.get(&token) else { return };
        warn!(port = port.name, "The guest found its address in use elsewhere");
        self.metrics.declines.inc();
        self.report(token, |report| report.declines += 1);
    }

    fn report(&self, token: u64, change: impl FnOnce(&mut PortReport)) {
        let Some(port) = self.ports.get(&token) else { return };
        if let Some(report) = self.shared.lock().reports.get_mut(&port.name) {
            change(report);
        }
    }

    /// Changes a port and keeps the agenda in step with its clock; every change of
    /// `due` goes through here.
    fn reschedule<T>(&mut self, token: u64, change: impl FnOnce(&mut Port) -> T) -> Option<T> {
        let port = self.ports.get_mut(&token)?;
        if let Some(due) = port.due {
            self.agenda.remove(&(due, token));
        }
        let outcome = change(port);
        if let Some(due) = port.due {
            self.agenda.insert((due, token));
        }
        Some(outcome)
    }
}

fn first_now(time: &mut Option<SystemTime>) {
    time.get_or_insert_with(SystemTime::now);
}
