//! What passes between guest and server, as a third one on the wire sees it.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use dhcproto::{Decodable as _, Decoder, v4, v6};
use socket2::{Domain, Socket, Type};

use crate::lab::Lab;

/// What was said, from its making to its end.
#[derive(Debug)]
pub(crate) struct Wire {
    heard: Arc<Mutex<Vec<Exchange>>>,
    _ear: Ear,
}

/// Hears every frame at the server's end, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ear {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A message of the guest, and what was answered last.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Exchange {
    id: u32,
    /// Its type; of a DHCPREQUEST the client's state that it tells of (RFC 2131 §4.3.2).
    asked: String,
    /// Type and status of the answer.
    answer: Option<String>,
}

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Message {
    id: u32,
    name: String,
    from_server: bool,
}

impl Ear {
    pub(crate) fn at(lab: &Lab, hear: impl FnMut(&[u8]) + Send + 'static) -> Self {
        const ALL: i32 = 0x0003_u16.to_be() as i32;
        let socket = lab.as_host(|| Socket::new(Domain::PACKET, Type::RAW, Some(ALL.into())));
        let socket = socket.join().unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::default();
        let until = Arc::clone(&stop);
        let thread = Some(std::thread::spawn(move || listen(&socket, hear, &until)));
        Self { stop, thread }
    }
}

impl Wire {
    pub(crate) fn of(lab: &Lab) -> Self {
        let heard: Arc<Mutex<Vec<Exchange>>> = Arc::default();
        let to = Arc::clone(&heard);
        let note = move |message: Message| {
            let mut heard = to.lock().unwrap();
            if !message.from_server {
                heard.push(Exchange { id: message.id, asked: message.name, answer: None });
            } else if let Some(asked) = heard.iter_mut().rfind(|one| one.id == message.id) {
                asked.answer = Some(message.name);
            }
        };
        let ear = Ear::at(lab, move |frame| {
            if let Some(message) = read(frame) {
                note(message);
            }
        });
        Self { heard, _ear: ear }
    }

    /// Whether the guest sent this and got that for it; nothing, if that is empty.
    pub(crate) fn had(&self, asked: &str, answer: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.iter().any(|one| one.asked == asked && one.answer.as_deref().unwrap_or("") == answer)
    }

    /// All of it, for people.
    pub(crate) fn told(&self) -> String {
        let heard = self.heard.lock().unwrap();
        let line = |one: &Exchange| format!("{} -> {:?}", one.asked, one.answer);
        heard.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(mut socket: &Socket, mut hear: impl FnMut(&[u8]), stop: &AtomicBool) {
    let mut frame = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.read(&mut frame) else { continue };
        hear(&frame[..length]);
    }
}

/// The DHCP message of a frame that has one.
fn read(frame: &[u8]) -> Option<Message> {
    const UDP: u8 = 17;
    let packet = frame.get(14..)?;
    let datagram = match frame.get(12..14)? {
        [8, 0] if packet.get(9) == Some(&UDP) => packet.get(usize::from(packet[0] & 15) * 4..)?,
        [0x86, 0xdd] if packet.get(6) == Some(&UDP) => packet.get(40..)?,
        _ => return None,
    };
    let to_all = frame[0] & 1 == 1;
    let payload = datagram.get(8..)?;
    match u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]) {
        port @ (67 | 68) => read_v4(payload, port == 68, to_all),
        port @ (546 | 547) => read_v6(payload, port == 546),
        _ => None,
    }
}

fn read_v4(payload: &[u8], from_server: bool, to_all: bool) -> Option<Message> {
    let message = v4::Message::decode(&mut Decoder::new(payload)).ok()?;
    let has = |code| message.opts().contains(code);
    let name = match message.opts().msg_type()? {
        v4::MessageType::Request if has(v4::OptionCode::ServerIdentifier) => "Selecting".to_owned(),
        v4::MessageType::Request if has(v4::OptionCode::RequestedIpAddress) => "Reboot".to_owned(),
        v4::MessageType::Request if to_all => "Rebinding".to_owned(),
        v4::MessageType::Request => "Renewing".to_owned(),
        other => format!("{other:?}"),
    };
    Some(Message { id: message.xid(), name, from_server })
}

fn read_v6(payload: &[u8], from_server: bool) -> Option<Message> {
    let message = v6::Message::decode(&mut Decoder::new(payload)).ok()?;
    let mut name = format!("{:?}", message.msg_type());
    if let Some(v6::DhcpOption::StatusCode(code)) = message.opts().get(v6::OptionCode::StatusCode) {
        name = format!("{name} {:?}", code.status);
    }
    Some(Message { id: message.xid_num(), name, from_server })
}
