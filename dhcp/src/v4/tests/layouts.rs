//! Options: which, in which order, in which bytes, and in which field.

use dhcproto::v4::{DhcpOption, UnknownOption};

use super::*;
use net::options::{Clients, Coded};

use crate::binding::Route4;

fn route(to: &str, via: [u8; 4]) -> Route4 {
    Route4 { to: to.parse().unwrap(), via: via.into() }
}

#[test]
fn rfc2131_4_3_1_options_come_in_the_order_the_guest_asked_for_them() {
    let always = [53, 54, 51, 58, 59, 1];
    let reply = discover().wanting(&[119, 15, 6, 3, 12, 26, 28]).reply(&binding());
    assert_eq!(reply.codes(), [&always[..], &[119, 15, 6, 3, 12, 26, 28]].concat());
}

#[test]
fn what_the_guest_did_not_ask_for_is_left_out_and_nothing_comes_twice() {
    let reply = discover().wanting(&[3, 3, 42, 1, 3, 255, 0]).reply(&binding());
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 3]);
}

#[test]
fn a_guest_that_asks_for_nothing_in_particular_gets_all_there_is() {
    let reply = discover().reply(&binding());
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 3, 6, 26, 12, 15, 119, 28]);
}

#[test]
fn what_the_binding_does_not_say_is_not_sent_empty() {
    let bare = binding_with(|v4| {
        (v4.gateway, v4.domain, v4.mtu) = (None, Some(String::new()), None);
        (v4.dns, v4.search) = (Vec::new(), Vec::new());
    });
    let reply = discover().reply(&Binding { hostname: None, ..bare });
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 28]);
}

#[test]
fn every_option_says_what_the_binding_says() {
    let reply = discover().reply(&binding());
    for option in [
        DhcpOption::SubnetMask([255, 255, 255, 0].into()),
        DhcpOption::Router(vec![GATEWAY]),
        DhcpOption::DomainNameServer(vec![[10, 0, 0, 53].into()]),
        DhcpOption::Hostname("web".to_owned()),
        DhcpOption::DomainName("example.com".to_owned()),
        DhcpOption::InterfaceMtu(1400),
        DhcpOption::BroadcastAddr([10, 0, 0, 255].into()),
    ] {
        assert_eq!(reply.message.opts().get(OptionCode::from(&option)), Some(&option));
    }
}

#[test]
fn rfc3397_the_search_list_is_labels_and_not_text() {
    let search = vec!["eng.example.com".to_owned(), "example.org".to_owned()];
    let reply = discover().reply(&binding_with(|v4| v4.search = search));
    assert_eq!(value_of(&reply, 119), b"\x03eng\x07example\x03com\0\x07example\x03org\0");
    let Some(DhcpOption::DomainSearch(names)) = reply.get(119) else { panic!("no search list") };
    assert_eq!(names.len(), 2);
}

#[test]
fn rfc3442_routes_carry_the_default_route_and_only_significant_octets() {
    let routes = vec![
        route("192.0.2.128/25", [10, 0, 0, 2]),
        route("172.16.0.0/12", [10, 0, 0, 3]),
        route("10.0.0.9/32", [0, 0, 0, 0]),
    ];
    let reply = discover().wanting(&[121, 3]).reply(&binding_with(|v4| v4.routes = routes));
    let mut expected = vec![25, 192, 0, 2, 128, 10, 0, 0, 2];
    expected.extend([12, 172, 16, 10, 0, 0, 3]);
    expected.extend([32, 10, 0, 0, 9, 0, 0, 0, 0]);
    expected.extend([0, 10, 0, 0, 1]);
    assert_eq!(value_of(&reply, 121), expected);
}

#[test]
fn rfc3442_who_asks_for_routes_gets_no_router_beside_them() {
    let routed = |v4: &mut V4| {
        v4.routes = vec![route("192.0.2.0/24", [10, 0, 0, 2])];
        v4.options = vec![Coded {
            code: 33,
            value: "ip:10.9.0.5;10.0.0.2".parse().unwrap(),
            only: Clients::default(),
        }];
    };
    let asked = |codes: &[u8]| discover().wanting(codes).reply(&binding_with(routed)).codes();
    assert_eq!(asked(&[121, 3, 33, 6])[6..], [121, 6]);
    assert_eq!(asked(&[3, 33, 121])[6..], [121]);
    // Who does not ask for routes, or does not say, gets what it may know.
    assert_eq!(asked(&[3, 33])[6..], [3, 33]);
    let unasked = discover().reply(&binding_with(routed)).codes();
    assert!(unasked.contains(&121) && unasked.contains(&3));
    // There are none to stand for the router.
    assert_eq!(discover().wanting(&[121, 3]).reply(&binding()).codes()[6..], [3]);
}

#[test]
fn rfc3442_host_bits_of_a_destination_are_not_sent() {
    let routes = vec![route("192.0.2.77/24", [10, 0, 0, 2])];
    let reply = discover().wanting(&[121]).reply(&binding_with(|v4| v4.routes = routes));
    assert_eq!(value_of(&reply, 121), [24, 192, 0, 2, 10, 0, 0, 2, 0, 10, 0, 0, 1]);
}

