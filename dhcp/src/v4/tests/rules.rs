//! Which answer, with what in it, and where to.

use dhcproto::v4::{DhcpOption, HType, MessageType};

use super::*;
use crate::binding::{INFINITE, Ra};

fn message_type(reply: &Reply) -> MessageType {
    let Some(DhcpOption::MessageType(kind)) = reply.get(53) else { panic!("no message type") };
    *kind
}

#[test]
fn a_discover_gets_an_offer_of_the_bound_address() {
    let reply = discover().reply(&binding());
    assert_eq!((reply.kind, message_type(&reply)), (Kind::Offer, MessageType::Offer));
    assert_eq!(reply.message.yiaddr(), ADDRESS);
    assert_eq!(reply.ports, (67, 68));
    assert_eq!(reply.source, SERVER);
}

#[test]
fn rfc2131_4_3_1_an_offer_copies_what_the_client_sent_and_has_no_ciaddr() {
    let reply = discover()
        .broadcasting()
        .change(|message| {
            message.set_ciaddr(FOREIGN);
            message.set_secs(7);
            message.set_hops(3)
        })
        .reply(&binding());
    let message = &reply.message;
    assert_eq!((message.xid(), message.chaddr()), (0x1234_5678, &MAC.octets()[..]));
    assert!(message.flags().broadcast());
    assert_eq!((message.ciaddr(), message.giaddr()), (NONE, NONE));
    assert_eq!((message.secs(), message.hops()), (0, 0));
}

#[test]
fn rfc2131_4_3_1_siaddr_is_the_next_boot_server_and_not_this_one() {
    let reply = discover().change(|message| message.set_siaddr(FOREIGN)).reply(&binding());
    assert_eq!(reply.message.siaddr(), NONE);
}

#[test]
fn rfc2131_4_3_2_selecting_this_server_is_acknowledged() {
    let reply = selecting(ADDRESS).reply(&binding());
    assert_eq!((reply.kind, message_type(&reply)), (Kind::Ack, MessageType::Ack));
    assert_eq!((reply.message.yiaddr(), reply.message.ciaddr()), (ADDRESS, NONE));
    assert_eq!(reply.get(54), Some(&DhcpOption::ServerIdentifier(SERVER)));
}

#[test]
fn rfc2131_4_3_2_selecting_another_server_is_noted_in_silence_whatever_it_asks_for() {
    for wanted in [ADDRESS, FOREIGN] {
        let request = rebooting(wanted).with(DhcpOption::ServerIdentifier(GATEWAY));
        assert_eq!(request.ignored(&binding()), Ignored::OtherServer);
    }
}

#[test]
fn rfc2131_4_3_2_a_rebooting_guest_keeps_its_address() {
    assert_eq!(rebooting(ADDRESS).reply(&binding()).kind, Kind::Ack);
}

#[test]
fn rfc2131_4_3_2_a_request_for_a_foreign_address_is_refused_in_every_state() {
    for request in [selecting(FOREIGN), rebooting(FOREIGN), renewing(FOREIGN), rebinding(FOREIGN)] {
        let reply = request.reply(&binding());
        assert_eq!((reply.kind, message_type(&reply)), (Kind::Nak, MessageType::Nak));
    }
}

#[test]
fn rfc2131_4_3_2_a_guest_without_a_binding_gets_no_nak_either() {
    let unbound = Binding { v4: None, ..binding() };
    assert_eq!(rebooting(FOREIGN).ignored(&unbound), Ignored::NoBinding);
    assert_eq!(discover().ignored(&unbound), Ignored::NoBinding);
}

#[test]
fn rfc2131_4_3_1_a_nak_has_a_server_id_and_neither_addresses_nor_a_lease() {
    let reply = renewing(FOREIGN).with(DhcpOption::ClientIdentifier(vec![1, 2])).reply(&binding());
    let message = &reply.message;
    assert_eq!((message.ciaddr(), message.yiaddr(), message.siaddr()), (NONE, NONE, NONE));
    assert_eq!(reply.codes(), [53, 54, 61, 56]);
}

