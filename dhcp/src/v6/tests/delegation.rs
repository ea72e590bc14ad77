//! Prefixes for the networks behind a guest (RFC 9915 §6.3).

use ipnetwork::Ipv6Network;

use super::*;

const PREFIX: &str = "fd01:0:0:5::/64";
const OTHER: &str = "fd01:0:0:77::/64";

/// A binding with an address and a prefix.
fn delegating() -> Binding {
    let mut binding = binding();
    binding.v6.as_mut().unwrap().delegated = Some(PREFIX.parse().unwrap());
    binding
}

/// An IA_PD that names these prefixes.
fn pd(id: u32, prefixes: &[&str]) -> DhcpOption {
    let prefix = |text: &&str| {
        let prefix: Ipv6Network = text.parse().unwrap();
        DhcpOption::IAPrefix(IAPrefix {
            preferred_lifetime: 0,
            valid_lifetime: 0,
            prefix_len: prefix.prefix(),
            prefix_ip: prefix.ip(),
            opts: Default::default(),
        })
    };
    DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts: prefixes.iter().map(prefix).collect() })
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Pd {
    times: (u32, u32),
    prefixes: Vec<(String, u32, u32)>,
    status: Option<Status>,
}

impl Pd {
    /// The port's prefix for as long as its address.
    fn given() -> Self {
        Self { times: (1125, 1800), prefixes: vec![(PREFIX.to_owned(), 2250, 3600)], status: None }
    }

    fn refused(status: Status) -> Self {
        Self { times: (0, 0), prefixes: Vec::new(), status: Some(status) }
    }
}

/// The IA_PD of this id in a reply.
#[track_caller]
fn answer(reply: &Reply, id: u32) -> Pd {
    let all = reply.message.opts().iter().filter_map(|option| match option {
        DhcpOption::IAPD(pd) if pd.id == id => Some(pd),
        _ => None,
    });
    let [pd] = all.collect::<Vec<_>>()[..] else { panic!("not one IA_PD {id}") };
    let prefixes = pd.opts.iter().filter_map(|option| match option {
        DhcpOption::IAPrefix(one) => {
            let prefix = format!("{}/{}", one.prefix_ip, one.prefix_len);
            Some((prefix, one.preferred_lifetime, one.valid_lifetime))
        }
        _ => None,
    });
    let prefixes = prefixes.collect();
    Pd { times: (pd.t1, pd.t2), prefixes, status: status(pd.opts.iter()) }
}

#[test]
fn rfc9915_18_3_1_a_solicit_is_offered_the_prefix_beside_the_address_with_the_same_times() {
    let solicit = client(MessageType::Solicit).with(ia(7, &[])).with(pd(7, &[]));
    let reply = solicit.reply(&delegating());
    assert_eq!((reply.kind, reply.ia(7)), (Kind::Advertise, Some(Ia::given())));
    assert_eq!(answer(&reply, 7), Pd::given());
}

#[test]
fn rfc9915_18_3_2_4_5_request_renew_and_rebind_are_answered_with_the_prefix() {
    for kind in [MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        let reply = client(kind).with(pd(8, &[PREFIX])).reply(&delegating());
        assert_eq!((reply.kind, answer(&reply, 8)), (Kind::ReplyPrefix, Pd::given()), "{kind:?}");
        let both = client(kind).with(ia(7, &[ADDRESS])).with(pd(8, &[PREFIX])).reply(&delegating());
        assert_eq!((both.kind, both.ia(7)), (Kind::Reply, Some(Ia::given())), "{kind:?}");
        assert_eq!(answer(&both, 8), Pd::given(), "{kind:?}");
    }
}

#[test]
fn of_several_associations_the_one_that_names_the_prefix_has_it_or_else_the_first() {
    let solicit = |first: &[&str], second: &[&str]| {
        // Put together by hand: `dhcproto` sorts.
        let start = client(MessageType::Solicit).message.to_vec();
        let parts = [start, pd(1, first).to_vec(), pd(2, second).to_vec()];
        let message = parts.map(Result::unwrap).concat();
        let answered = Responder::answer(&delegating(), &frame(MAC, SERVERS, &message));
        let Answer::Send(Sent { frame, kind, .. }) = answered else { panic!("{answered:?}") };
        let reply = Reply::read(&frame, kind);
        (answer(&reply, 1), answer(&reply, 2))
    };
    let refused = || Pd::refused(Status::NoPrefixAvail);
    assert_eq!(solicit(&[], &[]), (Pd::given(), refused()));
    assert_eq!(solicit(&[OTHER], &[PREFIX]), (refused(), Pd::given()));
    // Host bits mean nothing.
    assert_eq!(solicit(&[], &["fd01:0:0:5::9/64"]), (refused(), Pd::given()));
}