#[test]
fn a_default_route_of_the_bindings_own_is_not_doubled() {
    let routes = vec![route("0.0.0.0/0", [10, 0, 0, 9])];
    let reply = discover().wanting(&[121]).reply(&binding_with(|v4| v4.routes = routes));
    assert_eq!(value_of(&reply, 121), [0, 10, 0, 0, 9]);
}

#[test]
fn without_routes_option_121_is_left_out() {
    let reply = discover().wanting(&[121, 3]).reply(&binding());
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 3]);
}

#[test]
fn a_router_off_the_link_gets_a_route_of_its_own() {
    let reply = discover().wanting(&[121]).reply(&binding_with(|v4| v4.prefix = 32));
    assert_eq!(value_of(&reply, 121), [32, 10, 0, 0, 1, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    assert_eq!(value_of(&reply, 1), [255, 255, 255, 255]);
}

#[test]
fn windows_gets_the_routes_under_the_code_it_asks_for() {
    let routes = || vec![route("192.0.2.0/24", [10, 0, 0, 2])];
    let reply = discover().wanting(&[249]).reply(&binding_with(|v4| v4.routes = routes()));
    assert_eq!(value_of(&reply, 249), [24, 192, 0, 2, 10, 0, 0, 2, 0, 10, 0, 0, 1]);
    let unasked = discover().reply(&binding_with(|v4| v4.routes = routes()));
    assert!(value_of(&unasked, 249).is_empty());
}

#[test]
fn rfc1542_2_1_no_reply_is_shorter_than_a_bootp_message() {
    let bare = discover().wanting(&[1]).reply(&binding());
    assert_eq!(bare.bytes.len(), 300);
    assert_eq!(renewing(FOREIGN).reply(&binding()).bytes.len(), 300);
}

/// A binding with more to say than 576 bytes can hold.
fn talkative() -> Binding {
    let routes = (0..30).map(|index| route(&format!("192.168.{index}.0/24"), [10, 0, 0, 2]));
    let routes: Vec<Route4> = routes.collect();
    binding_with(|v4| v4.routes = routes)
}

#[test]
fn rfc2131_2_a_guest_that_does_not_say_is_sent_no_more_than_576_bytes() {
    let reply = discover().reply(&talkative());
    assert!(reply.bytes.len() <= 576 - 28, "{}", reply.bytes.len());
}

#[test]
fn rfc2132_9_3_what_does_not_fit_goes_into_the_file_and_sname_fields() {
    let reply = discover().wanting(&[6, 121, 12, 15, 119, 26]).reply(&talkative());
    // 121 takes 247 of the 304 bytes there are; what follows still finds a place.
    assert!(reply.codes().contains(&121));
    assert_eq!(reply.codes()[..2], [53, 52], "the type first, then the overload");
    assert_eq!(value_of(&reply, 52), [1]);
    let file = codes(&reply.bytes[108..236]);
    let mut all = [reply.codes(), file.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, [1, 6, 12, 15, 26, 51, 52, 53, 54, 58, 59, 119, 121]);
    assert!(!file.is_empty() && reply.bytes[108..236].contains(&255));
}

#[test]
fn rfc3396_an_option_that_no_field_holds_is_split_over_them() {
    let routes = (0..50).map(|at| route(&format!("192.168.{at}.0/24"), [10, 0, 0, 2])).collect();
    let reply = discover().wanting(&[121]).reply(&binding_with(|v4| v4.routes = routes));
    assert_eq!(reply.left_out, 0);
    assert_eq!(value_of(&reply, 52), [3]);
    // The parts in the order in which a client reads them.
    let fields = [&reply.bytes[240..], &reply.bytes[108..236], &reply.bytes[44..108]];
    let value: Vec<u8> = fields.iter().flat_map(|field| value_in(field, 121)).collect();
    assert_eq!(value.len(), 50 * 8 + 5);
    assert!(value.starts_with(&[24, 192, 168, 0, 10, 0, 0, 2, 24, 192, 168, 1]));
    assert!(value.ends_with(&[0, 10, 0, 0, 1]));
}

#[test]
fn what_fits_nowhere_is_left_out_whole_and_counted() {
    let routes = (0..70).map(|at| route(&format!("192.168.{at}.0/24"), [10, 0, 0, 2])).collect();
    let reply = discover().wanting(&[121, 6]).reply(&binding_with(|v4| v4.routes = routes));
    assert_eq!((reply.left_out, reply.codes().contains(&121)), (1, false));
    assert!(reply.codes().contains(&6));
}

#[test]
fn routes_that_fit_nowhere_leave_the_guest_its_router() {
    let routes = (0..70).map(|at| route(&format!("192.168.{at}.0/24"), [10, 0, 0, 2])).collect();
    let binding = binding_with(|v4| v4.routes = routes);
    for wanted in [&[1, 3, 6, 121][..], &[121, 3, 33, 6], &[1, 28, 121, 15, 6, 12, 3, 119]] {
        let reply = discover().wanting(wanted).reply(&binding);
        assert_eq!(value_of(&reply, 3), [10, 0, 0, 1], "{wanted:?}");
        assert_eq!((reply.left_out, reply.codes().contains(&121)), (1, false), "{wanted:?}");
    }
}

#[test]
fn rfc2132_9_3_the_boot_file_keeps_its_place_while_there_is_another() {
    let rom =
        discover().wanting(&[121, 15, 67]).with(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
    let boots = |count: u8| {
        rom.reply(&binding_with(|v4| {
            let via = [10, 0, 0, 2];
            v4.routes = (0..count).map(|at| route(&format!("192.168.{at}.0/24"), via)).collect();
            v4.options = vec![Coded {
                code: 67,
                value: "text:pxelinux.0".parse().unwrap(),
                only: Clients::default(),
            }];
        }))
    };
    let some = boots(31);
    assert_eq!((value_of(&some, 52), some.left_out), (vec![2], 0));
    assert!(some.bytes[108..].starts_with(b"pxelinux.0\0"));
    // With no other place it goes, and stands among the options.
    let more = boots(40);
    assert_eq!((value_of(&more, 52)[0] & 1, more.left_out), (1, 0));
    let all = [value_of(&more, 67), value_in(&more.bytes[108..236], 67)].concat();
    let all = [all, value_in(&more.bytes[44..108], 67)].concat();
    assert_eq!(all, b"pxelinux.0");
}

#[test]
fn rfc2132_9_10_a_guest_that_takes_more_gets_it_all_in_one_field() {
    let larger = talkative();
    let reply = discover().with(DhcpOption::MaxMessageSize(1400)).reply(&larger);
    assert!(value_of(&reply, 52).is_empty());
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 121, 3, 6, 26, 12, 15, 119, 28]);
}

#[test]
fn rfc2132_9_10_neither_a_silly_size_nor_one_beyond_the_mtu_is_believed() {
    for (size, most) in [(0, 576), (100, 576), (u16::MAX, 1400)] {
        let reply = discover().with(DhcpOption::MaxMessageSize(size)).reply(&talkative());
        assert!(reply.bytes.len() + 28 <= most, "{} of {most}", reply.bytes.len());
    }
}

#[test]
fn rfc3396_a_long_option_is_sent_in_parts() {
    let many =
        (0..40).map(|index| route(&format!("192.168.{index}.0/24"), [10, 0, 0, 2])).collect();
    let request = discover().wanting(&[121]).with(DhcpOption::MaxMessageSize(1400));
    let reply = request.reply(&binding_with(|v4| v4.routes = many));
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 121, 121]);
    let Some(DhcpOption::ClasslessStaticRoute(routes)) = reply.get(121) else {
        panic!("no routes")
    };
    assert_eq!(routes.len(), 41);
}

