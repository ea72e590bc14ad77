//! The rules of RFC 4861 and RFC 8106, one sentence each.

use super::*;
use crate::answer::{Answer, Sent};
use crate::responder::Responder;

const MAC: MacAddr = MacAddr::new([2, 0, 0x5e, 0x10, 0, 5]);
const ROUTER_MAC: MacAddr = MacAddr::new([2, 0, 0x5e, 0, 0, 1]);

fn ra() -> Ra {
    Ra {
        prefixes: vec![Prefix {
            network: "fd00:0:0:1::/64".parse().unwrap(),
            on_link: true,
            autonomous: false,
        }],
        mtu: Some(1400),
        rdnss: vec!["fd00::53".parse().unwrap(), "fd00::54".parse().unwrap()],
        dnssl: vec!["example.com".to_owned()],
        ..Ra::new(ROUTER_MAC)
    }
}

fn binding() -> Binding {
    Binding { mac: MAC, hostname: None, v4: None, v6: None, ra: Some(ra()) }
}

/// A solicitation with these options, from the guest's link-local address.
fn solicitation(options: &[u8]) -> Vec<u8> {
    solicitation_from(MAC.link_local(), options)
}

fn solicitation_from(source: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let route = Route {
        source_mac: MAC,
        destination_mac: MacAddr::new([0x33, 0x33, 0, 0, 0, 2]),
        source,
        destination: ALL_ROUTERS,
    };
    route.icmp([&[133, 0, 0, 0, 0, 0, 0, 0][..], options].concat())
}

