//! Where a server listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// One way to reach a server, written as OVS writes it: `unix:<path>` or
/// `tcp:<host>:<port>`, an IPv6 address in brackets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Remote {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Usually 6641 for the northbound and 6642 for the southbound database.
        port: u16,
    },
}

/// The text names no server that can be reached.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
pub enum ParseRemoteError {
    /// It is in no notation of ours.
    #[error("{0:?} is not a database server: write unix:<path> or tcp:<host>:<port>")]
    Unknown(String),
    /// It asks for TLS.
    #[error(
        "{0:?} asks for TLS, which is not supported yet: use unix:<path>, or tcp:<host>:<port> on a network that is trusted"
    )]
    Tls(String),
}

pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Remote {
    /// Reads a list with commas between, as `ovn-nbctl --db` takes it.
    pub fn list(text: &str) -> Result<Vec<Self>, ParseRemoteError> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }

    pub(super) async fn connect(&self) -> std::io::Result<(Reader, Writer)> {
        match self {
            Self::Unix(path) => {
                let (reader, writer) = UnixStream::connect(path).await?.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
            Self::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let (reader, writer) = stream.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
        }
    }
}

impl FromStr for Remote {
    type Err = ParseRemoteError;

    fn from_str(text: &str) -> Result<Self, ParseRemoteError> {
        let invalid = || ParseRemoteError::Unknown(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(invalid)?;
        match kind {
            "unix" if !rest.is_empty() => Ok(Self::Unix(rest.into())),
            "tcp" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
                let port = port.parse().map_err(|_| invalid())?;
                let host = match host.strip_prefix('[') {
                    Some(inner) => inner.strip_suffix(']').ok_or_else(invalid)?,
                    None => Some(host).filter(|host| !host.contains(':')).ok_or_else(invalid)?,
                };
                if host.is_empty() {
                    return Err(invalid());
                }
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            "ssl" => Err(ParseRemoteError::Tls(text.to_owned())),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(out, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_printed() {
        let text = "unix:/run/ovn/nb.sock,tcp:10.0.0.1:6641,tcp:[fd00::1]:6641";
        let printed: Vec<_> = Remote::list(text).unwrap().iter().map(Remote::to_string).collect();
        assert_eq!(printed.join(","), text);
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in ["", "unix:", "/run/x", "tcp:h", "tcp::1", "tcp:fd00::1:6641", "ptcp:6641"] {
            assert_eq!(text.parse::<Remote>(), Err(ParseRemoteError::Unknown(text.to_owned())));
        }
    }

    #[test]
    fn tls_is_refused_by_name_also_as_one_of_several() {
        let error = Remote::list("tcp:h:6641,ssl:h:6641").unwrap_err();
        assert_eq!(error, ParseRemoteError::Tls("ssl:h:6641".to_owned()));
        assert!(error.to_string().contains("not supported yet"), "{error}");
    }
}
