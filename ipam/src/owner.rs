//! Who an address belongs to.

use std::fmt;

use smol_str::SmolStr;

/// The name of whoever holds an address, such as the port name of a VM's NIC.
///
/// The pool compares owners by their text and nothing else. A caller for whom
/// a VM made anew under an old name is somebody else puts what tells the two
/// apart (a uid) into the text. Cheap to make and to clone: up to 23 bytes are kept in
/// place, a longer text is shared.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner(SmolStr);

impl Owner {
    /// The text the owner was made from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Owner {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