#[test]
fn rfc2131_4_1_a_nak_is_always_broadcast() {
    for request in [selecting(FOREIGN), renewing(FOREIGN)] {
        let reply = request.reply(&binding());
        assert_eq!(reply.destination, Ipv4Addr::BROADCAST);
        assert_eq!(reply.ethernet.1, MacAddr::BROADCAST);
    }
}

#[test]
fn rfc2131_4_1_a_guest_with_an_address_is_answered_there() {
    for request in [renewing(ADDRESS), rebinding(ADDRESS).broadcasting()] {
        let reply = request.reply(&binding());
        assert_eq!((reply.kind, reply.message.ciaddr()), (Kind::Ack, ADDRESS));
        assert_eq!((reply.destination, reply.ethernet.1), (ADDRESS, MAC));
    }
}

#[test]
fn rfc2131_4_1_the_broadcast_flag_is_obeyed() {
    for request in [discover().broadcasting(), selecting(ADDRESS).broadcasting()] {
        let reply = request.reply(&binding());
        assert_eq!(
            (reply.destination, reply.ethernet.1),
            (Ipv4Addr::BROADCAST, MacAddr::BROADCAST)
        );
    }
}

#[test]
fn rfc2131_4_1_otherwise_the_reply_goes_to_the_new_address_at_the_guests_mac() {
    for request in [discover(), selecting(ADDRESS)] {
        let reply = request.reply(&binding());
        assert_eq!((reply.destination, reply.ethernet.1), (ADDRESS, MAC));
    }
}

#[test]
fn rfc6842_the_client_identifier_is_echoed_in_every_reply_and_decides_nothing() {
    for id in [vec![1, 2, 0, 0x5e, 0x10, 0, 6], vec![0xff; 32]] {
        let id = DhcpOption::ClientIdentifier(id);
        for request in [discover(), selecting(ADDRESS), rebooting(FOREIGN)] {
            let with = request.clone().with(id.clone()).reply(&binding());
            assert_eq!(with.get(61), Some(&id));
            let without = request.reply(&binding());
            assert_eq!(without.get(61), None);
            assert_eq!(
                (with.kind, with.message.yiaddr()),
                (without.kind, without.message.yiaddr())
            );
        }
    }
}

#[test]
fn rfc2131_4_3_5_an_inform_gets_options_at_its_address_and_no_lease() {
    let mut inform = rebinding(FOREIGN);
    inform.message.opts_mut().insert(DhcpOption::MessageType(MessageType::Inform));
    let reply = inform.reply(&binding());
    assert_eq!((reply.kind, message_type(&reply)), (Kind::InformAck, MessageType::Ack));
    assert_eq!((reply.message.yiaddr(), reply.message.ciaddr()), (NONE, FOREIGN));
    assert_eq!((reply.destination, reply.ethernet.1), (FOREIGN, MAC));
    assert_eq!(reply.get(1), Some(&DhcpOption::SubnetMask([255, 255, 255, 0].into())));
    for lease in [51, 58, 59] {
        assert_eq!(reply.get(lease), None);
    }
}

#[test]
fn an_inform_without_ciaddr_is_answered_where_it_came_from() {
    let inform = client(MessageType::Inform);
    assert_eq!(inform.reply(&binding()).destination, Ipv4Addr::BROADCAST);
    let inform = Client { source: FOREIGN, ..inform };
    assert_eq!(inform.reply(&binding()).destination, FOREIGN);
}

#[test]
fn rfc2131_4_3_3_a_decline_and_a_release_get_no_answer_but_a_reason() {
    assert_eq!(declining(ADDRESS, SERVER).ignored(&binding()), Ignored::Decline);
    assert_eq!(client(MessageType::Release).ignored(&binding()), Ignored::Release);
    // Not held to the server identifier either: Kea does the same.
    let release = client(MessageType::Release).with(DhcpOption::ServerIdentifier(GATEWAY));
    assert_eq!(release.ignored(&binding()), Ignored::Release);
}

fn declining(address: Ipv4Addr, server: Ipv4Addr) -> Client {
    client(MessageType::Decline)
        .with(DhcpOption::RequestedIpAddress(address))
        .with(DhcpOption::ServerIdentifier(server))
}

