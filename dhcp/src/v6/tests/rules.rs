//! Which reply, to which message, about which association.

use super::*;

const WITH_IA: [MessageType; 4] =
    [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind];

#[test]
fn a_solicit_gets_an_advertise_with_the_bound_address() {
    let reply = client(MessageType::Solicit).with(ia(7, &[])).reply(&binding());
    assert_eq!((reply.kind, reply.message.msg_type()), (Kind::Advertise, MessageType::Advertise));
    assert_eq!(reply.ia(7), Some(Ia::given()));
    assert_eq!(reply.get(7), Some(&DhcpOption::Preference(255)));
    assert_eq!(reply.get(1), Some(&DhcpOption::ClientId(CLIENT_DUID.to_vec())));
    assert_eq!(reply.get(2), Some(&DhcpOption::ServerId(SERVER_DUID.to_vec())));
}

#[test]
fn rfc9915_18_3_1_rapid_commit_turns_the_solicit_into_a_reply_that_says_so() {
    let solicit = client(MessageType::Solicit).with(ia(7, &[])).with(DhcpOption::RapidCommit);
    let reply = solicit.reply(&binding());
    assert_eq!((reply.kind, reply.message.msg_type()), (Kind::Reply, MessageType::Reply));
    assert_eq!(reply.get(14), Some(&DhcpOption::RapidCommit));
    assert_eq!(reply.ia(7), Some(Ia::given()));
    let without = client(MessageType::Solicit).with(ia(7, &[])).reply(&binding());
    assert_eq!(without.get(14), None);
}

#[test]
fn a_request_a_renew_and_a_rebind_are_answered_with_the_address() {
    for kind in [MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        let reply = client(kind).with(ia(7, &[ADDRESS])).reply(&binding());
        assert_eq!((reply.kind, reply.message.msg_type()), (Kind::Reply, MessageType::Reply));
        assert_eq!(reply.ia(7), Some(Ia::given()), "{kind:?}");
        assert_eq!(reply.get(7), None, "a preference is for advertisements");
    }
}

#[test]
fn an_iaid_of_zero_is_as_good_as_any() {
    for kind in WITH_IA {
        let reply = client(kind).with(ia(0, &[ADDRESS])).reply(&binding());
        assert_eq!(reply.ia(0), Some(Ia::given()), "{kind:?}");
    }
}

#[test]
fn every_association_is_answered_under_its_own_id() {
    let three = |kind| client(kind).with(ia(1, &[])).with(ia(2, &[ADDRESS])).with(ia(3, &[]));
    for (kind, status) in [
        (MessageType::Solicit, Status::NoAddrsAvail),
        (MessageType::Request, Status::NoAddrsAvail),
        (MessageType::Renew, Status::NoBinding),
        (MessageType::Rebind, Status::NoBinding),
    ] {
        let reply = three(kind).reply(&binding());
        assert_eq!(reply.ia(2), Some(Ia::given()), "the one that names it has it");
        assert_eq!(reply.ia(1), Some(Ia::refused(status)), "{kind:?}");
        assert_eq!(reply.ia(3), Some(Ia::refused(status)), "{kind:?}");
    }
}

#[test]
fn of_associations_that_name_nothing_the_first_gets_the_address() {
    // Put together by hand: `dhcproto` sorts.
    let parts =
        [client(MessageType::Solicit).message.to_vec(), ia(9, &[]).to_vec(), ia(4, &[]).to_vec()];
    let message = parts.map(Result::unwrap).concat();
    let answer = Responder::answer(&binding(), &frame(MAC, SERVERS, &message));
    let Answer::Send(Sent { frame: reply, kind, .. }) = answer else { panic!("{answer:?}") };
    let reply = Reply::read(&reply, kind);
    assert_eq!(reply.ia(9), Some(Ia::given()));
    assert_eq!(reply.ia(4), Some(Ia::refused(Status::NoAddrsAvail)));
}

