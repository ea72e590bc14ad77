//! How controllers and agents find and know each other where one has something to ask of the
//! other at once: a guest to be paused, a console to be joined.
//!
//! Neither has a certificate that somebody signed. Each makes one for itself at its start and
//! says in the API by which digest it is known: an agent on its Node, controllers in one
//! ConfigMap. So who may write these is trusted, nobody else, and no key is ever stored.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The annotation of a Node that says where its agent listens, an [`Endpoint`] in JSON.
pub const ENDPOINT: &str = "berth.io/agent-endpoint";

/// The namespace of the ConfigMap of controllers.
pub const CONTROLLERS_NAMESPACE: &str = "kube-system";
/// Its name. Each key is the digest of a controller's certificate ([`digest`]), its value when
/// that controller said so last (RFC 3339).
pub const CONTROLLERS: &str = "berth-controllers";

/// The protocol that a stream is upgraded to: bytes as they come.
pub const STREAM: &str = "berth-stream";

/// Where an agent listens, and by what it is known.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// An [`Address`].
    pub address: String,
    /// The digest of its certificate, [`digest`].
    pub sha256: String,
}

/// A place to listen at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket, of agents on the controller's own host.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err("write unix: and an absolute path".to_owned()),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "write ADDRESS:PORT, or unix: and an absolute path".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// The digest by which a certificate (DER) is known: SHA-256 in lower case hexadecimal.
#[must_use]
pub fn digest(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The path at which an agent is asked for `verb` of an instance.
#[must_use]
pub fn path(namespace: &str, name: &str, uid: &str, verb: &str) -> String {
    format!("/v1/namespaces/{namespace}/instances/{name}/{uid}/{verb}")
}

/// The path at which an agent is asked about what is sent to a claim, or is sent it: `verb` is
/// [`UPLOAD`] or [`UPLOAD_EARLY`].
#[must_use]
pub fn claim_path(namespace: &str, name: &str, uid: &str, verb: &str) -> String {
    format!("/v1/namespaces/{namespace}/claims/{name}/{uid}/{verb}")
}

/// Takes a disk, and answers once the claim has it. Asked with GET it says whether it would.
pub const UPLOAD: &str = "upload";
/// The same, but answers once all has come and is an image.
pub const UPLOAD_EARLY: &str = "upload-async";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc"), of_abc);
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["10.0.0.1:10662", "[fd00::1]:10662", "unix:/run/berth/commands.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.1", "unix:run/it", "", "host:1"] {
            text.parse::<Address>().unwrap_err();
        }
    }
}
