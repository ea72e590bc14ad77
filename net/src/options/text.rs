//! `key=value` pairs as Kube-OVN and OVN write them.

use std::collections::HashSet;

use super::Fault;
use crate::shown;

/// One pair. Values have lost the braces or quotes around them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    written: String,
}

impl Pair {
    pub(super) fn fault(&self, advice: impl Into<String>) -> Fault {
        Fault { pair: shown(&self.written), advice: advice.into() }
    }
}

/// The longest text that is read, in bytes: several times what fits one DHCP message.
const LONGEST: usize = 16 << 10;

/// The pairs in the order written: `lease_time=3600,dns_server=8.8.8.8;1.1.1.1`.
///
/// They are split by commas. A value that is a list is written with `;` between, as
/// Kube-OVN has it, or in braces with commas, as OVN has it; one in quotes may hold anything.
/// Of two pairs with one key the first counts. Of a text that is too long none does.
pub(super) fn pairs(text: &str) -> (Vec<Pair>, Vec<Fault>) {
    if text.len() > LONGEST {
        let advice = format!("it is {} bytes long: write at most {LONGEST}", text.len());
        return (Vec::new(), vec![Fault { pair: shown(text), advice }]);
    }
    let (mut pairs, mut faults): (Vec<Pair>, Vec<Fault>) = (Vec::new(), Vec::new());
    let mut keys = HashSet::new();
    let (mut parts, open) = split(text);
    if let Some(open) = open {
        let advice = format!(
            "what begins with {open} does not end, and took all that follows: write the other {}",
            if open == '{' { '}' } else { open }
        );
        faults.extend(parts.pop().map(|part| Fault { pair: shown(part.trim()), advice }));
    }
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=').filter(|(key, _)| !key.trim().is_empty())
        else {
            let advice = "write key=value; the parts of a list have ; between them, as in \
                          dns_server=10.0.0.53;10.0.0.54";
            faults.push(Fault { pair: shown(part), advice: advice.to_owned() });
            continue;
        };
        let is_quoted = value.trim().starts_with('"');
        let (key, value) = (key.trim().to_owned(), bare(value).to_owned());
        let pair = Pair { key, value, written: part.to_owned() };
        if is_quoted && pair.value.contains('"') {
            faults.push(pair.fault("write quotes around the whole value, and none within"));
            continue;
        }
        if keys.insert(pair.key.clone()) {
            pairs.push(pair);
        } else {
            faults.push(pair.fault("it is there twice, and the first counts: write it once"));
        }
    }
    (pairs, faults)
}

/// The parts between commas that are neither in braces nor in quotes; and what the last of
/// them began with and did not end.
fn split(text: &str) -> (Vec<&str>, Option<char>) {
    let (mut depth, mut quoted) = (0_usize, false);
    let ends = |c| {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0 && !quoted
    };
    let parts = text.split(ends).collect();
    (parts, quoted.then_some('"').or_else(|| (depth > 0).then_some('{')))
}

/// A value without the braces or quotes around it.
fn bare(value: &str) -> &str {
    let value = value.trim();
    let between = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    between('{', '}').or_else(|| between('"', '"')).unwrap_or(value).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let (pairs, faults) = pairs(text);
        assert!(faults.is_empty(), "{faults:?}");
        pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
    }

    #[test]
    fn a_text_that_is_too_long_is_one_fault() {
        let text: String = (0..10_000).map(|n| format!("key_{n}=1,")).collect();
        let (pairs, faults) = pairs(&text);
        assert!(pairs.is_empty() && faults.len() == 1, "{}", faults.len());
        assert!(faults[0].advice.contains("at most 16384"), "{}", faults[0].advice);
        assert!(faults[0].pair.len() < 200);
    }

    #[test]
    fn braces_and_quotes_keep_their_commas() {
        let text = "a = 1, b={1.1.1.1, 2.2.2.2},c=\"x,y={z}\",,d=e=f";
        let wanted = [("a", "1"), ("b", "1.1.1.1, 2.2.2.2"), ("c", "x,y={z}"), ("d", "e=f")];
        assert_eq!(read(text), wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(read(" ").is_empty());
    }

    #[test]
    fn what_is_not_closed_takes_nothing_along_in_silence() {
        for (text, counts, told) in [
            ("mtu=1400,a=\"boot,b=1", 1, "write the other \""),
            ("mtu=1400,a={x,b=1", 1, "write the other }"),
            ("a=\"boot\"x,mtu=1400", 1, "around the whole value"),
        ] {
            let (pairs, faults) = pairs(text);
            assert_eq!((pairs.len(), faults.len()), (counts, 1), "{text}: {faults:?}");
            assert!(faults[0].advice.contains(told), "{faults:?}");
        }
    }

    #[test]
    fn what_is_no_pair_or_there_twice_is_pointed_out_and_the_rest_counts() {
        let (pairs, faults) = pairs("dns_server=8.8.8.8,1.1.1.1,mtu=1400,mtu=9000,=x");
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[1].value, "1400");
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(told[0].starts_with("\"1.1.1.1\": write key=value"), "{told:?}");
        assert!(told[1].starts_with("\"mtu=9000\": it is there twice"), "{told:?}");
        assert!(told[2].starts_with("\"=x\""), "{told:?}");
    }
}