#[test]
fn rfc9915_18_2_4_a_wish_for_a_length_is_no_prefix() {
    for kind in [MessageType::Solicit, MessageType::Renew] {
        let reply = client(kind).with(pd(8, &["::/56"])).reply(&delegating());
        assert_eq!(answer(&reply, 8), Pd::given(), "{kind:?}");
    }
}

#[test]
fn rfc9915_18_3_4_a_foreign_prefix_ends_at_once_when_it_is_renewed() {
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let reply = client(kind).with(pd(8, &[OTHER])).reply(&delegating());
        let mut wanted = Pd::given();
        wanted.prefixes.push((OTHER.to_owned(), 0, 0));
        assert_eq!(answer(&reply, 8), wanted, "{kind:?}");
        // And where nothing is delegated any more.
        let reply = client(kind).with(pd(8, &[OTHER])).reply(&binding());
        let over = vec![(OTHER.to_owned(), 0, 0)];
        let wanted = Pd { prefixes: over, ..Pd::refused(Status::NoBinding) };
        assert_eq!((reply.kind, answer(&reply, 8)), (Kind::ReplyNothing, wanted), "{kind:?}");
    }
}

#[test]
fn rfc9915_18_3_7_a_released_prefix_is_the_ports_own_or_pointed_out() {
    let release = client(MessageType::Release).with(pd(1, &[PREFIX])).with(pd(2, &[OTHER]));
    let reply = release.reply(&delegating());
    assert_eq!((reply.kind, reply.status()), (Kind::Released, Some(Status::Success)));
    assert_eq!(answer(&reply, 2), Pd::refused(Status::NoBinding));
    let named = reply.message.opts().iter().filter(|one| matches!(one, DhcpOption::IAPD(_)));
    assert_eq!(named.count(), 1);
}

#[test]
fn rfc9915_18_3_3_a_confirm_of_a_prefix_alone_is_not_answered() {
    let confirm = client(MessageType::Confirm).with(pd(8, &[PREFIX]));
    assert_eq!(confirm.ignored(&delegating()), Ignored::NothingToConfirm);
}

#[test]
fn rfc9915_18_3_8_a_declined_prefix_is_no_conflict() {
    let reply = client(MessageType::Decline).with(pd(8, &[PREFIX])).reply(&delegating());
    assert_eq!(reply.kind, Kind::ReplyNothing);
}

#[test]
fn a_stateless_server_delegates_all_the_same() {
    let mut stateless = delegating();
    stateless.v6.as_mut().unwrap().stateless = true;
    let reply = client(MessageType::Request).with(ia(7, &[])).with(pd(8, &[])).reply(&stateless);
    assert_eq!((reply.kind, answer(&reply, 8)), (Kind::ReplyPrefix, Pd::given()));
    assert_eq!(reply.ia(7), Some(Ia::refused(Status::NoAddrsAvail)));
}

#[test]
fn rfc9915_21_22_a_prefix_that_cannot_be_makes_the_message_malformed() {
    let mut option = vec![0, 25, 0, 41];
    option.extend([0; 12]);
    option.extend([0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 129]);
    option.extend([0; 16]);
    let client_id = [&[0, 1, 0, 10][..], &CLIENT_DUID].concat();
    let message = [&[1, 1, 2, 3][..], &client_id, &option].concat();
    let answer = |message: &[u8]| Responder::answer(&delegating(), &frame(MAC, SERVERS, message));
    assert_eq!(answer(&message), Answer::Ignore(Ignored::Malformed));
    let length = message.len() - 17;
    let valid = [&message[..length], &[64], &message[length + 1..]].concat();
    assert!(matches!(answer(&valid), Answer::Send(_)));
}
