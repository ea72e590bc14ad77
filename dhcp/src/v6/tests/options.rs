//! Options of replies, and messages that are not what they seem.

use super::*;
use crate::binding::INFINITE;

fn solicit() -> Client {
    client(MessageType::Solicit).with(ia(7, &[]))
}

/// The codes of the reply's options in the order sent.
pub(super) fn codes(reply: &Reply) -> Vec<u16> {
    let mut codes = Vec::new();
    let mut rest = &reply.bytes[4..];
    while let [a, b, c, d, tail @ ..] = rest {
        codes.push(u16::from_be_bytes([*a, *b]));
        rest = &tail[usize::from(u16::from_be_bytes([*c, *d]))..];
    }
    codes
}

#[test]
fn rfc9915_18_3_options_are_those_asked_for() {
    assert_eq!(
        codes(&solicit().wanting(&[24, 23, 24, 99]).reply(&binding())),
        [1, 2, 7, 3, 24, 23]
    );
    assert_eq!(codes(&solicit().wanting(&[]).reply(&binding())), [1, 2, 7, 3]);
    assert_eq!(codes(&solicit().reply(&binding())), [1, 2, 7, 3, 23, 24]);
}

#[test]
fn rfc3646_the_search_list_is_one_label_for_each_part_of_a_name() {
    let reply = solicit().reply(&binding());
    let labels = b"\0\x18\0\x11\x03eng\x07example\x03com\0";
    assert!(reply.bytes.windows(labels.len()).any(|window| window == labels));
    let Some(DhcpOption::DomainSearchList(names)) = reply.get(24) else { panic!("no search list") };
    assert_eq!(names.len(), 1);
    assert_eq!(
        reply.get(23),
        Some(&DhcpOption::DomainNameServers(vec!["fd00::53".parse().unwrap()]))
    );
}

#[test]
fn rfc9915_21_24_the_retransmission_limits_are_sent_when_asked_for() {
    let reply = solicit().wanting(&[82, 83]).reply(&binding());
    assert_eq!(codes(&reply), [1, 2, 7, 3, 82, 83]);
    assert!(reply.bytes.ends_with(&[0, 82, 0, 4, 0, 0, 14, 16, 0, 83, 0, 4, 0, 0, 14, 16]));
}

#[test]
fn rfc9915_21_23_only_stateless_guests_are_told_when_to_ask_again() {
    let inform = client(MessageType::InformationRequest).wanting(&[32]);
    assert!(inform.reply(&binding()).bytes.ends_with(&[0, 32, 0, 4, 0, 0, 14, 16]));
    let mut short = binding();
    short.v6.as_mut().unwrap().lease = 60;
    assert!(inform.reply(&short).bytes.ends_with(&[0, 32, 0, 4, 0, 0, 2, 88]));
    assert_eq!(solicit().wanting(&[32]).reply(&binding()).get(32), None);
}

#[test]
fn an_infinite_lease_is_infinite_in_all_its_times() {
    let mut endless = binding();
    endless.v6.as_mut().unwrap().lease = INFINITE;
    let ia = solicit().reply(&endless).ia(7).unwrap();
    assert_eq!(
        (ia.t1, ia.t2, ia.addresses),
        (u32::MAX, u32::MAX, vec![(ADDRESS, u32::MAX, u32::MAX)])
    );
}

#[test]
fn times_never_exceed_each_other_however_long_the_lease() {
    for lease in [1, 2, 7, 1000, u32::MAX / 2, u32::MAX - 1] {
        let mut binding = binding();
        binding.v6.as_mut().unwrap().lease = lease;
        let ia = solicit().reply(&binding).ia(7).unwrap();
        let (_, preferred, valid) = ia.addresses[0];
        assert!(ia.t1 <= ia.t2 && ia.t2 <= preferred && preferred <= valid, "{ia:?}");
        assert_eq!(valid, lease);
    }
}

#[test]
fn an_option_cut_off_makes_the_message_malformed() {
    let whole = solicit().message.to_vec().unwrap();
    // Whole options end at 4, 18 and 34 bytes; anywhere else, one is cut.
    for length in (0..whole.len()).filter(|length| ![4, 18].contains(length)) {
        let frame = frame(MAC, SERVERS, &whole[..length]);
        let answer = Responder::answer(&binding(), &frame);
        assert_eq!(answer, Answer::Ignore(Ignored::Malformed), "{length} of {}", whole.len());
    }
}

#[test]
fn an_association_cut_off_inside_makes_the_message_malformed() {
    let mut message = client(MessageType::Solicit).message.to_vec().unwrap();
    // An IA_NA of 16 bytes that ends in the header of an address.
    message.extend([0, 3, 0, 16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24]);
    let answer = Responder::answer(&binding(), &frame(MAC, SERVERS, &message));
    assert_eq!(answer, Answer::Ignore(Ignored::Malformed));
}
