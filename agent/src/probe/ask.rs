//! One question to a guest: its agent, or one of its ports.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{How, Outcome, Plan};
use crate::guest::words;
use crate::host::Host;
use crate::hypervisor::{GuestError, Lane};
use crate::reach::{self, ReachError};

/// How often a command in the guest is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(200);

/// How long a connection stays once it has been answered: there is one each second at most.
const LINGER: Duration = Duration::from_secs(1);

/// Asks, and gives the guest no longer than the plan says.
pub(crate) async fn ask(host: &Host, domain: &str, plan: &Plan) -> Outcome {
    let mut agent = Agent { host, domain, left: plan.timeout };
    match &plan.how {
        How::Ping => of_guest(agent.say(words::PING).await.map(drop)),
        How::Exec(command) => exec(&mut agent, command).await,
        How::Tcp(_) | How::Http { .. } => {
            let silent = || Outcome::Bad(format!("no answer within {} s", plan.timeout.as_secs()));
            timeout(plan.timeout, ask_port(host, domain, plan)).await.unwrap_or_else(|_| silent())
        }
    }
}

/// Asks one of its ports.
async fn ask_port(host: &Host, domain: &str, plan: &Plan) -> Outcome {
    let (port, page) = match &plan.how {
        How::Tcp(port) => (*port, None),
        How::Http { port, path, tls, headers } => (*port, Some((path, *tls, headers))),
        How::Ping | How::Exec(_) => return Outcome::Unknown,
    };
    let stream = match open(host, domain, port, plan.timeout).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    let Some((path, tls, headers)) = page else { return Outcome::Good };
    let status = if tls {
        match encrypted(stream).await {
            Ok(stream) => get(stream, path, headers).await,
            Err(error) => Err(error),
        }
    } else {
        get(stream, path, headers).await
    };
    match status {
        Ok(200..=399) => Outcome::Good,
        Ok(status) => Outcome::Bad(format!("HTTP probe failed with statuscode: {status}")),
        Err(_) => Outcome::Bad("the answer is not HTTP".to_owned()),
    }
}

/// The agent in a guest, and the time that it has left. What other guests take before it is
/// its turn is not counted: nobody is ended because his neighbours are silent.
struct Agent<'a> {
    host: &'a Host,
    domain: &'a str,
    left: Duration,
}