#[test]
fn rfc3396_parts_of_an_option_are_joined_before_they_are_read() {
    // 55 in two parts, the second in the file field.
    let mut message = discover().message.to_vec().unwrap();
    message.truncate(240);
    message.extend([53, 1, 1, 52, 1, 1, 55, 1, 15, 255]);
    message[108..113].copy_from_slice(&[55, 2, 6, 3, 255]);
    let Answer::Send(Sent { frame, kind, .. }) =
        Responder::answer(&binding(), &frame(MAC, NONE, Ipv4Addr::BROADCAST, &message))
    else {
        panic!("no answer")
    };
    assert_eq!(Reply::read(&frame, kind).codes(), [53, 54, 51, 58, 59, 1, 15, 6, 3]);
}

#[test]
fn an_option_cut_off_makes_the_message_malformed() {
    for tail in [&[55, 9, 1][..], &[55], &[50, 3, 10, 0, 0], &[57, 1, 5], &[53, 0]] {
        let mut message = discover().message.to_vec().unwrap();
        message.truncate(240);
        if !tail.starts_with(&[53]) {
            message.extend([53, 1, 1]);
        }
        message.extend(tail);
        let frame = frame(MAC, NONE, Ipv4Addr::BROADCAST, &message);
        assert_eq!(Responder::answer(&binding(), &frame), Answer::Ignore(Ignored::Malformed));
    }
}

#[test]
fn an_option_field_without_an_end_is_read_all_the_same() {
    let mut message = discover().message.to_vec().unwrap();
    message.truncate(240);
    message.extend([0, 0, 53, 1, 1, 0]);
    let frame = frame(MAC, NONE, Ipv4Addr::BROADCAST, &message);
    assert!(matches!(
        Responder::answer(&binding(), &frame),
        Answer::Send(Sent { kind: Kind::Offer, .. })
    ));
}

#[test]
fn a_client_identifier_of_any_length_cannot_break_the_reply() {
    for length in [0, 1, 255, 256, 300, 1000] {
        let id = UnknownOption::new(61.into(), vec![7; length]);
        let reply = discover().with(DhcpOption::Unknown(id)).reply(&binding());
        assert!(reply.bytes.len() <= 548);
        assert_eq!(reply.message.yiaddr(), ADDRESS);
    }
}
