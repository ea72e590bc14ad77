//! Options that a binding brings by number, and what some clients are told besides.

use dhcproto::v4::{DhcpOption, UnknownOption};
use net::options::{Clients, Coded};

use super::*;

fn coded(code: u16, value: &str) -> Coded {
    Coded { code, value: value.parse().unwrap(), only: Clients::default() }
}

fn only(code: u16, value: &str, arch: &[u16], ipxe: Option<bool>) -> Coded {
    Coded { only: Clients { arch: arch.to_vec(), ipxe }, ..coded(code, value) }
}

fn with_options(options: &[Coded]) -> Binding {
    binding_with(|v4| v4.options = options.to_vec())
}

fn raw(code: u8, value: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code.into(), value.to_vec()))
}

/// A boot ROM of this architecture.
fn rom(arch: u16) -> Client {
    discover().with(raw(93, &arch.to_be_bytes())).with(raw(60, b"PXEClient:Arch:00007"))
}

fn text_of(field: &[u8]) -> &str {
    std::str::from_utf8(field.split(|octet| *octet == 0).next().unwrap()).unwrap()
}

fn file(reply: &Reply) -> &str {
    text_of(&reply.bytes[108..236])
}

#[test]
fn rfc2132_an_option_by_number_says_what_the_binding_says() {
    for (code, value, bytes) in [
        (2, "i32:-18000", &[0xff, 0xff, 0xb9, 0xb0][..]),
        (19, "bool:true", &[1]),
        (23, "u8:64", &[64]),
        (33, "ip:10.9.0.5;10.0.0.2", &[10, 9, 0, 5, 10, 0, 0, 2]),
        (35, "u32:60", &[0, 0, 0, 60]),
        (42, "ip:10.0.0.2;10.0.0.3", &[10, 0, 0, 2, 10, 0, 0, 3]),
        (43, "hex:0104", &[1, 4]),
        (66, "text:boot.example", b"boot.example"),
        (100, "text:CET-1", b"CET-1"),
        (114, "text:https://portal.example", b"https://portal.example"),
        (224, "u16:258", &[1, 2]),
        (249, "routes:10.9.0.0/16,10.0.0.2", &[16, 10, 9, 10, 0, 0, 2]),
    ] {
        let reply = discover()
            .wanting(&[u8::try_from(code).unwrap()])
            .reply(&with_options(&[coded(code, value)]));
        assert_eq!(value_of(&reply, u8::try_from(code).unwrap()), bytes, "option {code}");
    }
}

#[test]
fn rfc3361_3_sip_servers_say_whether_they_are_names_or_addresses() {
    let sip = |value: &str| {
        value_of(&discover().wanting(&[120]).reply(&with_options(&[coded(120, value)])), 120)
    };
    assert_eq!(sip("ip:10.0.0.2"), [1, 10, 0, 0, 2]);
    assert_eq!(sip("names:sip.example"), b"\0\x03sip\x07example\0");
}

#[test]
fn an_option_by_number_takes_the_place_of_what_the_fields_say() {
    let reply = discover().reply(&with_options(&[
        coded(1, "ip:255.255.255.255"),
        coded(6, "ip:10.0.0.99"),
        coded(28, "ip:10.255.255.255"),
    ]));
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 3, 6, 26, 12, 15, 119, 28]);
    assert_eq!(value_of(&reply, 1), [255; 4]);
    assert_eq!(value_of(&reply, 6), [10, 0, 0, 99]);
    assert_eq!(value_of(&reply, 28), [10, 255, 255, 255]);
}

#[test]
fn what_the_server_says_of_itself_no_option_by_number_can_change() {
    for code in [50, 51, 52, 53, 54, 61, 80, 82, 300] {
        let odd = with_options(&[coded(code, "hex:00")]);
        assert_eq!(discover().reply(&odd).codes(), discover().reply(&binding()).codes());
    }
}

#[test]
fn what_is_always_sent_comes_unasked_and_once() {
    let mut binding = with_options(&[coded(42, "ip:10.0.0.2"), coded(43, "hex:01")]);
    binding.v4.as_mut().unwrap().always = vec![42, 6, 99];
    assert_eq!(discover().wanting(&[3]).reply(&binding).codes(), [53, 54, 51, 58, 59, 1, 3, 42, 6]);
    let asked = discover().wanting(&[6, 42]).reply(&binding);
    assert_eq!(asked.codes(), [53, 54, 51, 58, 59, 1, 6, 42]);
}

