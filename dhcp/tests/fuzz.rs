//! Frames that grow out of kept ones: what the responder does with a frame says whether it
//! is of a new kind, and such a frame is one to go on from.
//!
//! ```text
//! corpus/*.hex ──> pool ──> a frame, changed ──> check() ──> answered in a new way?
//!                   ^                                          │ yes
//!                   └──────────────────────────────────────────┘
//! ```
//!
//! `BERTH_FUZZ_SECONDS` says for how long (`make test`: 60), `BERTH_FUZZ_SEED` from where.
//! `BERTH_FUZZ_KEEP=1` writes the pool into the corpus, one frame of each kind.

// The whole file is a test, its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "arbitrary/frames.rs"]
mod frames;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dhcp::{Answer, Responder};
use frames::{BINDING, check, dhcp6_frame, v4_frame, v6_frame};

/// Where a test of all suites has better things to do than this.
const SECONDS: u64 = 2;
/// Frames longer than that teach nothing.
const LONGEST: usize = 2000;

#[test]
fn frames_that_grow_out_of_the_corpus_are_survived() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("BERTH_FUZZ_SECONDS").unwrap_or(SECONDS);
    let seed = number("BERTH_FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(seconds));
    let mut pool: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for frame in corpus().into_iter().chain(seeds()) {
        survive(&frame, seed);
        pool.entry(kind_of(&frame)).or_insert(frame);
    }
    let (known, mut random, mut tried) = (pool.len(), Random(seed | 1), 0_u64);
    let mut all: Vec<Vec<u8>> = pool.values().cloned().collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    while tried == 0 || Instant::now() < end {
        for _ in 0..1000 {
            let frame = random.changed(&all);
            survive(&frame, seed);
            if let Entry::Vacant(new) = pool.entry(kind_of(&frame)) {
                new.insert(frame.clone());
                all.push(frame);
            }
            tried += 1;
        }
    }
    println!("{tried} frames, {known} kinds at first, {} in the end, seed {seed}", pool.len());
    if std::env::var_os("BERTH_FUZZ_KEEP").is_some() {
        keep(&pool);
    }
}

#[test]
fn the_corpus_has_frames_of_every_protocol_that_are_answered() {
    let kinds: Vec<String> = corpus().iter().map(|frame| kind_of(frame)).collect();
    for kind in [
        "offer",
        "ack",
        "inform_ack",
        "nak",
        "advertise",
        "reply",
        "reply_prefix",
        "reply_nothing",
        "reply_confirm",
        "reply_release",
        "reply_decline",
        "reply_information",
        "router_advertisement",
    ] {
        let starts = |one: &String| one.split(' ').next() == Some(kind);
        assert!(kinds.iter().any(starts), "no frame is answered with {kind}");
    }
}

/// Checks a frame; of one that does not hold, says which it was.
fn survive(frame: &[u8], seed: u64) {
    let outcome = catch_unwind(|| check(frame));
    assert!(outcome.is_ok(), "seed {seed}: this frame is not survived: {}", hex(frame));
}

/// What is done with a frame, as far as another way through the code is likely behind it: the
/// answer, those options in it that are not just asked for, and about how long it is; or the
/// reason for none.
fn kind_of(frame: &[u8]) -> String {
    match Responder::answer(&BINDING, frame) {
        Answer::Ignore(reason) => reason.label().to_owned(),
        Answer::Send(sent) => {
            let codes = match (sent.frame[12], sent.frame[20]) {
                (8, _) => {
                    let mut codes = codes_v4(&sent.frame[42 + 240..]);
                    codes.retain(|code| [52, 61, 67, 80, 81, 97].contains(code));
                    codes
                }
                (_, 17) => codes_v6(&sent.frame[62 + 4..]),
                _ => Vec::new(),
            };
            let length = sent.frame.len() / 256;
            format!("{} {codes:?} {length} {}", sent.kind.label(), sent.left_out.min(2))
        }
    }
}

