//! The token, and the kubeconfig that carries it.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The bearer token that admits to everything. Only its digest is kept.
pub(crate) struct Token {
    digest: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub(crate) fn new(text: &str) -> Self {
        Self { digest: Sha256::digest(text).into() }
    }

    /// Whether the request carries the token. Digests are compared, whole, so the time it takes
    /// says nothing about the token.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(given) = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
        else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(given.trim()).into();
        let difference = given.iter().zip(&self.digest).fold(0, |sum, (a, b)| sum | (a ^ b));
        difference == 0
    }
}

/// Reads the token in `dir`, or makes one.
pub(crate) fn token(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("token");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    }
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    write_private(&path, token.as_bytes())?;
    Ok(token)
}

/// Writes `dir/kubeconfig` for the address that is served.
pub(crate) fn write_kubeconfig(
    dir: &Path,
    address: SocketAddr,
    authority: &str,
    token: &str,
) -> anyhow::Result<()> {
    // Clients on this host cannot reach "any address".
    let host = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => "127.0.0.1".to_owned(),
        ip if ip.is_unspecified() => "[::1]".to_owned(),
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "berth", "cluster": {
            "server": format!("https://{host}:{}", address.port()),
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{"name": "berth-admin", "user": {"token": token}}],
        "contexts": [{"name": "berth", "context": {
            "cluster": "berth", "user": "berth-admin", "namespace": "default",
        }}],
        "current-context": "berth",
    });
    let yaml = serde_norway::to_string(&config)?;
    write_private(&dir.join("kubeconfig"), yaml.as_bytes())
}

/// Replaces a file that only its owner may read: whoever opens it sees all of it or the old one.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let write = || -> io::Result<()> {
        // A draft left by a crash may have any mode.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        fs::File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_whole_token_admits() {
        let token = Token::new("secret");
        assert!(token.admits(&headers("Bearer secret")));
        for wrong in ["Bearer secre", "Bearer secretx", "Bearer ", "secret", "Basic secret"] {
            assert!(!token.admits(&headers(wrong)), "{wrong}");
        }
        assert!(!token.admits(&HeaderMap::new()));
    }

    #[test]
    fn a_token_is_made_once_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = token(dir.path()).unwrap();
        assert_eq!(token(dir.path()).unwrap(), first);
        assert!(first.len() >= 43);
        let mode = fs::metadata(dir.path().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
