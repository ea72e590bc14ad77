//! Options that a binding brings by number, and what some clients are told besides.

use dhcproto::v6::UnknownOption;
use net::options::{Clients, Coded};

use super::options::codes;
use super::*;

fn coded(code: u16, value: &str) -> Coded {
    only(code, value, &[], None)
}

fn only(code: u16, value: &str, arch: &[u16], ipxe: Option<bool>) -> Coded {
    Coded { code, value: value.parse().unwrap(), only: Clients { arch: arch.to_vec(), ipxe } }
}

fn binding_with(change: impl FnOnce(&mut V6)) -> Binding {
    let mut binding = binding();
    change(binding.v6.as_mut().unwrap());
    binding
}

fn with_options(options: &[Coded]) -> Binding {
    binding_with(|v6| v6.options = options.to_vec())
}

fn raw(code: u16, value: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code.into(), value.to_vec()))
}

fn solicit() -> Client {
    client(MessageType::Solicit).with(ia(7, &[]))
}

/// The values of the options with this code, as sent.
fn values(reply: &Reply, wanted: u16) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut rest = &reply.bytes[4..];
    while let [a, b, c, d, tail @ ..] = rest {
        let (value, after) = tail.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        if u16::from_be_bytes([*a, *b]) == wanted {
            values.push(value.to_vec());
        }
        rest = after;
    }
    values
}

#[test]
fn an_option_by_number_is_sent_to_who_asks_or_does_not_say() {
    let binding = with_options(&[coded(31, "ip:fd00::2"), coded(23, "ip:fd00::99")]);
    let asked = solicit().wanting(&[31, 23]).reply(&binding);
    assert_eq!(codes(&asked), [1, 2, 7, 3, 31, 23]);
    assert_eq!(values(&asked, 31), ["fd00::2".parse::<Ipv6Addr>().unwrap().octets()]);
    assert_eq!(values(&asked, 23), ["fd00::99".parse::<Ipv6Addr>().unwrap().octets()]);
    assert_eq!(codes(&solicit().reply(&binding)), [1, 2, 7, 3, 23, 24, 31]);
    assert_eq!(codes(&solicit().wanting(&[24]).reply(&binding)), [1, 2, 7, 3, 24]);
}

#[test]
fn what_the_server_says_of_itself_no_option_by_number_can_change() {
    for code in [1, 2, 3, 7, 13, 14, 25, 82] {
        let odd = with_options(&[coded(code, "hex:00")]);
        assert_eq!(codes(&solicit().reply(&odd)), codes(&solicit().reply(&binding())));
    }
}

#[test]
fn rfc5908_4_each_time_server_has_an_option_of_its_own() {
    let addresses = with_options(&[coded(56, "ip:fd00::2;fd00::3")]);
    let reply = solicit().wanting(&[56]).reply(&addresses);
    let server =
        |text: &str| [&[0, 1, 0, 16][..], &text.parse::<Ipv6Addr>().unwrap().octets()].concat();
    assert_eq!(values(&reply, 56), [server("fd00::2"), server("fd00::3")]);
    let names = with_options(&[coded(56, "names:ntp.example")]);
    let reply = solicit().wanting(&[56]).reply(&names);
    assert_eq!(values(&reply, 56), [b"\0\x03\0\x0d\x03ntp\x07example\0".to_vec()]);
}