#[track_caller]
fn answered(frame: &[u8]) -> Vec<u8> {
    match Responder::answer(&binding(), frame) {
        Answer::Send(Sent { frame, kind: Kind::RouterAdvertisement, .. }) => frame,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn ignored(frame: &[u8]) -> Ignored {
    match Responder::answer(&binding(), frame) {
        Answer::Ignore(reason) => reason,
        Answer::Send(..) => panic!("answered"),
    }
}

fn address(frame: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from_octets(frame[at..at + 16].try_into().unwrap())
}

/// The bodies of the options of this type, without type and length.
fn options(frame: &[u8], kind: u8) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = &frame[54 + 16..];
    while let [have, length, ..] = rest {
        let (option, after) = rest.split_at(usize::from(*length) * 8);
        if *have == kind {
            found.push(&option[2..]);
        }
        rest = after;
    }
    found
}

fn advertisement(ra: &Ra) -> Vec<u8> {
    super::advertisement(ra, MAC)
}

fn withdrawal(ra: &Ra) -> Vec<u8> {
    super::withdrawal(ra, MAC).frame
}

#[test]
fn rfc4861_6_2_6_a_guest_with_an_address_is_answered_alone_and_at_once() {
    let frame = answered(&solicitation(&[]));
    assert_eq!((&frame[..6], address(&frame, 38)), (&MAC.octets()[..], MAC.link_local()));
}

#[test]
fn rfc4861_6_2_6_a_guest_without_an_address_is_answered_to_all_nodes() {
    let frame = answered(&solicitation_from(Ipv6Addr::UNSPECIFIED, &[]));
    // RFC 6085: the packet is for all nodes, the frame for this one.
    assert_eq!(frame[..6], MAC.octets());
    assert_eq!(address(&frame, 38), "ff02::1".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn rfc4861_4_2_the_sender_is_the_router_in_every_layer() {
    for frame in [answered(&solicitation(&[])), advertisement(&ra()), withdrawal(&ra())] {
        assert_eq!(frame[6..12], ROUTER_MAC.octets());
        assert_eq!(address(&frame, 22), ROUTER_MAC.link_local());
        assert_eq!(frame[21], 255, "hop limit");
        assert_eq!(options(&frame, 1), [ROUTER_MAC.octets()]);
        assert!(frame::icmp_checksum_holds(address(&frame, 22), address(&frame, 38), &frame[54..]));
    }
}

#[test]
fn rfc4861_4_2_the_flags_and_the_lifetime_are_those_of_the_binding() {
    let frame = advertisement(&ra());
    assert_eq!(
        frame[54..70],
        [134, 0, frame[56], frame[57], 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let neither = advertisement(&Ra { managed: false, other: false, ..ra() });
    assert_eq!(neither[59], 0);
    assert_eq!(advertisement(&Ra { managed: false, ..ra() })[59], 0x40);
}

#[test]
fn rfc4861_6_2_5_a_withdrawn_router_has_no_lifetime() {
    assert_eq!(withdrawal(&ra())[60..62], [0, 0]);
}

#[test]
fn rfc4861_4_6_2_a_prefix_has_its_flags_and_no_host_bits() {
    let frame = advertisement(&ra());
    let [prefix] = options(&frame, 3)[..] else { panic!("no prefix") };
    assert_eq!(prefix[..2], [64, 0x80]);
    assert_eq!(prefix[2..6], 2_592_000_u32.to_be_bytes());
    assert_eq!(prefix[6..10], 604_800_u32.to_be_bytes());
    assert_eq!(prefix[14..], "fd00:0:0:1::".parse::<Ipv6Addr>().unwrap().octets());

    let network = "fd00:0:0:1::77/64".parse().unwrap();
    let slaac = Prefix { network, on_link: false, autonomous: true };
    let frame = advertisement(&Ra { prefixes: vec![slaac], ..ra() });
    let [prefix] = options(&frame, 3)[..] else { panic!("no prefix") };
    assert_eq!(
        (prefix[1], &prefix[14..]),
        (0x40, &"fd00:0:0:1::".parse::<Ipv6Addr>().unwrap().octets()[..])
    );
}

#[test]
fn rfc4861_4_6_4_the_mtu_is_announced() {
    assert_eq!(options(&advertisement(&ra()), 5), [[0, 0, 0, 0, 5, 120]]);
    assert!(options(&advertisement(&Ra { mtu: None, ..ra() }), 5).is_empty());
}

#[test]
fn rfc8106_5_1_several_dns_servers_share_one_option_and_outlive_three_intervals() {
    let frame = advertisement(&ra());
    let [servers] = options(&frame, 25)[..] else { panic!("no RDNSS") };
    assert_eq!(servers.len(), 6 + 32);
    assert_eq!(servers[2..6], 1800_u32.to_be_bytes());
    assert_eq!(address(servers, 22), "fd00::54".parse::<Ipv6Addr>().unwrap());
    let frame = advertisement(&Ra { lifetime: 0, ..ra() });
    assert_eq!(options(&frame, 25)[0][2..6], 1800_u32.to_be_bytes());
}

#[test]
fn rfc8106_5_2_the_search_list_is_padded_to_eight_octets() {
    let frame = advertisement(&ra());
    let [search] = options(&frame, 31)[..] else { panic!("no DNSSL") };
    assert_eq!((search.len() + 2) % 8, 0);
    assert!(search[6..].starts_with(b"\x07example\x03com\0"));
    assert!(search[6 + 13..].iter().all(|octet| *octet == 0));
}

#[test]
fn rfc4191_2_2_the_preference_stands_between_the_flags_and_a_silent_router_has_none() {
    for (preference, bits) in
        [(Preference::High, 0x08), (Preference::Medium, 0), (Preference::Low, 0x18)]
    {
        let preferred = Ra { preference, ..ra() };
        assert_eq!(advertisement(&preferred)[59], 0xc0 | bits);
        assert_eq!(withdrawal(&preferred)[59], 0xc0);
        assert_eq!(advertisement(&Ra { lifetime: 0, ..preferred })[59], 0xc0);
    }
}

#[test]
fn rfc4191_2_3_a_route_has_no_more_octets_than_its_length_needs() {
    let route = |to: &str, preference| RouteInfo { to: to.parse().unwrap(), preference };
    let routes = vec![
        route("::/0", Preference::Medium),
        route("fd01::/48", Preference::High),
        route("fd02::7/128", Preference::Low),
    ];
    let advertised = advertisement(&Ra { routes: routes.clone(), ..ra() });
    let [all, high, low] = options(&advertised, 24)[..] else { panic!("not three routes") };
    assert_eq!(all, [0, 0, 0, 0, 7, 8]);
    assert_eq!(high, [48, 8, 0, 0, 7, 8, 0xfd, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!((low.len(), &low[..2], low[21]), (22, &[128, 0x18][..], 7));
    let withdrawn = withdrawal(&Ra { routes, ..ra() });
    assert_eq!(options(&withdrawn, 24)[0][2..6], [0; 4]);
}

#[test]
fn rfc8781_4_a_nat64_prefix_has_a_scaled_lifetime_and_the_code_of_its_length() {
    let prefix = |text: &str, lifetime| {
        let ra = Ra { pref64: vec![text.parse().unwrap()], lifetime, ..ra() };
        options(&advertisement(&ra), 38)[0].to_vec()
    };
    let well_known = prefix("64:ff9b::/96", 1800);
    assert_eq!(well_known[..2], (225_u16 << 3).to_be_bytes());
    assert_eq!(well_known[2..], [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (length, code) in [(32, 5), (40, 4), (48, 3), (56, 2), (64, 1)] {
        assert_eq!(prefix(&format!("fd64::/{length}"), 1800)[1] & 7, code);
    }
    assert_eq!(prefix("64:ff9b::/96", u16::MAX)[..2], [0xff, 0xf8], "the most there is");
}

#[test]
fn rfc8910_2_3_the_captive_portal_is_padded_with_zeros() {
    let captive_portal = Some("https://portal.example/api".to_owned());
    let frame = advertisement(&Ra { captive_portal, ..ra() });
    let [portal] = options(&frame, 37)[..] else { panic!("no portal") };
    assert_eq!((portal.len() + 2) % 8, 0);
    assert_eq!(&portal[..26], b"https://portal.example/api");
    assert!(portal[26..].iter().all(|octet| *octet == 0));
}

#[test]
fn rfc9463_6_1_each_encrypted_resolver_is_an_option_and_goes_with_the_router() {
    let resolver = |text: &str| text.to_owned().try_into().unwrap();
    let encrypted_dns =
        vec![resolver("1 dns.example.com fd00::53 alpn=dot"), resolver("2 dns.example.org")];
    let ra = Ra { encrypted_dns, ..ra() };
    let frame = advertisement(&ra);
    let [first, second] = options(&frame, 144)[..] else { panic!("not two resolvers") };
    let wanted = [
        &[0, 1, 0, 0, 7, 8, 0, 17][..],
        b"\x03dns\x07example\x03com\0",
        &[0, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53],
        &[0, 8, 0, 1, 0, 4, 3, b'd', b'o', b't'],
        &[0; 1],
    ]
    .concat();
    assert_eq!(first, wanted);
    assert_eq!(second[..8], [0, 2, 0, 0, 7, 8, 0, 17]);
    assert!(second[25..].iter().all(|octet| *octet == 0), "no addresses, no parameters");
    for gone in options(&withdrawal(&ra), 144) {
        assert_eq!(gone[2..6], [0; 4]);
    }
    let kept = Ra { encrypted_dns: ra.encrypted_dns[..1].to_vec(), ..ra.clone() };
    assert_eq!(gone(&ra, &kept).encrypted_dns, ra.encrypted_dns[1..]);
}

#[test]
fn rfc8106_5_1_a_withdrawn_router_takes_its_dns_servers_along() {
    assert_eq!(options(&withdrawal(&ra()), 25)[0][2..6], [0; 4]);
}

#[test]
fn rfc4861_6_2_1_the_lifetimes_of_prefixes_are_the_bindings() {
    let frame = advertisement(&Ra { valid: 7200, preferred: 3600, ..ra() });
    assert_eq!(options(&frame, 3)[0][2..10], [0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10]);
}

#[test]
fn what_the_binding_does_not_say_is_not_advertised() {
    let bare = Ra { prefixes: vec![], mtu: None, rdnss: vec![], dnssl: vec![], ..ra() };
    assert_eq!(advertisement(&bare).len(), 54 + 16 + 8);
    assert_eq!(
        Responder::answer(&Binding { ra: None, ..binding() }, &solicitation(&[])),
        Answer::Ignore(Ignored::NoBinding)
    );
}

#[test]
fn rfc4861_6_1_1_a_solicitation_from_beyond_the_link_is_discarded() {
    let mut frame = solicitation(&[]);
    frame[21] = 254;
    assert_eq!(ignored(&frame), Ignored::Invalid);
}

#[test]
fn rfc4861_6_1_1_a_wrong_checksum_or_code_is_discarded() {
    let mut frame = solicitation(&[]);
    frame[56] ^= 1;
    assert_eq!(ignored(&frame), Ignored::Checksum);
    let mut frame = solicitation(&[]);
    frame[55] = 1;
    assert_eq!(ignored(&frame), Ignored::Invalid);
}

#[test]
fn rfc4861_6_1_1_options_must_have_a_length_and_end_with_the_message() {
    assert_eq!(ignored(&solicitation(&[1, 0, 0, 0, 0, 0, 0, 0])), Ignored::Invalid);
    assert_eq!(ignored(&solicitation(&[1, 2, 0, 0, 0, 0, 0, 0])), Ignored::Malformed);
    assert_eq!(ignored(&solicitation(&[1])), Ignored::Malformed);
    answered(&solicitation(&[1, 1, 2, 0, 0x5e, 0x10, 0, 5]));
}

#[test]
fn rfc4861_6_1_1_a_guest_without_an_address_names_no_link_layer_address() {
    let frame = solicitation_from(Ipv6Addr::UNSPECIFIED, &[1, 1, 2, 0, 0x5e, 0x10, 0, 5]);
    assert_eq!(ignored(&frame), Ignored::Invalid);
}

#[test]
fn rfc4861_6_2_4_intervals_lie_within_their_bounds_and_the_first_ones_are_short() {
    for random in [0, 1, 17, u64::MAX / 3, u64::MAX] {
        let early = interval(&ra(), 1, random);
        assert!(early <= INITIAL_INTERVAL && early >= LEAST_INTERVAL);
        let later = interval(&ra(), 3, random);
        assert!((200..=600).contains(&later.as_secs()), "{later:?}");
    }
    assert_eq!(interval(&ra(), 9, 0), Duration::from_secs(200));
    assert_ne!(interval(&ra(), 9, 1000), interval(&ra(), 9, 0));
}

#[test]
fn a_router_that_does_not_speak_by_itself_is_heard_before_it_is_forgotten() {
    for (lifetime, least) in [(1800, 450), (u16::MAX, 16_383), (0, 16_383)] {
        let quiet = Ra { max_interval: 0, lifetime, ..ra() };
        assert_eq!(interval(&quiet, 0, 0), Duration::from_secs(least), "{lifetime}");
        for random in [17, u64::MAX / 3, u64::MAX] {
            let third = Duration::from_secs(least * 4 / 3 + 2);
            assert!(interval(&quiet, 0, random) <= third, "{lifetime}");
        }
    }
    let said = advertisement(&Ra { max_interval: 0, lifetime: 0, ..ra() });
    assert_eq!(options(&said, 25)[0][2..6], u32::from(u16::MAX).to_be_bytes());
}

#[test]
fn silly_bounds_are_mended() {
    let inverted = Ra { min_interval: 900, max_interval: 1, ..ra() };
    assert_eq!(interval(&inverted, 9, 12345), LEAST_INTERVAL);
}

#[test]
fn rfc4862_5_5_3_no_prefix_is_preferred_for_longer_than_it_is_valid() {
    let frame = advertisement(&Ra { valid: 86_400, ..ra() });
    assert_eq!(options(&frame, 3)[0][2..10], [0, 1, 0x51, 0x80, 0, 1, 0x51, 0x80]);
}

#[test]
fn what_does_not_fit_a_packet_is_left_out_and_counted() {
    let route = |at| RouteInfo {
        to: format!("fd01:{at:x}::/48").parse().unwrap(),
        preference: Preference::Medium,
    };
    let many = Ra { routes: (0..100).map(route).collect(), ..ra() };
    let sent = advertise(&many, Says::default(), (MAC, ALL_NODES));
    assert!(sent.frame.len() <= 14 + 1280);
    assert_eq!(options(&sent.frame, 24).len() + sent.left_out, 100);
    assert!(frame::icmp_checksum_holds(
        address(&sent.frame, 22),
        address(&sent.frame, 38),
        &sent.frame[54..]
    ));
}

#[test]
fn of_a_prefix_in_which_no_address_is_formed_any_more_that_is_over_and_no_more() {
    let prefix = |network: &str, autonomous| Prefix {
        network: network.parse().unwrap(),
        on_link: true,
        autonomous,
    };
    let said = Ra {
        prefixes: vec![prefix("fd00:0:0:1::/64", true), prefix("fd00:0:0:2::/64", false)],
        ..ra()
    };
    let gone = gone(&said, &ra());
    assert_eq!(
        gone.prefixes,
        [
            Prefix { on_link: false, ..prefix("fd00:0:0:1::/64", true) },
            prefix("fd00:0:0:2::/64", false)
        ]
    );
    let told = advertisement_after(&ra(), Some(&gone), MAC).frame;
    let told = options(&told, 3);
    assert_eq!(told.len(), 3);
    assert_eq!((told[1][1], &told[1][2..10]), (0x40, &[0; 8][..]));
}