#[test]
fn rfc8925_3_2_ipv6_only_is_said_to_those_who_ask_for_it_alone() {
    let mut binding = with_options(&[coded(108, "u32:1800")]);
    binding.v4.as_mut().unwrap().always = vec![108];
    assert_eq!(value_of(&discover().wanting(&[108]).reply(&binding), 108), [0, 0, 7, 8]);
    for unaware in [discover(), discover().wanting(&[1, 3, 6])] {
        assert_eq!(unaware.reply(&binding).get(108), None);
    }
}

#[test]
fn rfc4039_3_1_rapid_commit_turns_the_discover_into_an_ack_that_says_so() {
    let rapid = discover().with(raw(80, &[]));
    let mut bytes = rapid.message.to_vec().unwrap();
    if !bytes.windows(2).any(|pair| pair == [80, 0]) {
        // `dhcproto` leaves out what has no value.
        bytes.splice(240..240, [80, 0]);
    }
    let answer = Responder::answer(&binding(), &frame(MAC, NONE, Ipv4Addr::BROADCAST, &bytes));
    let Answer::Send(Sent { frame, kind, .. }) = answer else { panic!("{answer:?}") };
    let reply = Reply::read(&frame, kind);
    assert_eq!((reply.kind, reply.message.yiaddr()), (Kind::Ack, ADDRESS));
    assert_eq!(reply.codes()[..5], [53, 80, 54, 51, 58]);
    assert_eq!(discover().reply(&binding()).get(80), None);
}

#[test]
fn rfc8925_a_guest_that_may_do_without_ipv4_is_offered_an_address_and_not_given_it() {
    let mut bytes = discover().wanting(&[108]).message.to_vec().unwrap();
    bytes.splice(240..240, [80, 0]);
    let frame = frame(MAC, NONE, Ipv4Addr::BROADCAST, &bytes);
    let answer = |binding: &Binding| match Responder::answer(binding, &frame) {
        Answer::Send(Sent { kind, .. }) => kind,
        Answer::Ignore(reason) => panic!("{reason}"),
    };
    assert_eq!(answer(&with_options(&[coded(108, "u32:0")])), Kind::Offer);
    assert_eq!(answer(&binding()), Kind::Ack);
}

#[test]
fn rfc4702_4_the_full_name_is_answered_in_its_form_and_dns_is_left_to_the_guest() {
    let asked = |value: &[u8]| {
        value_of(&discover().wanting(&[1]).with(raw(81, value)).reply(&binding()), 81)
    };
    // E: labels. S: the guest wants us to update, which is overridden (O) and denied (N).
    assert_eq!(asked(b"\x05\0\0\x01x\0"), b"\x0e\xff\xff\x03web\x07example\x03com\0");
    assert_eq!(asked(b"\x04\0\0\x01x\0"), b"\x0c\xff\xff\x03web\x07example\x03com\0");
    assert_eq!(asked(b"\x00\0\0x"), b"\x08\xff\xffweb.example.com");
    // Bits that no one has defined, and an option too short to have flags.
    assert_eq!(asked(b"\xf0\0\0"), b"\x08\xff\xffweb.example.com");
    assert!(asked(b"\0\0").is_empty());
    let nameless = Binding { hostname: None, ..binding() };
    let reply = discover().with(raw(81, b"\x04\0\0\x01x\0")).reply(&nameless);
    assert_eq!(value_of(&reply, 81), b"\x0c\xff\xff\x01x\0");
    assert_eq!(discover().reply(&binding()).get(81), None, "only who sends it gets it");
}

#[test]
fn rfc2131_4_3_1_the_boot_file_and_its_server_are_in_the_header_too() {
    let mut binding = with_options(&[coded(66, "text:boot.example"), coded(67, "text:pxelinux.0")]);
    binding.v4.as_mut().unwrap().next_server = Some([10, 0, 0, 2].into());
    for request in [discover().wanting(&[1]), selecting(ADDRESS).wanting(&[1])] {
        let reply = request.reply(&binding);
        assert_eq!(reply.message.siaddr(), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!((file(&reply), text_of(&reply.bytes[44..108])), ("pxelinux.0", "boot.example"));
        assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1], "asked for neither");
    }
    let nak = renewing(FOREIGN).reply(&binding);
    assert_eq!((nak.message.siaddr(), file(&nak)), (NONE, ""));
}

