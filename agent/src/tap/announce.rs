//! A guest that has come from another node says where it is: on its behalf, at once, and in
//! every way that somebody may listen for.
//!
//! | frame | who waits for it |
//! |---|---|
//! | RARP (RFC 903), as QEMU sends it | OVN, which keeps a port closed on its second node until then (`activation-strategy`); physical switches |
//! | gratuitous ARP (RFC 5227 §3) | neighbours with the address in their tables |
//! | unsolicited Neighbor Advertisement (RFC 4861 §7.2.6) | the same, of IPv6 |
//!
//! QEMU announces a guest by itself; this is for one whose QEMU does not, or was not heard.
//! A frame that the host writes to a tap goes to the guest, so these are given to Open
//! vSwitch as having come from the tap. What OVN's port security would not let the guest
//! say it does not let through here either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
    NdiscRepr,
};
use tokio::process::Command;

use super::Taps;
use crate::leases::Port;

/// The first opens the port, which takes OVN a moment; the others are heard by all.
const PAUSES: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(1000)];
/// How long Open vSwitch may take for one frame.
const LIMIT: Duration = Duration::from_secs(3);

/// Reverse ARP (RFC 903).
const RARP: EthernetProtocol = EthernetProtocol::Unknown(0x8035);
const REVERSE_REQUEST: ArpOperation = ArpOperation::Unknown(3);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);

impl Taps {
    /// Says of guests' ports that they are here, several times, beside everything else.
    pub(crate) fn announce(&self, ports: &[Port]) {
        let Some(switch) = self.switch() else { return };
        let frames: Vec<(String, Vec<u8>)> = ports
            .iter()
            .flat_map(|port| frames(port).into_iter().map(|frame| (port.tap.clone(), frame)))
            .collect();
        tokio::spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                for (tap, frame) in &frames {
                    if let Err(why) = give(&switch, tap, frame).await {
                        tracing::debug!(tap, why, "A guest could not be announced");
                    }
                }
            }
        });
    }

    /// Where the bridge takes OpenFlow: beside the database, if that is on this node.
    fn switch(&self) -> Option<String> {
        let directory: &PathBuf = self.directory.as_ref()?;
        Some(format!("unix:{}", directory.join(format!("{}.mgmt", self.bridge)).display()))
    }
}

/// Has the switch take the frame as if it had come from the tap.
pub(super) async fn give(switch: &str, tap: &str, frame: &[u8]) -> Result<(), String> {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let packet = format!("in_port={tap} packet={hex} actions=resubmit(,0)");
    let mut command = Command::new("ovs-ofctl");
    command.args(["--timeout=2", "packet-out", switch, &packet]).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.map_err(|_| "it took too long".to_owned())?;
    let output = output.map_err(|error| format!("ovs-ofctl: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said.trim().to_owned()) }
}

/// All frames by which a port's guest is known to be where it is.
fn frames(port: &Port) -> Vec<Vec<u8>> {
    let mac = EthernetAddress(port.mac.octets());
    let addresses = port.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => {
            let gratuitous = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr: mac,
                source_protocol_addr: *address,
                target_hardware_addr: EthernetAddress([0; 6]),
                target_protocol_addr: *address,
            };
            arp(mac, EthernetProtocol::Arp, &gratuitous)
        }
        IpAddr::V6(address) => advertisement(mac, *address),
    });
    let reverse = ArpRepr::EthernetIpv4 {
        operation: REVERSE_REQUEST,
        source_hardware_addr: mac,
        source_protocol_addr: Ipv4Addr::UNSPECIFIED,
        target_hardware_addr: mac,
        target_protocol_addr: Ipv4Addr::UNSPECIFIED,
    };
    [arp(mac, RARP, &reverse)].into_iter().chain(addresses).collect()
}

fn arp(mac: EthernetAddress, protocol: EthernetProtocol, said: &ArpRepr) -> Vec<u8> {
    ethernet(mac, EthernetAddress::BROADCAST, protocol, said.buffer_len(), |payload| {
        said.emit(&mut ArpPacket::new_unchecked(payload));
    })
}

fn advertisement(mac: EthernetAddress, address: Ipv6Addr) -> Vec<u8> {
    let said = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: address,
        lladdr: Some(mac.into()),
    });
    let packet = Ipv6Repr {
        src_addr: address,
        dst_addr: ALL_NODES,
        next_header: IpProtocol::Icmpv6,
        payload_len: said.buffer_len(),
        // RFC 4861 §7.1.2: others are not listened to.
        hop_limit: 255,
    };
    let length = packet.buffer_len() + said.buffer_len();
    ethernet(mac, ALL_NODES_MAC, EthernetProtocol::Ipv6, length, |payload| {
        let mut ip = Ipv6Packet::new_unchecked(payload);
        packet.emit(&mut ip);
        let mut icmp = Icmpv6Packet::new_unchecked(ip.payload_mut());
        said.emit(&address, &ALL_NODES, &mut icmp, &ChecksumCapabilities::default());
    })
}

fn ethernet(
    src_addr: EthernetAddress,
    dst_addr: EthernetAddress,
    ethertype: EthernetProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let head = EthernetRepr { src_addr, dst_addr, ethertype };
    let mut bytes = vec![0; EthernetFrame::<&[u8]>::buffer_len(length)];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    head.emit(&mut frame);
    fill(frame.payload_mut());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_announced_as_qemu_does_and_by_each_of_its_addresses() {
        let mut web = super::super::tests::port("web");
        web.addresses = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        let frames = frames(&web);
        let mac = EthernetAddress(web.mac.octets());
        assert_eq!(frames.len(), 3);
        let parsed: Vec<_> =
            frames.iter().map(|bytes| EthernetFrame::new_checked(&bytes[..]).unwrap()).collect();
        assert!(parsed.iter().all(|frame| frame.src_addr() == mac));

        assert_eq!(parsed[0].ethertype(), RARP);
        assert!(parsed[0].dst_addr().is_broadcast());
        // Operation 3, and the guest's hardware address twice.
        let rarp = parsed[0].payload();
        assert_eq!(rarp[6..8], [0, 3]);
        assert_eq!((&rarp[8..14], &rarp[18..24]), (mac.as_bytes(), mac.as_bytes()));

        let arp = ArpPacket::new_checked(parsed[1].payload()).unwrap();
        assert_eq!(
            (arp.source_protocol_addr(), arp.target_protocol_addr()),
            (&[10, 0, 0, 5][..], &[10, 0, 0, 5][..])
        );

        assert_eq!(parsed[2].dst_addr(), ALL_NODES_MAC);
        let ip = Ipv6Packet::new_checked(parsed[2].payload()).unwrap();
        assert_eq!(ip.hop_limit(), 255);
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let checks = ChecksumCapabilities::default();
        let said = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &checks).unwrap();
        let Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) = said else {
            panic!("{said:?}")
        };
        assert_eq!(target_addr, "fd00::5".parse::<Ipv6Addr>().unwrap());
    }
}