fn codes_v4(mut field: &[u8]) -> Vec<u16> {
    let mut codes = Vec::new();
    while let [code, length, rest @ ..] = field
        && *code != 255
    {
        codes.push(u16::from(*code));
        field = &rest[usize::from(*length)..];
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn codes_v6(mut options: &[u8]) -> Vec<u16> {
    let mut codes = Vec::new();
    while let [high, low, length, length_low, rest @ ..] = options {
        codes.push(u16::from_be_bytes([*high, *low]));
        options = &rest[usize::from(u16::from_be_bytes([*length, *length_low]))..];
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Frames that are right, to begin with: one of each message.
fn seeds() -> Vec<Vec<u8>> {
    let more = [55, 7, 1, 3, 6, 15, 121, 42, 43, 61, 3, 1, 2, 3, 57, 2, 5, 220, 255];
    let v4 = (1..=8_u8).flat_map(|kind| {
        [
            [&[53, 1, kind][..], &more].concat(),
            [&[53, 1, kind, 50, 4, 10, 0, 0, 5, 54, 4, 169, 254, 0, 254][..], &more].concat(),
            [&[53, 1, kind, 50, 4, 10, 0, 0, 9][..], &more].concat(),
            [&[53, 1, kind, 80, 0, 93, 2, 0, 7, 60, 9][..], b"PXEClient", &more].concat(),
        ]
    });
    let client = [0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0x5e, 0x10, 0, 5];
    let server = server_id();
    let asked = [0, 6, 0, 8, 0, 23, 0, 24, 0, 32, 0, 39];
    let address = [
        &[0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24, 0xfd, 0][..],
        &[0; 13],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let prefix = [
        &[0, 25, 0, 41, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 26, 0, 25][..],
        &[0, 0, 0, 0, 0, 0, 0, 0, 64, 0xfd, 1, 0, 0, 0, 0, 0, 5],
        &[0; 8],
    ]
    .concat();
    let v6 = (1..=13_u8).flat_map(move |kind| {
        let head = [&[kind, 1, 2, 3][..], &client].concat();
        [
            head.clone(),
            [&head[..], &asked].concat(),
            [&head[..], &address, &asked].concat(),
            [&head[..], &server, &address, &asked].concat(),
            [&head[..], &prefix, &asked].concat(),
            [&head[..], &server, &prefix, &address].concat(),
            [&head[..], &server, &prefix].concat(),
            [&head[..], &server, &[0, 14, 0, 0]].concat(),
        ]
    });
    let v4 = v4.map(|options| v4_frame(&options));
    let v6 = v6.map(|message| dhcp6_frame(&message));
    let solicitation = mended(v6_frame(58, 255, "ff02::2", &[133, 0, 0, 0, 0, 0, 0, 0]));
    v4.chain(v6).chain([solicitation]).collect()
}

/// The server identifier as an Advertise has it.
fn server_id() -> Vec<u8> {
    let solicit = dhcp6_frame(&[1, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1]);
    let Answer::Send(advertise) = Responder::answer(&BINDING, &solicit) else {
        panic!("a Solicit is answered")
    };
    let options = &advertise.frame[62 + 4..];
    let at = options.windows(4).position(|window| window == [0, 2, 0, 10]).unwrap();
    options[at..at + 14].to_vec()
}

/// A sequence of numbers (xorshift64*): the same from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(number).unwrap() % end.max(1)
    }

    fn octet(&mut self) -> u8 {
        const TELLING: [u8; 12] = [0, 1, 2, 3, 5, 6, 50, 53, 54, 55, 127, 255];
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    /// One of the frames after a few changes, mostly with lengths that are right again.
    fn changed(&mut self, all: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = all[self.below(all.len())].clone();
        for _ in 0..=self.below(5) {
            self.change(&mut frame, all);
        }
        frame.truncate(LONGEST);
        if self.below(4) == 0 { frame } else { mended(frame) }
    }

    fn change(&mut self, frame: &mut Vec<u8>, all: &[Vec<u8>]) {
        let at = self.below(frame.len() + 1);
        let end = (at + self.below(24)).min(frame.len());
        match self.below(6) {
            0 | 1 if at < frame.len() => frame[at] = self.octet(),
            2 => drop(frame.drain(at..end)),
            3 => {
                let again = frame[at..end].to_vec();
                frame.splice(at..at, again);
            }
            4 => {
                let octets: Vec<u8> = (0..self.below(12)).map(|_| self.octet()).collect();
                frame.splice(at..at, octets);
            }
            _ => {
                let other = &all[self.below(all.len())];
                let from = self.below(other.len() + 1);
                let to = (from + self.below(80)).min(other.len());
                frame.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
}

/// The frame with the lengths of its outer layers and the checksum of ICMPv6 made right.
fn mended(mut frame: Vec<u8>) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    match frame.get(12..14) {
        Some([8, 0]) if frame.len() >= 42 => {
            let (packet, datagram) = (length(frame.len() - 14), length(frame.len() - 34));
            frame[16..18].copy_from_slice(&packet);
            frame[38..40].copy_from_slice(&datagram);
        }
        Some([0x86, 0xdd]) if frame.len() >= 62 => {
            let payload = length(frame.len() - 54);
            frame[18..20].copy_from_slice(&payload);
            match frame[20] {
                17 => frame[58..60].copy_from_slice(&payload),
                _ => {
                    frame[56..58].fill(0);
                    let sum = checksum(&frame[22..54], &frame[54..]);
                    frame[56..58].copy_from_slice(&sum.to_be_bytes());
                }
            }
        }
        _ => {}
    }
    frame
}

/// ICMPv6's (RFC 4443 §2.3), over the addresses and the message.
fn checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let mut all = [addresses, &length, &[0, 0, 0, 58], message].concat();
    all.resize(all.len().next_multiple_of(2), 0);
    let words = all.chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

// === the corpus ===

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// All frames that are kept: one a line, in hexadecimal.
fn corpus() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for file in std::fs::read_dir(dir()).into_iter().flatten() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        frames.extend(text.lines().map(octets));
    }
    frames
}

/// Writes one frame of each kind, the answered and the ignored apart.
fn keep(pool: &BTreeMap<String, Vec<u8>>) {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for (kind, frame) in pool {
        let name = match (kind.contains(' '), frame.get(12..14), frame.get(20)) {
            (false, ..) => "ignored",
            (true, Some([8, 0]), _) => "dhcpv4",
            (true, _, Some(17)) => "dhcpv6",
            (true, ..) => "solicitations",
        };
        writeln!(files.entry(name).or_default(), "{}", hex(frame)).unwrap();
    }
    std::fs::create_dir_all(dir()).unwrap();
    for (name, text) in files {
        std::fs::write(dir().join(format!("{name}.hex")), text).unwrap();
    }
}

fn hex(frame: &[u8]) -> String {
    frame.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

fn octets(line: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(pair).collect()
}
