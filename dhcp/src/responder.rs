//! One frame in, one answer out.
//!
//! No clock and no memory: a port's one guest has one address for good, so an
//! answer depends on the binding and the frame alone, on whichever node it is given.

use crate::answer::{Answer, Ignored, Sent};
use crate::binding::Binding;
use crate::frame::{Ethernet, Packet};
use crate::{ra, v4, v6};

/// Answers what a guest sends, from its binding alone.
#[derive(Clone, Copy, Debug)]
pub struct Responder;

impl Responder {
    /// What to answer to this ethernet frame from the guest of `binding`.
    ///
    /// Any bytes may be given. A frame whose ethernet source or `chaddr` is not the
    /// binding's MAC address is never answered, and no answer goes to another one.
    #[must_use]
    pub fn answer(binding: &Binding, frame: &[u8]) -> Answer {
        match respond(binding, frame) {
            Ok(sent) => Answer::Send(sent),
            Err(reason) => Answer::Ignore(reason),
        }
    }
}

fn respond(binding: &Binding, frame: &[u8]) -> Result<Sent, Ignored> {
    let ethernet = Ethernet::parse(frame)?;
    if ethernet.source != binding.mac {
        return Err(Ignored::ForeignMac);
    }
    match ethernet.packet()? {
        Packet::Dhcp4 { source, destination, payload } => {
            v4::respond(binding, source, destination, payload)
        }
        Packet::Dhcp6 { source, destination, payload } => {
            v6::respond(binding, source, destination, payload)
        }
        Packet::Solicitation { source, destination, hop_limit, message } => {
            ra::respond(binding, source, destination, hop_limit, message)
        }
    }
}
