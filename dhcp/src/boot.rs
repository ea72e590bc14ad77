//! Boot ROMs: what they say of themselves, and which options are for them.
//!
//! A ROM names its architecture (RFC 4578 §2.1) and loads what is for it. If that is
//! iPXE, it asks once more and says so, and gets what it is to do next.

use net::options::Clients;

/// The option of the boot server's name, and the header's `sname`.
pub(crate) const SERVER: u8 = 66;
/// The option of the boot file, and the header's `file`.
pub(crate) const FILE: u8 = 67;
/// The option of a client's class, and of the class that we answer it as.
pub(crate) const CLASS: u8 = 60;
/// The same two of DHCPv6 (RFC 5970 §3.1, §3.2): the URL of the boot file, its parameters.
pub(crate) const V6_FILES: [u16; 2] = [59, 60];
/// What UEFI's HTTP boot calls itself, and takes an offer only from one that says it, too.
const HTTP_CLIENT: &str = "HTTPClient";

/// What a client says of how it boots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Client {
    /// Option 93, of DHCPv6 61.
    pub(crate) arch: Vec<u16>,
    /// Options 77 or 175 of iPXE, of DHCPv6 15.
    pub(crate) ipxe: bool,
    /// Option 60, of DHCPv6 the data of 16.
    pub(crate) class: Vec<u8>,
    /// The enterprise number before it in DHCPv6.
    pub(crate) enterprise: [u8; 4],
    /// Option 97, echoed (RFC 4578 §2.3).
    pub(crate) machine: Option<Vec<u8>>,
}

impl Client {
    /// Whether an option for `clients` is for this one.
    pub(crate) fn is_among(&self, clients: &Clients) -> bool {
        let arch =
            clients.arch.is_empty() || self.arch.iter().any(|one| clients.arch.contains(one));
        arch && clients.ipxe.is_none_or(|ipxe| ipxe == self.ipxe)
    }

    /// Whether it needs the boot options though it may not ask for them.
    pub(crate) fn boots(&self) -> bool {
        self.ipxe || self.class.starts_with(b"PXEClient") || self.is_http()
    }

    /// The class to answer with, where the client insists on one.
    pub(crate) fn class_to_say(&self) -> Option<String> {
        self.is_http().then(|| HTTP_CLIENT.to_owned())
    }

    fn is_http(&self) -> bool {
        self.class.starts_with(HTTP_CLIENT.as_bytes())
    }
}
