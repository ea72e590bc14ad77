//! An agent, asked for one thing: over TLS, in which each side knows the other by the digest
//! that it has told in the API ([`crds::commands`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crds::commands::{self, Address, ENDPOINT, Endpoint, STREAM, digest};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::own::Own;
use super::refusal::{Kind, Refusal};

/// How long an agent may take to answer; a stream's bytes have all the time there is.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest refusal that is quoted, in bytes.
const LONGEST: usize = 4096;
/// The longest answer that is passed on, in bytes: a picture of a screen takes most.
const LONGEST_TOLD: usize = 33 << 20;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What an agent is asked for.
#[derive(Debug)]
pub(super) struct Command<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: String,
    /// The last part of the path.
    pub(super) verb: Cow<'static, str>,
}

/// Has the agent of `node` do it.
///
/// # Errors
/// When it cannot be reached, or says why not.
pub(super) async fn put(
    client: &Client,
    own: &Own,
    node: &str,
    command: &Command<'_>,
) -> Result<(), Refusal> {
    ask(client, own, node, command, Method::PUT).await.map(drop)
}

/// What the agent of `node` says to it.
///
/// # Errors
/// When it cannot be reached, or says why not.
pub(super) async fn get(
    client: &Client,
    own: &Own,
    node: &str,
    command: &Command<'_>,
) -> Result<Value, Refusal> {
    match ask(client, own, node, command, Method::GET).await? {
        Answer::Done(told) => serde_json::from_slice(&told).map_err(Refusal::internal),
        _ => Err(Refusal::internal(format!("the agent of {node} gave no answer"))),
    }
}

/// The picture that the agent of `node` gives for it.
///
/// # Errors
/// When it cannot be reached, or says why not.
pub(super) async fn picture(
    client: &Client,
    own: &Own,
    node: &str,
    command: &Command<'_>,
) -> Result<Bytes, Refusal> {
    match ask(client, own, node, command, Method::GET).await? {
        Answer::Done(picture) => Ok(picture),
        _ => Err(Refusal::internal(format!("the agent of {node} gave no picture"))),
    }
}

/// The stream that the agent of `node` gives for it.
///
/// # Errors
/// When it cannot be reached, or says why not.
pub(super) async fn stream(
    client: &Client,
    own: &Own,
    node: &str,
    command: &Command<'_>,
) -> Result<TokioIo<Upgraded>, Refusal> {
    match ask(client, own, node, command, Method::GET).await? {
        Answer::Stream(upgraded) => Ok(TokioIo::new(upgraded)),
        _ => Err(Refusal::internal(format!("the agent of {node} gave no stream"))),
    }
}

/// Asks the agent of `node` for what is no guest's, and waits for its answer to begin.
///
/// # Errors
/// It cannot be reached, or breaks off.
pub(super) async fn call<B>(
    client: &Client,
    own: &Own,
    node: &str,
    mut request: Request<B>,
) -> anyhow::Result<Response<Incoming>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connected = async {
        let endpoint = endpoint(client, node).await?;
        connect(&endpoint, own).await
    };
    let wire = tokio::time::timeout(LIMIT, connected).await;
    let wire = wire.map_err(|_| anyhow::anyhow!("it does not answer"))??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "A connection to an agent ended early");
        }
    });
    request.headers_mut().insert(HOST, http::HeaderValue::from_static("berth-agent"));
    Ok(sender.send_request(request).await?)
}

/// What an agent says of a refusal.
pub(super) async fn said(answer: Response<Incoming>) -> String {
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    String::from_utf8_lossy(&body).trim().to_owned()
}

async fn ask(
    client: &Client,
    own: &Own,
    node: &str,
    command: &Command<'_>,
    method: Method,
) -> Result<Answer, Refusal> {
    let failed = |why: &dyn std::fmt::Display| {
        Refusal::internal(format!("the agent of node {node} cannot be asked: {why}"))
    };
    let asked = async {
        let endpoint = endpoint(client, node).await.map_err(|error| failed(&error))?;
        let wire = connect(&endpoint, own).await.map_err(|error| failed(&format!("{error:#}")))?;
        exchange(wire, command, method).await.map_err(|error| failed(&error))
    };
    let Ok(answer) = tokio::time::timeout(LIMIT, asked).await else {
        return Err(failed(&"it does not answer"));
    };
    match answer? {
        // It knows the guest better than its object does.
        Answer::No(StatusCode::BAD_REQUEST, said) => Err(Refusal::bad_request(said)),
        Answer::No(StatusCode::CONFLICT, said) => {
            Err(Refusal::conflict(Kind::Instance, command.name, &said))
        }
        Answer::No(_, said) => Err(Refusal::internal(said)),
        answer => Ok(answer),
    }
}

async fn endpoint(client: &Client, node: &str) -> anyhow::Result<Endpoint> {
    let node = Api::<Node>::all(client.clone()).get_metadata(node).await?;
    let told = node.annotations().get(ENDPOINT);
    let told = told.ok_or_else(|| {
        anyhow::anyhow!("it listens nowhere: start it with --commands-listen ADDRESS:PORT")
    })?;
    Ok(serde_json::from_str(told)?)
}

async fn connect(endpoint: &Endpoint, own: &Own) -> anyhow::Result<Box<dyn Wire>> {
    let address: Address = endpoint.address.parse().map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let known = Known { digest: endpoint.sha256.clone(), provider: Arc::clone(&provider) };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(known))
        .with_client_auth_cert(vec![own.certificate.clone()], own.key())?;
    let tls = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("berth-agent")?;
    Ok(match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(tls.connect(name, stream).await?)
        }
        Address::Unix(path) => Box::new(tls.connect(name, UnixStream::connect(path).await?).await?),
    })
}

/// How an agent answers.
enum Answer {
    Done(Bytes),
    Stream(Upgraded),
    No(StatusCode, String),
}

async fn exchange(
    wire: Box<dyn Wire>,
    command: &Command<'_>,
    method: Method,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "A connection to an agent ended early");
        }
    });
    let Command { namespace, name, uid, verb } = command;
    let mut request = Request::builder()
        .method(&method)
        .uri(commands::path(namespace, name, uid, verb))
        .header(HOST, "berth-agent");
    if method == Method::GET {
        request = request.header(CONNECTION, "upgrade").header(UPGRADE, STREAM);
    }
    let mut response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            Ok(Answer::Stream(hyper::upgrade::on(&mut response).await?))
        }
        status if status.is_success() => {
            let body = Limited::new(response.into_body(), LONGEST_TOLD).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("its answer: {error}"))?;
            Ok(Answer::Done(body.to_bytes()))
        }
        status => Ok(Answer::No(status, said(response).await)),
    }
}

/// Believes whoever has the key of the certificate with this digest.
#[derive(Debug)]
struct Known {
    digest: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if digest(certificate) == self.digest {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