#[test]
fn rfc9915_18_3_4_a_foreign_address_ends_at_once_when_it_is_renewed() {
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let reply = client(kind).with(ia(7, &[FOREIGN])).reply(&binding());
        let ia = reply.ia(7).unwrap();
        assert_eq!(ia.addresses, [(ADDRESS, 2250, 3600), (FOREIGN, 0, 0)], "{kind:?}");
        let both = client(kind).with(super::ia(1, &[ADDRESS])).with(super::ia(2, &[FOREIGN]));
        let ended = both.reply(&binding()).ia(2).unwrap();
        assert_eq!(ended.addresses, [(FOREIGN, 0, 0)]);
        assert_eq!(ended.status, Some(Status::NoBinding));
    }
}

#[test]
fn rfc9915_18_3_2_a_request_for_an_address_off_the_link_is_told_so() {
    let reply = client(MessageType::Request).with(ia(7, &[OFF_LINK])).reply(&binding());
    assert_eq!(reply.ia(7), Some(Ia::refused(Status::NotOnLink)));
    assert_eq!(reply.kind, Kind::ReplyNothing);
    // A wish in a Solicit is only a wish.
    let solicit = client(MessageType::Solicit).with(ia(7, &[OFF_LINK])).reply(&binding());
    assert_eq!(solicit.ia(7), Some(Ia::given()));
}

#[test]
fn prefixes_are_not_delegated_and_the_guest_is_told() {
    let pd = |id| {
        let prefix = IAPrefix {
            preferred_lifetime: 0,
            valid_lifetime: 0,
            prefix_len: 56,
            prefix_ip: Ipv6Addr::UNSPECIFIED,
            opts: Default::default(),
        };
        let opts = [DhcpOption::IAPrefix(prefix)].into_iter().collect();
        DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts })
    };
    let reply = client(MessageType::Solicit).with(ia(7, &[])).with(pd(8)).reply(&binding());
    assert_eq!(reply.ia(7), Some(Ia::given()));
    let Some(DhcpOption::IAPD(answer)) = reply.get(25) else { panic!("no IA_PD") };
    assert_eq!((answer.id, status(answer.opts.iter())), (8, Some(Status::NoPrefixAvail)));
}

#[test]
fn rfc9915_18_3_3_a_confirm_is_about_the_link_alone() {
    for (addresses, expected) in [
        (&[ADDRESS][..], Status::Success),
        (&[FOREIGN], Status::NotOnLink),
        (&[ADDRESS, OFF_LINK], Status::NotOnLink),
    ] {
        let reply = client(MessageType::Confirm).with(ia(7, addresses)).reply(&binding());
        assert_eq!((reply.kind, reply.status()), (Kind::Confirmed, Some(expected)));
        assert_eq!(reply.ia(7), None);
    }
    let empty = client(MessageType::Confirm).with(ia(7, &[]));
    assert_eq!(empty.ignored(&binding()), Ignored::NothingToConfirm);
}

#[test]
fn rfc9915_18_3_7_a_release_succeeds_and_foreign_associations_are_pointed_out() {
    for (kind, answered) in
        [(MessageType::Release, Kind::Released), (MessageType::Decline, Kind::Declined)]
    {
        let message = client(kind).with(ia(1, &[ADDRESS])).with(ia(2, &[FOREIGN]));
        let reply = message.reply(&binding());
        assert_eq!((reply.kind, reply.status()), (answered, Some(Status::Success)));
        assert_eq!(reply.ia(1), None);
        assert_eq!(reply.ia(2), Some(Ia::refused(Status::NoBinding)));
    }
}

#[test]
fn an_information_request_gets_options_and_no_address() {
    let request = client(MessageType::InformationRequest);
    for request in [request.clone(), request.without(OptionCode::ClientId)] {
        let reply = request.reply(&binding());
        assert_eq!((reply.kind, reply.message.msg_type()), (Kind::Information, MessageType::Reply));
        assert!(reply.get(23).is_some() && reply.get(3).is_none());
    }
}

#[test]
fn rfc9915_16_messages_without_a_client_identifier_are_discarded() {
    for kind in [
        MessageType::Solicit,
        MessageType::Request,
        MessageType::Confirm,
        MessageType::Renew,
        MessageType::Rebind,
        MessageType::Release,
        MessageType::Decline,
    ] {
        let nameless = client(kind).with(ia(7, &[ADDRESS])).without(OptionCode::ClientId);
        assert_eq!(nameless.ignored(&binding()), Ignored::Invalid, "{kind:?}");
    }
}