#[test]
fn rfc5970_3_a_boot_rom_gets_the_url_of_its_architecture() {
    let binding = with_options(&[
        only(59, "text:tftp://boot/x64.efi", &[7, 9], Some(false)),
        only(59, "text:http://boot/x64.efi", &[16], Some(false)),
        only(59, "text:http://boot/menu", &[], Some(true)),
    ]);
    let url = |client: &Client| values(&client.reply(&binding), 59).concat();
    let rom = |arch: u8| solicit().with(raw(61, &[0, arch])).wanting(&[59]);
    assert_eq!(url(&rom(7)), b"tftp://boot/x64.efi");
    assert_eq!(url(&rom(11)), b"");
    assert_eq!(url(&rom(7).with(raw(15, b"\0\x04iPXE"))), b"http://boot/menu");
    assert_eq!(url(&rom(7).with(raw(15, b"\0\x01x\0\x04iPXE"))), b"http://boot/menu");
    assert_eq!(url(&rom(7).with(raw(15, b"\0\x09iPXE"))), b"tftp://boot/x64.efi", "cut off");
    let http = rom(16).wanting(&[]).with(raw(16, b"\0\0\x01\x57\0\x10HTTPClient:Arch:"));
    assert_eq!(url(&http), b"http://boot/x64.efi", "unasked, since it boots");
    assert_eq!(values(&http.reply(&binding), 16), [b"\0\0\x01\x57\0\x0aHTTPClient".to_vec()]);
}

#[test]
fn rfc4704_6_the_full_name_is_answered_and_dns_is_left_to_the_guest() {
    let named = Binding { hostname: Some("web".to_owned()), ..binding() };
    let asked = |value: &[u8]| values(&solicit().with(raw(39, value)).reply(&named), 39).concat();
    assert_eq!(asked(b"\x01\x01x\0"), b"\x06\x03web\x03eng\x07example\x03com\0");
    assert_eq!(asked(b"\x00\x01x\0"), b"\x04\x03web\x03eng\x07example\x03com\0");
    assert!(asked(b"").is_empty());
    assert!(values(&solicit().reply(&named), 39).is_empty(), "only who sends it gets it");
    let not_wanted = solicit().with(raw(39, b"\0\x01x\0")).wanting(&[23]).reply(&named);
    assert!(values(&not_wanted, 39).is_empty());
    let nameless = solicit().with(raw(39, b"\0\x01x\0")).reply(&binding());
    assert_eq!(values(&nameless, 39).concat(), b"\x04\x01x\0");
}

#[test]
fn a_stateless_server_gives_options_and_no_addresses() {
    let stateless = binding_with(|v6| v6.stateless = true);
    for (kind, status) in [
        (MessageType::Solicit, Status::NoAddrsAvail),
        (MessageType::Request, Status::NoAddrsAvail),
        (MessageType::Renew, Status::NoBinding),
    ] {
        let reply = client(kind).with(ia(7, &[])).reply(&stateless);
        assert_eq!(reply.ia(7), Some(Ia::refused(status)), "{kind:?}");
    }
    let options = client(MessageType::InformationRequest).reply(&stateless);
    assert!(options.get(23).is_some());
}

#[test]
fn lifetimes_refresh_time_and_server_are_the_bindings_where_it_says() {
    let other = MacAddr::new([2, 0, 0, 0, 0, 9]);
    let binding = binding_with(|v6| {
        (v6.preferred, v6.refresh, v6.server) = (Some(1000), Some(7200), Some(other));
    });
    let reply = solicit().reply(&binding);
    let ia = reply.ia(7).unwrap();
    assert_eq!((ia.t1, ia.t2, ia.addresses), (500, 800, vec![(ADDRESS, 1000, 3600)]));
    assert_eq!(values(&reply, 2), [[&[0, 3, 0, 1][..], &other.octets()].concat()]);
    let inform = client(MessageType::InformationRequest).wanting(&[32]).reply(&binding);
    assert_eq!(values(&inform, 32), [7200_u32.to_be_bytes()]);
    let silly = binding_with(|v6| v6.preferred = Some(9000));
    assert_eq!(solicit().reply(&silly).ia(7).unwrap().addresses, [(ADDRESS, 3600, 3600)]);
}

#[test]
fn rfc8200_5_no_reply_is_longer_than_what_every_link_carries() {
    let long = format!("hex:{}", "00".repeat(1150));
    let reply = solicit().reply(&with_options(&[coded(65000, &long), coded(31, "ip:fd00::2")]));
    assert_eq!(codes(&reply), [1, 2, 7, 3, 23, 24, 31], "what does not fit is left out");
    assert!(reply.bytes.len() <= 1232);
}
