//! What a blob is called: the hash of its bytes.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};

/// A SHA-256 in lower-case hexadecimal digits. It may be part of a path.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Digest(String);

impl Digest {
    /// The digest that a hash came to.
    #[must_use]
    pub fn of(hash: Sha256) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in hash.finalize() {
            write!(hex, "{byte:02x}").expect("a string takes everything");
        }
        Self(hex)
    }

    /// The digest of these bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(Sha256::new_with_prefix(bytes))
    }

    /// Reads `sha256:` and its digits; nothing else is known here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |hex: &&str| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let hex = text.strip_prefix("sha256:").filter(is_hex)?;
        Some(Self(hex.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

/// As images name it.
impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.0)
    }
}
