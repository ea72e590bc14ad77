//! The client's full name, option 81 (RFC 4702).
//!
//! Nobody updates DNS here, and the answer says so: the guest may do it itself.

/// The option as the client sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fqdn {
    pub(crate) flags: u8,
    /// In the form that [`ENCODED`] says.
    pub(crate) name: Vec<u8>,
}

/// S: the client wants its address entered into DNS.
const SERVER_UPDATES: u8 = 1;
/// O: the server did otherwise than S asked.
const OVERRIDDEN: u8 = 2;
/// E: the name is labels (RFC 1035 §3.1) and not text.
const ENCODED: u8 = 4;
/// N: the server updates nothing.
const NO_UPDATES: u8 = 8;
/// What both RCODE fields say: they are of no use any more (RFC 4702 §2.2).
const UNUSED: u8 = 255;

/// The value of the answer (RFC 4702 §4): the name that the guest should have, or else
/// its own, in the form that it chose.
pub(super) fn answer(asked: &Fqdn, hostname: Option<&str>, domain: Option<&str>) -> Vec<u8> {
    let encoded = asked.flags & ENCODED;
    let overridden = if asked.flags & SERVER_UPDATES == 0 { 0 } else { OVERRIDDEN };
    let name = name(hostname, domain).map(|name| match encoded {
        0 => name.into_bytes(),
        _ => crate::labels::encode(&[name]),
    });
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.name.clone());
    [&[encoded | NO_UPDATES | overridden, UNUSED, UNUSED], &name[..]].concat()
}

/// Host and domain as one name; a hostname with dots is one already.
fn name(hostname: Option<&str>, domain: Option<&str>) -> Option<String> {
    let hostname = hostname.filter(|name| !name.is_empty())?;
    let domain = domain.filter(|domain| !domain.is_empty() && !hostname.contains('.'));
    Some(domain.map_or_else(|| hostname.to_owned(), |domain| format!("{hostname}.{domain}")))
}
