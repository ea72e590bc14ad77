//! The task behind the handles: it alone touches sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::port::{Port, recheck_after};
use super::segment::{Attached, Segment};
use super::{PortReport, Shared, State, Wanted};
use crate::answer::{Answer, Ignored, Kind, Sent};
use crate::limit::{Limit, REST, TURN, rests};
use crate::metrics::Metrics;
use crate::poller::Poller;
use crate::ra;
use crate::responder::Responder;
use crate::socket::{Links, Received};

/// Longer than any frame of an interface.
const FRAME: usize = 65_536;

/// What became of a frame.
#[derive(Clone, Copy, Debug)]
enum Served {
    /// It was looked at, and answered where there is an answer.
    Looked,
    /// It was cut by the limit, or from nobody who is known.
    InVain,
}

/// Everything that the server's task owns.
pub(super) struct Task {
    shared: Arc<Shared>,
    metrics: Metrics,
    limit: Limit,
    poller: Poller,
    buffer: Vec<u8>,
    /// Ports by token; no token is used twice.
    ports: HashMap<u64, Port>,
    tokens: BTreeMap<String, u64>,
    /// Interfaces by the token their sockets are waited for with.
    segments: HashMap<u64, Segment>,
    segment_of: HashMap<String, u64>,
    next_token: u64,
    /// When which port's advertisement is due: the `due` of each port, in order.
    agenda: BTreeSet<(Instant, u64)>,
    /// Segments that are not listened to, and until when; the first to end is in front.
    resting: VecDeque<(Instant, u64)>,
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
            segments: HashMap::new(),
            segment_of: HashMap::new(),
            next_token: 0,
            agenda: BTreeSet::new(),
            resting: VecDeque::new(),
        }
    }

    /// Serves until the last handle is gone.
    pub(super) async fn run(mut self, mut wakes: mpsc::Receiver<()>) {
        let mut recheck = Instant::now();
        loop {
            let due = self.agenda.first().map(|(due, _)| *due);
            let rested = self.resting.front().map(|(until, _)| *until);
            let alarm = due.into_iter().chain(rested).fold(recheck, Instant::min);
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
                    self.listen_again(now);
                    if now >= recheck {
                        let all = self.segments.keys().copied().collect();
                        let missing = self.attach(all);
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
        let mut touched = BTreeSet::new();
        for (name, wanted) in changes {
            let token = match (self.tokens.get(&name).copied(), wanted) {
                (Some(token), Some(wanted)) => {
                    self.change(token, wanted, now);
                    token
                }
                (None, Some(wanted)) => {
                    self.next_token += 1;
                    let token = self.next_token;
                    self.tokens.insert(name.clone(), token);
                    self.ports.insert(token, Port::new(name, wanted, self.limit, now));
                    token
                }
                (Some(token), None) => {
                    self.tokens.remove(&name);
                    self.take_out(token);
                    self.reschedule(token, Port::closed);
                    self.ports.remove(&token);
                    continue;
                }
                (None, None) => continue,
            };
            touched.extend(self.plug(token));
        }
        self.attach(touched);
        self.advertise(now);
    }

    fn change(&mut self, token: u64, wanted: Wanted, now: Instant) {
        let Some(port) = self.ports.get(&token) else { return };
        let moves = port.wanted.ifname != wanted.ifname;
        let leaves = moves || port.wanted.binding.mac != wanted.binding.mac;
        if leaves {
            self.take_out(token);
        }
        if moves {
            // Its own segment says when it is open again.
            self.reschedule(token, Port::closed);
        }
        self.reschedule(token, |port| port.change(wanted, now));
    }

    /// Puts a port among the guests of its interface; returns that segment.
    fn plug(&mut self, token: u64) -> Option<u64> {
        let Wanted { ifname, binding } = &self.ports.get(&token)?.wanted;
        let mac = binding.mac;
        let known = self.segment_of.get(ifname).copied();
        let at = known.unwrap_or_else(|| {
            self.next_token += 1;
            self.segments.insert(self.next_token, Segment::new(ifname));
            self.segment_of.insert(ifname.clone(), self.next_token);
            self.next_token
        });
        let segment = self.segments.get_mut(&at)?;
        segment.guests.insert(mac, token);
        if segment.socket.is_some() {
            match self.ports.get(&token).is_some_and(|port| port.open) {
                // Its report may be a new one.
                true => self.report_open(token),
                false => self.open(token),
            }
        }
        Some(at)
    }

    /// Takes a port from among the guests of its interface, whose socket goes with the
    /// last of them.
    fn take_out(&mut self, token: u64) {
        let Some(Port { wanted: Wanted { ifname, binding }, .. }) = self.ports.get(&token) else {
            return;
        };
        let Some(at) = self.segment_of.get(ifname).copied() else { return };
        let Some(segment) = self.segments.get_mut(&at) else { return };
        if segment.guests.get(&binding.mac) == Some(&token) {
            segment.guests.remove(&binding.mac);
        }
        if segment.guests.is_empty() {
            self.segment_of.remove(ifname);
            self.segments.remove(&at);
        }
    }

    fn open(&mut self, token: u64) {
        let now = Instant::now();
        self.reschedule(token, |port| port.opened(now));
        self.report_open(token);
    }

    fn report_open(&self, token: u64) {
        self.report(token, |report| report.open = true);
        self.shared.opened.notify_waiters();
    }

    /// Brings the sockets of these segments in line with the interfaces that there
    /// are. Returns whether an interface is missing.
    fn attach(&mut self, segments: BTreeSet<u64>) -> bool {
        if !segments.is_empty() {
            match Links::list() {
                Ok(links) => segments.into_iter().for_each(|at| self.attach_one(at, &links)),
                Err(error) => warn!(%error, "Cannot list the interfaces"),
            }
        }
        let open = self.ports.values().filter(|port| port.open).count();
        self.metrics.set_ports(open, self.ports.len() - open);
        self.segments.values().any(|segment| segment.socket.is_none())
    }

    fn attach_one(&mut self, at: u64, links: &Links) {
        let Some(segment) = self.segments.get_mut(&at) else { return };
        let attached = segment.attach(links).and_then(|attached| {
            if let (Attached::Opened, Some(socket)) = (attached, &segment.socket) {
                self.poller.add(socket, at).inspect_err(|_| segment.socket = None)?;
            }
            Ok(attached)
        });
        let (ifname, guests) = (segment.ifname.as_str(), segment.guests.len());
        match &attached {
            Ok(Attached::Same) => return,
            Ok(Attached::Opened) => info!(ifname, guests, "Serving the interface"),
            Ok(Attached::Closed) => info!(ifname, guests, "The interface is gone"),
            // Said again at every look: nobody there is served until it works.
            Err(error) => warn!(ifname, guests, %error, "Cannot open a socket on the interface"),
        }
        let is_open = segment.socket.is_some();
        let guests: Vec<u64> = segment.guests.values().copied().collect();
        for token in guests {
            if is_open {
                self.open(token);
            } else {
                self.reschedule(token, Port::closed);
                self.report(token, |report| report.open = false);
            }
        }
    }

    /// Answers what a segment has, for one turn.
    fn serve(&mut self, at: u64) {
        let mut in_vain = 0;
        for _ in 0..TURN {
            match self.serve_one(at) {
                Some(Served::InVain) => in_vain += 1,
                Some(Served::Looked) => {}
                None => return,
            }
        }
        let Some(Segment { socket: Some(socket), guests, .. }) = self.segments.get(&at) else {
            return;
        };
        // One that cannot be kept from telling is read on.
        if rests(guests.len(), in_vain) && self.poller.listen(socket, at, false).is_ok() {
            self.resting.push_back((Instant::now() + REST, at));
        }
    }

    /// Ends the rests that are over.
    fn listen_again(&mut self, now: Instant) {
        while let Some((_, at)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            // It may have another socket by now, or none.
            let Some(Segment { socket: Some(socket), ifname, .. }) = self.segments.get(&at) else {
                continue;
            };
            if let Err(error) = self.poller.listen(socket, at, true) {
                warn!(ifname, %error, "Cannot wait for frames of the interface");
            }
        }
    }

    /// Answers the next frame of a segment, if there is one.
    fn serve_one(&mut self, at: u64) -> Option<Served> {
        let started = Instant::now();
        let segment = self.segments.get(&at)?;
        let Received { frame, tagged } = match segment.socket.as_ref()?.receive(&mut self.buffer) {
            Ok(received) => received?,
            Err(error) => {
                // The interface went down or away; the next look finds out which.
                debug!(ifname = segment.ifname, %error, "Cannot read from the interface");
                return None;
            }
        };
        let sender = segment.sender(frame);
        let Some((token, port)) =
            sender.and_then(|token| Some((token, self.ports.get_mut(&token)?)))
        else {
            self.metrics.ignored(Ignored::ForeignMac);
            return Some(Served::InVain);
        };
        if !port.bucket.take(started) {
            self.metrics.rate_limited.inc();
            return Some(Served::InVain);
        }
        let answer = match tagged {
            true => Answer::Ignore(Ignored::Tagged),
            false => Responder::answer(&port.wanted.binding, frame),
        };
        match answer {
            Answer::Send(Sent { frame, kind: Kind::RouterAdvertisement, .. })
                if ra::is_to_all(&frame) && !self.may_tell_all(token, started) => {}
            Answer::Send(sent) => {
                self.send(token, &sent);
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
        Some(Served::Looked)
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
                Some(sent) => self.send(token, &sent),
                None => drop(self.agenda.remove(&(due, token))),
            }
        }
    }

    fn send(&mut self, token: u64, sent: &Sent) {
        let kind = sent.kind;
        let Some(port) = self.ports.get(&token) else { return };
        let at = self.segment_of.get(&port.wanted.ifname);
        let Some(segment) = at.and_then(|at| self.segments.get(at)) else { return };
        let Some(socket) = &segment.socket else { return };
        if let Err(error) = socket.send(&sent.frame) {
            debug!(port = port.name, kind = kind.label(), %error, "Cannot write to the port");
            self.metrics.send_failures.inc();
            return;
        }
        debug!(port = port.name, kind = kind.label(), sent.left_out, "Sent");
        self.metrics.sent(kind, sent.left_out);
        match kind {
            Kind::Ack => self.report(token, |report| {
                first_now(&mut report.first_ack_v4);
                settle(&mut report.conflict);
            }),
            Kind::Reply => self.report(token, |report| {
                first_now(&mut report.first_ack_v6);
                settle(&mut report.conflict);
            }),
            Kind::RouterAdvertisement => self.report(token, |report| report.ra_sent += 1),
            Kind::Declined => self.declined(token),
            _ => {}
        }
    }

    fn declined(&self, token: u64) {
        let Some(port) = self.ports.get(&token) else { return };
        self.metrics.declines.inc();
        let mut is_news = false;
        self.report(token, |report| {
            report.declines += 1;
            is_news = report.conflict.replace(SystemTime::now()).is_none();
        });
        // It may say so as often as it likes.
        if is_news {
            warn!(port = port.name, "The guest found its address in use elsewhere");
        }
    }

    fn report(&self, token: u64, change: impl FnOnce(&mut PortReport)) {
        let Some(port) = self.ports.get(&token) else { return };
        let mut state = self.shared.lock();
        let State { reports, conflicts, .. } = &mut *state;
        let Some(report) = reports.get_mut(&port.name) else { return };
        let was_in_conflict = report.conflict.is_some();
        change(report);
        if report.conflict.is_some() != was_in_conflict {
            *conflicts += 1;
        }
    }

    /// Changes a port and keeps the agenda in step with its clock; every change of
    /// `due` goes through here.
    fn reschedule<T>(&mut self, token: u64, change: impl FnOnce(&mut Port) -> T) -> Option<T> {
        let port = self.ports.get_mut(&token)?;
        if let Some(due) = port.due() {
            self.agenda.remove(&(due, token));
        }
        let outcome = change(port);
        if let Some(due) = port.due() {
            self.agenda.insert((due, token));
        }
        Some(outcome)
    }
}

/// A guest that declined begins anew within seconds (RFC 2131 §3.1 (5)), and declines again
/// if nothing has changed: one that comes for its address after longer than that has kept it.
fn settle(conflict: &mut Option<SystemTime>) {
    const QUIET: Duration = Duration::from_secs(60);
    let is_over = |at: &SystemTime| at.elapsed().is_ok_and(|since| since >= QUIET);
    if conflict.as_ref().is_some_and(is_over) {
        *conflict = None;
    }
}

fn first_now(time: &mut Option<SystemTime>) {
    time.get_or_insert_with(SystemTime::now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_over_once_the_guest_comes_back_after_a_minute_and_not_when_it_tries_anew() {
        let ago = |seconds| Some(SystemTime::now() - Duration::from_secs(seconds));
        for (since, remains) in [(10, true), (59, true), (61, false)] {
            let mut conflict = ago(since);
            settle(&mut conflict);
            assert_eq!(conflict.is_some(), remains, "{since}");
        }
    }
}