#[test]
fn rfc9915_16_a_server_identifier_is_forbidden_where_any_server_may_answer() {
    for kind in [MessageType::Solicit, MessageType::Confirm, MessageType::Rebind] {
        let named =
            client(kind).with(ia(7, &[ADDRESS])).with(DhcpOption::ServerId(SERVER_DUID.to_vec()));
        assert_eq!(named.ignored(&binding()), Ignored::Invalid, "{kind:?}");
    }
}

#[test]
fn rfc9915_16_a_server_identifier_must_be_there_and_ours_where_one_server_is_meant() {
    for kind in
        [MessageType::Request, MessageType::Renew, MessageType::Release, MessageType::Decline]
    {
        let nameless = client(kind).with(ia(7, &[ADDRESS])).without(OptionCode::ServerId);
        assert_eq!(nameless.ignored(&binding()), Ignored::Invalid, "{kind:?}");
        let other = nameless.with(DhcpOption::ServerId(CLIENT_DUID.to_vec()));
        assert_eq!(other.ignored(&binding()), Ignored::OtherServer, "{kind:?}");
    }
    let inform = client(MessageType::InformationRequest);
    let other = inform.clone().with(DhcpOption::ServerId(CLIENT_DUID.to_vec()));
    assert_eq!(other.ignored(&binding()), Ignored::OtherServer);
    let ours = inform.with(DhcpOption::ServerId(SERVER_DUID.to_vec()));
    assert_eq!(ours.reply(&binding()).kind, Kind::Information);
}

#[test]
fn rfc9915_16_12_an_information_request_with_an_association_is_discarded() {
    let request = client(MessageType::InformationRequest).with(ia(7, &[]));
    assert_eq!(request.ignored(&binding()), Ignored::Invalid);
}

#[test]
fn rfc9915_16_what_servers_and_relays_send_is_discarded() {
    for (kind, reason) in [
        (MessageType::Advertise, Ignored::FromServer),
        (MessageType::Reply, Ignored::FromServer),
        (MessageType::Reconfigure, Ignored::FromServer),
        (MessageType::RelayForw, Ignored::Relayed),
        (MessageType::RelayRepl, Ignored::Relayed),
        (MessageType::LeaseQuery, Ignored::UnknownType),
    ] {
        assert_eq!(client(kind).ignored(&binding()), reason);
    }
}

#[test]
fn rfc9915_16_a_message_to_a_unicast_address_is_discarded() {
    for destination in [ROUTER_MAC.link_local(), ADDRESS] {
        let unicast = Client { destination, ..client(MessageType::Solicit).with(ia(7, &[])) };
        assert_eq!(unicast.ignored(&binding()), Ignored::OtherDestination);
    }
}

#[test]
fn the_port_is_the_identity_and_neither_mac_nor_duid_can_change_it() {
    let spoofed = Client { ethernet: ROUTER_MAC, ..client(MessageType::Solicit).with(ia(7, &[])) };
    assert_eq!(spoofed.ignored(&binding()), Ignored::ForeignMac);
    let cloned = client(MessageType::Solicit)
        .without(OptionCode::ClientId)
        .with(DhcpOption::ClientId(vec![0, 4, 9, 9]))
        .with(ia(7, &[]));
    assert_eq!(cloned.reply(&binding()).ia(7), Some(Ia::given()));
}

#[test]
fn without_a_binding_dhcpv6_is_silent() {
    let unbound = Binding { v6: None, ..binding() };
    let solicit = client(MessageType::Solicit).with(ia(7, &[]));
    assert_eq!(solicit.ignored(&unbound), Ignored::NoBinding);
}

#[test]
fn rfc9915_18_3_8_only_a_decline_of_the_ports_address_is_a_conflict() {
    let foreign = client(MessageType::Decline).with(ia(2, &[FOREIGN])).reply(&binding());
    assert_eq!((foreign.kind, foreign.status()), (Kind::ReplyNothing, Some(Status::Success)));
    assert_eq!(foreign.ia(2), Some(Ia::refused(Status::NoBinding)));
}