impl Agent<'_> {
    async fn say(&mut self, words: &str) -> Result<String, GuestError> {
        // libvirt counts in seconds.
        let patience = self.left.clamp(Duration::from_secs(1), words::PATIENCE);
        let asked = self.host.hypervisor.ask_guest_timed(self.domain, words, patience, Lane::Probe);
        let (answer, took) = asked.await;
        self.spend(took);
        if self.left.is_zero() && answer.is_ok() { Err(GuestError::Silent) } else { answer }
    }

    fn spend(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

fn of_guest(answer: Result<(), GuestError>) -> Outcome {
    match answer {
        Ok(()) => Outcome::Good,
        Err(GuestError::Silent) => Outcome::Bad("the guest agent does not answer".to_owned()),
        Err(GuestError::Refused(_) | GuestError::Unfit(_)) => {
            Outcome::Bad("the guest agent refused".to_owned())
        }
        Err(GuestError::Still | GuestError::Hypervisor(_)) => Outcome::Unknown,
    }
}

/// Runs a command in the guest until it has ended.
async fn exec(agent: &mut Agent<'_>, command: &[String]) -> Outcome {
    #[derive(Deserialize)]
    struct Begun {
        pid: i64,
    }
    #[derive(Deserialize)]
    struct Status {
        exited: bool,
        #[serde(default)]
        exitcode: i64,
        signal: Option<i64>,
    }
    let Some((program, arguments)) = command.split_first() else { return Outcome::Unknown };
    let begin =
        json!({ "execute": "guest-exec", "arguments": { "path": program, "arg": arguments } });
    let begun = agent.say(&begin.to_string()).await;
    let begun: Begun = match begun.and_then(|answer| words::returned(&answer)) {
        Ok(begun) => begun,
        // While its file systems stand still it runs nothing, which is not its fault.
        Err(GuestError::Refused(why)) => {
            let status = agent.say(words::FREEZE_STATUS).await;
            if status.is_ok_and(|status| words::is_frozen(&status)) {
                return Outcome::Unknown;
            }
            return of_guest(Err(GuestError::Refused(why)));
        }
        Err(error) => return of_guest(Err(error)),
    };
    let look =
        json!({ "execute": "guest-exec-status", "arguments": { "pid": begun.pid } }).to_string();
    loop {
        let status = agent.say(&look).await;
        match status.and_then(|answer| words::returned::<Status>(&answer)) {
            Ok(Status { exited: false, .. }) => {
                tokio::time::sleep(LOOK).await;
                agent.spend(LOOK);
            }
            Ok(Status { exitcode: 0, signal: None, .. }) => return Outcome::Good,
            Ok(Status { exitcode, .. }) => {
                return Outcome::Bad(format!("command terminated with exit code {exitcode}"));
            }
            Err(error) => return of_guest(Err(error)),
        }
    }
}

/// A connection to a port of the guest, or what it means that there is none.
async fn open(
    host: &Host,
    domain: &str,
    port: u16,
    limit: Duration,
) -> Result<tokio::io::DuplexStream, Outcome> {
    let way = host.ports.ways(domain).into_iter().next().ok_or(Outcome::Unknown)?;
    // Of two addresses the second one has its share.
    let limit = limit / u32::try_from(way.addresses.len().max(1)).unwrap_or(1);
    reach::connect(&way, port, limit, LINGER).await.map_err(|error| match error {
        ReachError::Refused(..) => Outcome::Bad(format!("port {port} refuses connections")),
        ReachError::Silent(..) => Outcome::Bad(format!("port {port} does not answer")),
        ReachError::NoAddress | ReachError::Tap(_) => Outcome::Unknown,
    })
}

/// The status of a page.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    path: &str,
    headers: &[(String, String)],
) -> anyhow::Result<u16> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let has = |name: &str| headers.iter().any(|(one, _)| one.eq_ignore_ascii_case(name));
    if !has("host") {
        request = request.header("host", "guest");
    }
    if !has("user-agent") {
        request = request.header("user-agent", "kube-probe/berth");
    }
    let request = request.header("connection", "close").body(Empty::<Bytes>::new())?;
    tokio::select! {
        // Its body is nobody's: the connection goes with it.
        response = sender.send_request(request) => Ok(response?.status().as_u16()),
        () = drive => anyhow::bail!("it never answers"),
    }
}

/// TLS with whoever is there: the kubelet looks at no certificate either.
async fn encrypted(
    stream: tokio::io::DuplexStream,
) -> anyhow::Result<tokio_rustls::client::TlsStream<tokio::io::DuplexStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let tls = TlsConnector::from(Arc::new(config));
    Ok(tls.connect(ServerName::try_from("guest")?, stream).await?)
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What comes of a guest that answers so, and what it was asked.
    async fn page(answer: &'static str) -> (anyhow::Result<u16>, String) {
        let (near, mut far) = tokio::io::duplex(4096);
        let guest = tokio::spawn(async move {
            let mut asked = vec![0; 4096];
            let length = far.read(&mut asked).await.unwrap();
            far.write_all(answer.as_bytes()).await.unwrap();
            asked.truncate(length);
            String::from_utf8(asked).unwrap()
        });
        let headers = [("X-Probe".to_owned(), "yes".to_owned())];
        (get(near, "healthz", &headers).await, guest.await.unwrap())
    }

    #[tokio::test]
    async fn a_page_is_asked_for_with_the_headers_that_are_named() {
        let (status, asked) = page("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(status.unwrap(), 204);
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\nx-probe: yes\r\n"), "{asked}");
        let (status, _) = page("HTTP/1.0 503 Busy\r\n\r\n").await;
        assert_eq!(status.unwrap(), 503);
        let (status, _) = page("SSH-2.0-OpenSSH\r\n").await;
        assert!(status.is_err(), "no HTTP");
    }

    #[test]
    fn what_says_nothing_about_the_guest_does_not_count() {
        assert_eq!(of_guest(Err(GuestError::Still)), Outcome::Unknown);
        assert!(matches!(of_guest(Err(GuestError::Silent)), Outcome::Bad(_)));
        assert!(matches!(of_guest(Err(GuestError::Refused("x".into()))), Outcome::Bad(_)));
    }
}
