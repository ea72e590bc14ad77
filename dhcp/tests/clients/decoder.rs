//! What the server said, read by somebody who has never seen our code: Wireshark.

use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::lab::Lab;
use crate::wire::Ear;

/// All that the server of a lab says, until it is read.
#[derive(Debug)]
pub(crate) struct Decoder {
    said: Arc<Mutex<Vec<Vec<u8>>>>,
    ear: Ear,
}

impl Decoder {
    pub(crate) fn listening(lab: &Lab) -> Self {
        let said: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let to = Arc::clone(&said);
        let ear = Ear::at(lab, move |frame| {
            if is_from_server(frame) {
                to.lock().unwrap().push(frame.to_vec());
            }
        });
        Self { said, ear }
    }

    /// What is wrong with it, a line each: what cannot be read, what Wireshark warns of, and
    /// what it does not even take for a message of ours. `file` is for the frames.
    pub(crate) fn faults(self, file: &str) -> String {
        drop(self.ear);
        let said = self.said.lock().unwrap();
        if said.is_empty() {
            return String::new();
        }
        std::fs::write(file, pcap(&said)).unwrap();
        let fault = "_ws.malformed || _ws.expert.severity >= 0x600000 \
                     || !(dhcp || dhcpv6 || icmpv6.type == 134)";
        let mut tshark = Command::new("tshark");
        tshark.args(["-n", "-r", file, "-Y", fault]);
        tshark.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
        let columns = ["frame.protocols", "_ws.expert.message", "udp.payload"];
        tshark.args(["-T", "fields"]).args(columns.iter().flat_map(|column| ["-e", column]));
        let done = tshark.output().expect("tshark runs");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "tshark: {told}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

/// An answer of DHCP, or an advertisement.
fn is_from_server(frame: &[u8]) -> bool {
    let Some((ethernet, packet)) = frame.split_at_checked(14) else { return false };
    let port = |at: usize| Some(u16::from_be_bytes(*packet.get(at..at + 2)?.first_chunk()?));
    match (&ethernet[12..], packet.get(6), packet.get(9)) {
        // Nobody here has options in the header.
        ([8, 0], _, Some(17)) => port(20) == Some(67),
        ([0x86, 0xdd], Some(17), _) => port(40) == Some(547),
        ([0x86, 0xdd], Some(58), _) => packet.get(40) == Some(&134),
        _ => false,
    }
}

/// The frames as a file of packets captured on ethernet (libpcap), all at once.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    const ETHERNET: u32 = 1;
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut file = [0xa1b2_c3d4_u32.to_le_bytes(), [2, 0, 4, 0], [0; 4], [0; 4]].concat();
    file.extend([u32::from(u16::MAX).to_le_bytes(), ETHERNET.to_le_bytes()].concat());
    for frame in frames {
        let length = number(frame.len());
        file.extend([[0; 4], [0; 4], length, length].concat());
        file.extend(frame);
    }
    file
}