#[test]
fn rfc2131_4_3_3_a_decline_of_another_servers_or_a_foreign_address_is_no_conflict_here() {
    assert_eq!(declining(ADDRESS, GATEWAY).ignored(&binding()), Ignored::OtherServer);
    assert_eq!(declining(FOREIGN, SERVER).ignored(&binding()), Ignored::ForeignDecline);
    assert_eq!(client(MessageType::Decline).ignored(&binding()), Ignored::ForeignDecline);
}

#[test]
fn rfc2131_4_3_2_a_renewal_is_about_ciaddr_whatever_option_50_says() {
    for make in [renewing, rebinding] {
        let own = make(ADDRESS).with(DhcpOption::RequestedIpAddress(FOREIGN));
        assert_eq!(own.reply(&binding()).kind, Kind::Ack);
        let foreign = make(FOREIGN).with(DhcpOption::RequestedIpAddress(ADDRESS));
        assert_eq!(foreign.reply(&binding()).kind, Kind::Nak);
    }
}

#[test]
fn rfc2131_4_3_2_selecting_is_about_option_50_and_nothing_goes_to_a_foreign_ciaddr() {
    let both = selecting(ADDRESS).change(|message| message.set_ciaddr(FOREIGN));
    let reply = both.reply(&binding());
    assert_eq!((reply.kind, reply.message.ciaddr()), (Kind::Ack, NONE));
    assert_eq!(reply.destination, ADDRESS);
}

#[test]
fn a_renewal_sent_to_the_server_of_before_gets_the_server_of_now() {
    let before = Ipv4Addr::new(10, 0, 0, 9);
    let asked = Client { destination: before, ..renewing(ADDRESS) };
    let reply = asked.reply(&binding());
    assert_eq!((reply.kind, reply.source), (Kind::Ack, before));
    assert_eq!(reply.get(54), Some(&DhcpOption::ServerIdentifier(SERVER)));
    // What is for another server is its affair, and who uses another address is not known.
    for other in [
        Client { destination: before, ..renewing(FOREIGN) },
        Client { destination: before, ..discover() },
        Client { destination: before, ..declining(ADDRESS, SERVER) },
    ] {
        assert_eq!(other.ignored(&binding()), Ignored::OtherDestination);
    }
}

#[test]
fn times_that_do_not_fit_the_lease_follow_from_it() {
    for (t1, t2) in [(Some(5000), None), (None, Some(3600)), (Some(3000), Some(2000))] {
        let reply = discover().reply(&binding_with(|v4| (v4.t1, v4.t2) = (t1, t2)));
        assert_eq!(reply.get(58), Some(&DhcpOption::Renewal(1800)));
        assert_eq!(reply.get(59), Some(&DhcpOption::Rebinding(3150)));
    }
}

#[test]
fn answers_come_from_the_mac_address_that_is_named_for_the_server() {
    let named = MacAddr::new([0, 0, 0, 0x2e, 0x2f, 0xb8]);
    let reply = discover().reply(&binding_with(|v4| v4.server_mac = Some(named)));
    assert_eq!(reply.ethernet.0, named);
}

#[test]
fn a_request_that_names_no_address_means_the_offer() {
    assert_eq!(client(MessageType::Request).reply(&binding()).kind, Kind::Ack);
}

#[test]
fn rfc2131_4_4_5_the_times_are_a_half_and_seven_eighths_of_the_lease() {
    for request in [discover(), selecting(ADDRESS)] {
        let reply = request.reply(&binding());
        assert_eq!(reply.get(51), Some(&DhcpOption::AddressLeaseTime(3600)));
        assert_eq!(reply.get(58), Some(&DhcpOption::Renewal(1800)));
        assert_eq!(reply.get(59), Some(&DhcpOption::Rebinding(3150)));
    }
}

#[test]
fn an_infinite_lease_has_no_times() {
    let reply = discover().reply(&binding_with(|v4| v4.lease = INFINITE));
    assert_eq!(reply.get(51), Some(&DhcpOption::AddressLeaseTime(u32::MAX)));
    assert_eq!((reply.get(58), reply.get(59)), (None, None));
}

