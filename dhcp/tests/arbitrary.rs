//! Whatever a guest sends, the responder survives it, and no answer ever goes to
//! or is drawn out by a foreign MAC address.

// The whole file is a test, its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "arbitrary/frames.rs"]
mod frames;

use dhcp::{Answer, Binding, Ignored, Responder};
use frames::{
    BINDING, MAC, NEIGHBOUR, check, dhcp6_frame, ethernet, length, says, v4_frame, v6_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

/// A code and a value, in DHCPv4's form.
fn v4_option() -> impl Strategy<Value = Vec<u8>> {
    let known = [50, 52, 54, 55, 57, 60, 61, 77, 80, 81, 93, 97, 175];
    let code = prop_oneof![prop::sample::select(known.to_vec()), any::<u8>()];
    (code, vec(any::<u8>(), 0..40)).prop_map(|(code, value)| {
        [&[code, u8::try_from(value.len()).unwrap()][..], &value].concat()
    })
}

/// A code and a value, in DHCPv6's form.
fn v6_option() -> impl Strategy<Value = Vec<u8>> {
    let known = [1, 2, 3, 6, 14, 15, 16, 25, 39, 61];
    let code = prop_oneof![prop::sample::select(known.to_vec()), any::<u16>()];
    (code, vec(any::<u8>(), 0..60))
        .prop_map(|(code, value)| [&code.to_be_bytes()[..], &length(value.len()), &value].concat())
}

/// Frames that get far: right in their outer layers, anything within.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let v4 = (0..9_u8, vec(v4_option(), 0..8)).prop_map(|(kind, options)| {
        v4_frame(&[&[53, 1, kind][..], &options.concat(), &[255]].concat())
    });
    let v6 = (0..14_u8, vec(v6_option(), 0..8)).prop_map(|(kind, options)| {
        let client = [0, 1, 0, 4, 0, 3, 0, 1];
        dhcp6_frame(&[&[kind, 1, 2, 3][..], &client, &options.concat()].concat())
    });
    let solicitation = vec(any::<u8>(), 0..40).prop_map(|options| {
        let message = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &options].concat();
        v6_frame(58, 255, "ff02::2", &message)
    });
    prop_oneof![v4, v6, solicitation]
}