#[test]
fn rfc9915_18_3_2_what_is_off_the_link_is_told_so_also_where_no_router_advertises() {
    let mut silent = Binding { ra: None, ..binding() };
    silent.v6.as_mut().unwrap().network = Some("fd00::/64".parse().unwrap());
    let reply = client(MessageType::Request).with(ia(7, &[OFF_LINK])).reply(&silent);
    assert_eq!(reply.ia(7), Some(Ia::refused(Status::NotOnLink)));
    let reply = client(MessageType::Request).with(ia(7, &[FOREIGN])).reply(&silent);
    assert_eq!(reply.ia(7), Some(Ia::given()));
}

#[test]
fn of_more_associations_than_fit_the_one_that_gets_the_address_is_answered() {
    let last = 90;
    let mut solicit = client(MessageType::Request);
    for id in 0..last {
        solicit = solicit.with(ia(id, &[]));
    }
    let reply = solicit.with(ia(last, &[ADDRESS])).reply(&binding());
    assert_eq!((reply.kind, reply.ia(last)), (Kind::Reply, Some(Ia::given())));
    assert!(reply.left_out > 0 && reply.bytes.len() <= 1232);
}

#[test]
fn many_foreign_addresses_do_not_crowd_out_the_ports_own() {
    let others = (0x100..0x1a0).map(|at| Ipv6Addr::from_bits(ADDRESS.to_bits() + at));
    let named: Vec<Ipv6Addr> = others.chain([ADDRESS]).collect();
    let reply = client(MessageType::Renew).with(ia(7, &named)).reply(&binding());
    let answer = reply.ia(7).unwrap();
    assert_eq!((reply.kind, answer.addresses[0]), (Kind::Reply, (ADDRESS, 2250, 3600)));
}

#[test]
fn rfc9915_11_1_a_duid_that_is_none_is_not_echoed() {
    let named = |length| {
        let duid = DhcpOption::ClientId(vec![1; length]);
        client(MessageType::Solicit).without(OptionCode::ClientId).with(duid).with(ia(7, &[]))
    };
    for length in [0, 2, 131] {
        assert_eq!(named(length).ignored(&binding()), Ignored::Invalid, "{length}");
    }
    for length in [3, 130] {
        assert_eq!(named(length).reply(&binding()).kind, Kind::Advertise, "{length}");
    }
}

#[test]
fn a_full_name_of_the_bindings_own_is_the_guests() {
    let mut named = binding();
    named.v6.as_mut().unwrap().fqdn = Some("web.example.com".to_owned());
    let reply = client(MessageType::Solicit).with(ia(7, &[])).wanting(&[39]).reply(&named);
    let wanted = [&[4][..], b"\x03web\x07example\x03com\0"].concat();
    let at = reply.bytes.windows(wanted.len()).position(|window| window == wanted);
    assert!(at.is_some(), "{:?}", reply.bytes);
}

#[test]
fn the_server_keeps_its_name_when_its_router_begins_or_ceases_to_advertise() {
    let mut with = binding();
    with.v6.as_mut().unwrap().server = None;
    let without = Binding { ra: None, ..with.clone() };
    let advertise = client(MessageType::Solicit).with(ia(7, &[])).reply(&with);
    let known = advertise.get(2).unwrap().clone();
    for now in [&with, &without] {
        let renew = client(MessageType::Renew).without(OptionCode::ServerId).with(known.clone());
        let reply = renew.with(ia(7, &[ADDRESS])).reply(now);
        assert_eq!((reply.kind, reply.get(2)), (Kind::Reply, Some(&known)));
    }
}

#[test]
fn the_server_is_the_same_wherever_the_guest_runs() {
    let mut without_router = Binding { ra: None, ..binding() };
    without_router.v6.as_mut().unwrap().server = None;
    let ask = |binding: &Binding| {
        let reply = client(MessageType::Solicit).with(ia(7, &[])).reply(binding);
        let Some(DhcpOption::ServerId(duid)) = reply.get(2) else { panic!("no server id") };
        duid.clone()
    };
    assert_eq!(ask(&binding()), SERVER_DUID);
    assert_eq!(ask(&without_router), ask(&without_router));
    let mut neighbour = without_router.clone();
    neighbour.v6.as_mut().unwrap().address = FOREIGN;
    assert_eq!(ask(&without_router), ask(&neighbour), "one server for a subnet");
}