#[test]
fn a_boot_file_too_long_for_the_header_is_an_option_alone() {
    let long = format!("text:http://{}", "x".repeat(300));
    let reply = discover()
        .with(DhcpOption::MaxMessageSize(1400))
        .wanting(&[67])
        .reply(&with_options(&[coded(67, &long)]));
    assert_eq!(file(&reply), "");
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 67, 67], "RFC 3396");
    assert_eq!(value_of(&reply, 67).len(), 307);
}

/// The boot files of a subnet that boots everything.
fn boot_files() -> Binding {
    with_options(&[
        only(67, "text:bios", &[0], Some(false)),
        only(67, "text:efi", &[7, 9], Some(false)),
        only(67, "text:http://boot/x64.efi", &[16], Some(false)),
        only(67, "text:menu", &[], Some(true)),
        only(67, "text:other", &[], Some(false)),
    ])
}

#[test]
fn rfc4578_2_1_a_boot_rom_gets_the_file_of_its_architecture() {
    for (arch, wanted) in [(0, "bios"), (7, "efi"), (9, "efi"), (11, "other")] {
        let reply = rom(arch).wanting(&[1]).reply(&boot_files());
        assert_eq!(file(&reply), wanted);
        assert_eq!(value_of(&reply, 67), wanted.as_bytes(), "unasked, since it boots");
    }
    // RFC 4578: the first of several that has a file.
    let several = discover().with(raw(93, &[0, 11, 0, 7])).reply(&boot_files());
    assert_eq!(file(&several), "efi");
}

#[test]
fn rfc3004_ipxe_is_known_by_its_user_class_or_its_option_and_gets_its_script() {
    for mark in [raw(77, b"iPXE"), raw(77, b"\x04iPXE"), raw(175, &[1])] {
        assert_eq!(file(&rom(7).with(mark).reply(&boot_files())), "menu");
    }
    assert_eq!(file(&rom(7).with(raw(77, b"gPXE")).reply(&boot_files())), "efi");
}

#[test]
fn uefi_http_boot_is_answered_as_the_class_that_it_is() {
    let http =
        discover().with(raw(93, &[0, 16])).with(raw(60, b"HTTPClient:Arch:00016:UNDI:003001"));
    let reply = http.reply(&boot_files());
    assert_eq!(value_of(&reply, 60), b"HTTPClient");
    assert_eq!(value_of(&reply, 67), b"http://boot/x64.efi");
    assert_eq!(rom(7).reply(&boot_files()).get(60), None);
    let own = with_options(&[coded(60, "text:PXEClient")]);
    assert_eq!(value_of(&rom(7).wanting(&[1]).reply(&own), 60), b"PXEClient");
}

#[test]
fn rfc4578_2_3_the_machine_identifier_is_echoed() {
    let reply = rom(7).with(raw(97, &[0; 17])).reply(&binding());
    assert_eq!(value_of(&reply, 97), [0; 17]);
}

#[test]
fn an_architecture_cut_in_half_is_no_architecture() {
    assert_eq!(file(&discover().with(raw(93, &[7])).reply(&boot_files())), "other");
}

#[test]
fn rfc2132_9_3_fields_that_hold_options_hold_no_boot_file() {
    let mut talkative = boot_files();
    let v4 = talkative.v4.as_mut().unwrap();
    v4.options.push(coded(43, &format!("hex:{}", "00".repeat(200))));
    v4.options.push(coded(17, &format!("text:{}", "x".repeat(140))));
    let reply = rom(0).wanting(&[43, 17]).reply(&talkative);
    assert!(!value_of(&reply, 52).is_empty());
    assert_eq!(codes(&reply.bytes[108..236]), [17, 67]);
    assert_eq!(value_in(&reply.bytes[108..236], 67), b"bios");
}

#[test]
fn rfc2131_4_4_5_other_times_than_a_half_and_seven_eighths_are_the_bindings() {
    let reply = discover().reply(&binding_with(|v4| (v4.t1, v4.t2) = (Some(60), Some(600))));
    assert_eq!(reply.get(58), Some(&DhcpOption::Renewal(60)));
    assert_eq!(reply.get(59), Some(&DhcpOption::Rebinding(600)));
}

#[test]
fn a_guest_that_hears_broadcasts_only_need_not_say_so() {
    let deaf = binding_with(|v4| v4.broadcast = true);
    let reply = discover().reply(&deaf);
    assert_eq!((reply.destination, reply.ethernet.1), (Ipv4Addr::BROADCAST, MacAddr::BROADCAST));
    assert!(!reply.message.flags().broadcast(), "the flags are the guest's own");
    assert_eq!(renewing(ADDRESS).reply(&deaf).destination, ADDRESS, "it has an address");
}