/// A plausible frame with some octets overwritten, cut or prolonged.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (plausible(), changes, any::<prop::sample::Index>(), vec(any::<u8>(), 0..20), any::<bool>())
        .prop_map(|(mut frame, changes, cut, tail, whole)| {
            for (at, octet) in changes {
                let at = at.index(frame.len());
                frame[at] = octet;
            }
            if !whole {
                frame.truncate(cut.index(frame.len()));
                frame.extend(tail);
            }
            frame
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_bytes_are_survived(frame in vec(any::<u8>(), 0..700)) {
        check(&frame);
    }

    #[test]
    fn any_bytes_from_the_guest_are_survived(
        ethertype in prop_oneof![Just(0x0800), Just(0x86dd), any::<u16>()],
        payload in vec(any::<u8>(), 0..700),
    ) {
        check(&[ethernet(ethertype), payload].concat());
    }

    #[test]
    fn plausible_frames_are_survived(frame in plausible()) {
        check(&frame);
    }

    #[test]
    fn mutated_frames_are_survived(frame in mutated()) {
        check(&frame);
    }

    #[test]
    fn a_plausible_frame_from_a_foreign_mac_is_never_answered(
        mut frame in plausible(),
        mac in any::<[u8; 6]>().prop_filter("foreign", |mac| *mac != MAC),
    ) {
        frame[6..12].copy_from_slice(&mac);
        assert_eq!(Responder::answer(&BINDING, &frame), Answer::Ignore(Ignored::ForeignMac));
    }
}

/// The binding of another port, which says its mark wherever it can.
fn neighbour() -> Binding {
    let mut binding = BINDING.clone();
    let mark = || String::from_utf8(NEIGHBOUR.to_vec()).unwrap();
    binding.mac = "02:00:5e:10:00:06".parse().unwrap();
    binding.hostname = Some(mark());
    let v4 = binding.v4.as_mut().unwrap();
    (v4.domain, v4.search) = (Some(mark()), vec![mark()]);
    binding.v6.as_mut().unwrap().search = vec![mark()];
    binding.ra.as_mut().unwrap().dnssl = vec![mark()];
    binding
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// One answer follows from one binding and one frame: what was asked of another port
    /// before changes nothing, and nothing of it is said.
    #[test]
    fn a_frame_gets_one_answer_whoever_was_answered_before(
        before in mutated(),
        frame in mutated().prop_filter("says it itself", |frame| !says(frame, &NEIGHBOUR)),
    ) {
        let first = Responder::answer(&BINDING, &frame);
        let mut of_neighbour = before;
        if let Some(source) = of_neighbour.get_mut(6..12) {
            source.copy_from_slice(&[2, 0, 0x5e, 0x10, 0, 6]);
        }
        let _ = Responder::answer(&neighbour(), &of_neighbour);
        assert_eq!(Responder::answer(&BINDING, &frame), first);
        check(&frame);
    }

    #[test]
    fn text_that_is_no_options_is_survived_and_what_it_says_is_served(
        text in "[a-z0-9_T=;,.:{}\" /-]{0,80}",
        key in prop::sample::select(net::options::V4_TABLE.to_vec()),
        value in "[a-z0-9;:.,{}/-]{0,20}",
    ) {
        for text in [text.clone(), format!("{}={value},{text}", key.name)] {
            let (v4, _) = net::options::V4::parse(&text);
            let _ = net::options::V6::parse(&text);
            let _ = net::options::Ra::parse(&text);
            let mut binding = BINDING.clone();
            let old = binding.v4.as_mut().unwrap();
            (old.options, old.always, old.search) = (v4.options, v4.always, v4.search);
            let kept = serde_json::to_string(&binding).unwrap();
            assert_eq!(serde_json::from_str::<Binding>(&kept).unwrap(), binding);
            let discover = v4_frame(&[53, 1, 1, 255]);
            assert!(matches!(Responder::answer(&binding, &discover), Answer::Send(..)));
        }
    }
}

#[test]
fn the_neighbour_says_its_mark_to_its_own_guest() {
    let mut discover = v4_frame(&[53, 1, 1, 255]);
    let own = [2, 0, 0x5e, 0x10, 0, 6];
    discover[6..12].copy_from_slice(&own);
    discover[42 + 28..42 + 34].copy_from_slice(&own);
    let answer = Responder::answer(&neighbour(), &discover);
    assert!(matches!(answer, Answer::Send(sent) if says(&sent.frame, &NEIGHBOUR)));
}

#[test]
fn the_plausible_frames_are_ones_that_are_answered() {
    let discover = v4_frame(&[53, 1, 1, 255]);
    assert!(matches!(Responder::answer(&BINDING, &discover), Answer::Send(..)));
    let solicit = dhcp6_frame(&[1, 1, 2, 3, 0, 1, 0, 3, 7, 7, 7]);
    assert!(matches!(Responder::answer(&BINDING, &solicit), Answer::Send(..)));
}

#[test]
fn a_binding_survives_the_way_to_disk_and_back() {
    let text = serde_json::to_string(&*BINDING).unwrap();
    assert_eq!(serde_json::from_str::<Binding>(&text).unwrap(), *BINDING);
    let bare: Binding = serde_json::from_value(json!({"mac": "02:00:5e:10:00:05"})).unwrap();
    assert!(bare.v4.is_none() && bare.v6.is_none() && bare.ra.is_none());
    // What a later version says besides is passed over.
    let later = json!({"mac": "02:00:5e:10:00:05", "v44": {}});
    assert_eq!(serde_json::from_value::<Binding>(later).unwrap(), bare);
}
