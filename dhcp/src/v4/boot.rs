//! Boot ROMs: what they say of themselves, and which options are for them.
//!
//! A ROM names its architecture (RFC 4578 §2.1) and loads what is for it. If that is
//! iPXE, it asks once more and says so, and gets what it is to do next.

use net::options::Clients;

/// The option of the boot server's name, and the header's `sname`.
pub(super) const SERVER: u8 = 66;
/// The option of the boot file, and the header's `file`.
pub(super) const FILE: u8 = 67;
/// The option of a client's class, and of the class that we answer it as.
pub(super) const CLASS: u8 = 60;
/// What UEFI's HTTP boot calls itself, and takes an offer only from one that says it, too.
const HTTP_CLIENT: &str = "HTTPClient";

/// What a client says of how it boots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Client {
    /// Option 93.
    pub(crate) arch: Vec<u16>,
    /// Options 77 or 175 of iPXE.
    pub(crate) ipxe: bool,
    /// Option 60.
    pub(crate) class: Vec<u8>,
    /// Option 97, echoed (RFC 4578 §2.3).
    pub(crate) machine: Option<Vec<u8>>,
}

impl Client {
    /// Whether an option for `clients` is for this one.
    pub(super) fn is_among(&self, clients: &Clients) -> bool {
        let arch =
            clients.arch.is_empty() || self.arch.iter().any(|one| clients.arch.contains(one));
        arch && clients.ipxe.is_none_or(|ipxe| ipxe == self.ipxe)
    }

    /// Whether it needs the boot options though it may not ask for them.
    pub(super) fn boots(&self) -> bool {
        self.ipxe || self.class.starts_with(b"PXEClient") || self.is_http()
    }

    /// The class to answer with, where the client insists on one.
    pub(super) fn class_to_say(&self) -> Option<String> {
        self.is_http().then(|| HTTP_CLIENT.to_owned())
    }

    fn is_http(&self) -> bool {
        self.class.starts_with(HTTP_CLIENT.as_bytes())
    }
}