#[test]
fn the_lease_a_guest_asks_for_changes_nothing() {
    for wanted in [1, 86_400, u32::MAX] {
        let reply = discover().with(DhcpOption::AddressLeaseTime(wanted)).reply(&binding());
        assert_eq!(reply.get(51), Some(&DhcpOption::AddressLeaseTime(3600)));
    }
}

#[test]
fn the_port_is_the_identity_and_a_foreign_mac_gets_nothing() {
    let spoofed = Client { ethernet: OTHER_MAC, ..discover() };
    assert_eq!(spoofed.ignored(&binding()), Ignored::ForeignMac);
    let chaddr = discover().change(|message| message.set_chaddr(&OTHER_MAC.octets()));
    assert_eq!(chaddr.ignored(&binding()), Ignored::ForeignMac);
}

#[test]
fn a_guest_is_no_relay() {
    let relayed = discover().change(|message| message.set_giaddr(GATEWAY));
    assert_eq!(relayed.ignored(&binding()), Ignored::Relayed);
}

#[test]
fn rfc3046_2_2_relay_information_from_a_guest_is_not_echoed() {
    let information =
        DhcpOption::Unknown(dhcproto::v4::UnknownOption::new(82.into(), vec![1, 1, 9]));
    assert_eq!(discover().with(information).reply(&binding()).get(82), None);
}

#[test]
fn what_is_addressed_to_another_host_is_not_ours() {
    let elsewhere = Client { destination: FOREIGN, ..renewing(FOREIGN) };
    assert_eq!(elsewhere.ignored(&binding()), Ignored::OtherDestination);
    let subnet = Client { destination: [10, 0, 0, 255].into(), ..discover() };
    assert_eq!(subnet.reply(&binding()).kind, Kind::Offer);
}

#[test]
fn what_only_servers_send_is_ignored() {
    let reply = discover().change(|message| message.set_opcode(Opcode::BootReply));
    assert_eq!(reply.ignored(&binding()), Ignored::FromServer);
    for kind in [MessageType::Offer, MessageType::Ack, MessageType::Nak] {
        assert_eq!(client(kind).ignored(&binding()), Ignored::FromServer);
    }
    assert_eq!(client(MessageType::ForceRenew).ignored(&binding()), Ignored::UnknownType);
}

#[test]
fn other_hardware_than_ethernet_is_ignored() {
    let token_ring = discover().change(|message| message.set_htype(HType::IEEE802));
    assert_eq!(token_ring.ignored(&binding()), Ignored::NotEthernet);
    for length in [0, 7, 16] {
        let longer = discover().change(|message| message.set_chaddr(&vec![2; length]));
        assert_eq!(longer.ignored(&binding()), Ignored::NotEthernet, "hlen {length}");
    }
    let mut frame = discover().frame();
    frame[44] = 255;
    assert_eq!(Responder::answer(&binding(), &frame), Answer::Ignore(Ignored::NotEthernet));
}

#[test]
fn bootp_is_not_answered() {
    let mut frame = discover().frame();
    let cookie = 42 + 236;
    frame[cookie] ^= 1;
    assert_eq!(Responder::answer(&binding(), &frame), Answer::Ignore(Ignored::NotDhcp));
    let no_type = discover().change(|message| {
        message.opts_mut().remove(OptionCode::MessageType);
        message.opts_mut().insert(DhcpOption::Hostname("x".to_owned()));
        message
    });
    assert_eq!(no_type.ignored(&binding()), Ignored::NotDhcp);
}

#[test]
fn answers_come_from_the_router_where_there_is_one_and_from_one_mac_on_every_node() {
    let alone = discover().reply(&binding()).ethernet.0;
    assert_eq!(alone, discover().reply(&Binding { mac: MAC, ..binding() }).ethernet.0);
    assert!(!alone.is_multicast());
    let router_mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
    let ra: Ra = serde_json::from_value(serde_json::json!({
        "router_mac": router_mac, "managed": true, "other": true, "lifetime": 1800,
        "min_interval": 200, "max_interval": 600,
    }))
    .unwrap();
    let behind_router = Binding { ra: Some(ra), ..binding() };
    assert_eq!(discover().reply(&behind_router).ethernet.0, router_mac);
}
