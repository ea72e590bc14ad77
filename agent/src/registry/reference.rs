//! The name of an image, read as Docker and containerd read it.
//!
//! | written | host | repository | asked for |
//! |---|---|---|---|
//! | `fedora` | docker.io | library/fedora | tag latest |
//! | `team/fedora:41` | docker.io | team/fedora | tag 41 |
//! | `reg.example:5000/a/b@sha256:…` | reg.example:5000 | a/b | that digest |
//! | `reg.example/a:1@sha256:…` | reg.example | a | that digest; the tag is for people |

use std::fmt;

use super::Digest;

/// The host whose name is left out.
const DEFAULT_HOST: &str = "docker.io";

/// Its older name, which people write in logins.
pub(super) const OLD_DEFAULT_HOST: &str = "index.docker.io";

/// Where its API is.
const DEFAULT_API: &str = "registry-1.docker.io";

/// Where repositories of one word are on it.
const DEFAULT_FOLDER: &str = "library";

const LATEST: &str = "latest";

/// Bytes of a repository with its host.
const MAX_NAME: usize = 255;

/// Characters of a tag.
const MAX_TAG: usize = 128;

/// Where an image is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NotAReference(&'static str);

impl Reference {
    /// Reads the name of an image.
    ///
    /// # Errors
    /// In containerd's words.
    pub fn parse(text: &str) -> Result<Self, NotAReference> {
        const FORMAT: NotAReference = NotAReference("invalid reference format");
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let known = Digest::parse(digest);
                let unknown = NotAReference("invalid reference format: a digest is a sha256");
                (name, Some(known.ok_or(unknown)?))
            }
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(FORMAT);
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_meant_as_host(host) => (host, path),
            _ => (DEFAULT_HOST, name),
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotAReference(
                "invalid reference format: repository name must be lowercase",
            ));
        }
        if !is_host(host) || !path.split('/').all(is_component) || is_identifier(path) {
            return Err(FORMAT);
        }
        let host = if host == OLD_DEFAULT_HOST { DEFAULT_HOST } else { host };
        let repository = if host == DEFAULT_HOST && !path.contains('/') {
            format!("{DEFAULT_FOLDER}/{path}")
        } else {
            path.to_owned()
        };
        if host.len() + 1 + repository.len() > MAX_NAME {
            return Err(NotAReference(
                "invalid reference format: a name has no more than 255 characters",
            ));
        }
        Ok(Self { host: host.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// The host, with its port if it is written.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host of the registry's API.
    #[must_use]
    pub fn api(&self) -> &str {
        if self.host == DEFAULT_HOST { DEFAULT_API } else { &self.host }
    }

    /// Whether the host is the one that need not be written.
    #[must_use]
    pub fn is_on_default_host(&self) -> bool {
        self.host == DEFAULT_HOST
    }

    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The manifest to ask for: by digest if there is one, else by tag.
    #[must_use]
    pub fn manifest(&self) -> String {
        let tag = || self.tag.clone().unwrap_or_else(|| LATEST.to_owned());
        self.digest.as_ref().map_or_else(tag, Digest::to_string)
    }

    /// Whether it asks for whatever is newest: then it is asked for at each start, unless
    /// somebody says otherwise.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref().unwrap_or(LATEST) == LATEST
    }
}

/// In full.
impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.host, self.repository)?;
        match (&self.tag, &self.digest) {
            (None, None) => write!(out, ":{LATEST}"),
            (Some(tag), None) => write!(out, ":{tag}"),
            (None, Some(digest)) => write!(out, "@{digest}"),
            (Some(tag), Some(digest)) => write!(out, ":{tag}@{digest}"),
        }
    }
}

/// Whether what stands before the first slash is a host, and no folder of the default one.
fn is_meant_as_host(text: &str) -> bool {
    text == "localhost"
        || text.contains(['.', ':', '['])
        || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let in_brackets = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_name = match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(is_label),
    };
    is_name && port.is_none_or(is_port)
}

/// Letters and digits with single separators: a dot, one or two underscores, dashes.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    if !ends.is_some_and(|(first, last)| is_word(*first) && is_word(*last)) {
        return false;
    }
    let between = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    between
        .into_iter()
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// Docker takes these for the name that an image has only where it lies.
fn is_identifier(path: &str) -> bool {
    path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_left_out_is_docker_hub_and_the_newest() {
        let table = [
            ("fedora", "docker.io/library/fedora:latest"),
            ("team/fedora:41", "docker.io/team/fedora:41"),
            ("docker.io/fedora", "docker.io/library/fedora:latest"),
            ("index.docker.io/fedora", "docker.io/library/fedora:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("reg.example/a__b/c--d/e.f", "reg.example/a__b/c--d/e.f:latest"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("Host/a", "Host/a:latest"),
        ];
        for (written, read) in table {
            assert_eq!(Reference::parse(written).unwrap().to_string(), read, "{written}");
        }
        assert_eq!(Reference::parse("fedora").unwrap().api(), "registry-1.docker.io");
    }

    #[test]
    fn a_digest_counts_more_than_a_tag() {
        let both = Reference::parse(&format!("reg.example/a:latest@{DIGEST}")).unwrap();
        assert_eq!(both.manifest(), DIGEST);
        assert!(!both.is_latest());
        assert_eq!(Reference::parse("a:latest").unwrap().manifest(), "latest");
        assert!(Reference::parse("a").unwrap().is_latest());
        assert!(!Reference::parse("a:41").unwrap().is_latest());
    }

    #[test]
    fn what_names_no_image_is_refused() {
        let long = format!("reg.example/{}", "a".repeat(250));
        let identifier = "0".repeat(64);
        let table = [
            "",
            "a b",
            "a:",
            ":1",
            "a@sha256:12",
            "a@md5:00",
            "a//b",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:b/c:d e",
            "reg.example:x/a",
            "reg.example:0/a",
            "reg.example:70000/a",
            "[::g]/a",
            "reg..example/a",
            "a\n",
            "a/../b",
            "a?b",
            "a#b",
            "user@host/a",
            &long,
            &identifier,
        ];
        for text in table {
            Reference::parse(text).unwrap_err();
        }
        let upper = Reference::parse("team/Fedora").unwrap_err().to_string();
        assert!(upper.ends_with("repository name must be lowercase"), "{upper}");
        Reference::parse(&format!("a:{}", "t".repeat(129))).unwrap_err();
    }
}
