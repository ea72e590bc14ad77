//! Domain names as the labels of RFC 1035 §3.1, uncompressed.
//!
//! DHCPv4 option 119, DHCPv6 option 24 and the DNSSL option of router
//! advertisements all carry them so.

/// The names as labels, one after the other.
///
/// A name that cannot be written (an empty label, one of more than 63 octets,
/// more than 255 octets in all) is left out: the others still help the guest.
pub(crate) fn encode(names: &[String]) -> Vec<u8> {
    names.iter().filter_map(|name| encode_one(name)).flatten().collect()
}

fn encode_one(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_label_carries_its_own_length() {
        let bytes = encode(&names(&["eng.example.com", "example."]));
        assert_eq!(bytes, b"\x03eng\x07example\x03com\0\x07example\0");
    }

    #[test]
    fn a_name_that_cannot_be_written_does_not_stop_the_others() {
        let long = "x".repeat(64);
        assert_eq!(encode(&names(&["a..b", "", &long, "ok"])), b"\x02ok\0");
        assert!(encode(&[["abcdefgh"; 32].join(".")]).is_empty());
    }
}
