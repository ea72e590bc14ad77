//! The client's full name: option 81 (RFC 4702), of DHCPv6 39 (RFC 4704).
//!
//! Nobody updates DNS here, and the answer says so: the guest may do it itself.

/// The option as the client sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fqdn {
    pub(crate) flags: u8,
    /// As text or as labels (RFC 1035 §3.1).
    pub(crate) name: Vec<u8>,
}

/// S: the client wants its address entered into DNS.
const SERVER_UPDATES: u8 = 1;
/// O: the server did otherwise than S asked.
const OVERRIDDEN: u8 = 2;
/// E: the name is labels and not text. In DHCPv6 it always is.
const ENCODED: u8 = 4;
/// N: the server updates nothing; of DHCPv4 and of DHCPv6.
const NO_UPDATES: u8 = 8;
const NO_UPDATES_V6: u8 = 4;
/// What both RCODE fields say: they are of no use any more (RFC 4702 §2.2).
const UNUSED: u8 = 255;

/// The value of option 81 of the answer (RFC 4702 §4): the name that the guest should
/// have, or else its own, in the form that it chose.
pub(crate) fn answer(asked: &Fqdn, hostname: Option<&str>, domain: Option<&str>) -> Vec<u8> {
    let encoded = asked.flags & ENCODED;
    let name = name(hostname, domain).map(|name| match encoded {
        0 => name.into_bytes(),
        _ => crate::labels::encode(&[name]),
    });
    let flags = encoded | NO_UPDATES | overridden(asked);
    [&[flags, UNUSED, UNUSED], &or_own(name, asked)[..]].concat()
}

/// The same of option 39 of DHCPv6 (RFC 4704 §6).
pub(crate) fn answer_v6(asked: &Fqdn, hostname: Option<&str>, domain: Option<&str>) -> Vec<u8> {
    let name = name(hostname, domain).map(|name| crate::labels::encode(&[name]));
    [&[NO_UPDATES_V6 | overridden(asked)], &or_own(name, asked)[..]].concat()
}

fn overridden(asked: &Fqdn) -> u8 {
    if asked.flags & SERVER_UPDATES == 0 { 0 } else { OVERRIDDEN }
}

fn or_own(name: Option<Vec<u8>>, asked: &Fqdn) -> Vec<u8> {
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.name.clone())
}

/// Host and domain as one name; a hostname with dots is one already.
fn name(hostname: Option<&str>, domain: Option<&str>) -> Option<String> {
    let hostname = hostname.filter(|name| !name.is_empty())?;
    let domain = domain.filter(|domain| !domain.is_empty() && !hostname.contains('.'));
    Some(domain.map_or_else(|| hostname.to_owned(), |domain| format!("{hostname}.{domain}")))
}
