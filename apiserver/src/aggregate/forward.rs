//! One request to whoever serves its group, and the answer back; an upgraded connection
//! (WebSocket) is passed on byte by byte until one side ends it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::{Backend, FrontProxy};
use crate::http::{Reply, Server};
use crate::status::ApiError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// Who asks, here: whoever has the token.
const USER: (&str, &str) = ("x-remote-user", "berth-admin");
const GROUP: (&str, &str) = ("x-remote-group", "system:masters");
/// What only this server may say.
const SAID_BY_US: &str = "x-remote-";

/// Of one connection, not of the request.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Sends the request on, and returns what is answered.
pub(crate) async fn forward(
    server: &Arc<Server>,
    backend: Backend,
    mut request: Request<Incoming>,
) -> Result<Reply, ApiError> {
    let unreachable = |why: &dyn std::fmt::Display| {
        let (host, port) = &backend.address;
        ApiError::no_backend(format!("error trying to reach service at {host}:{port}: {why}"))
    };
    let connected = tokio::time::timeout(CONNECT, connect(&server.front_proxy, &backend)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(&format!("{error:#}"))),
        Err(_) => return Err(unreachable(&"it did not answer in time")),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let shutdown = server.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => {
                if let Err(error) = ended {
                    debug!(%error, "A connection to another API ended early");
                }
            }
            () = shutdown.cancelled() => {}
        }
    });
    let client = on(&mut request);
    rewrite(&mut request, &backend.name);
    let mut response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let shutdown = server.shutdown.clone();
        let joined = join(client, on(&mut response));
        tokio::spawn(async move { shutdown.run_until_cancelled(joined).await });
    }
    Ok(Reply::passed_on(answered(response)))
}

async fn connect(ours: &FrontProxy, backend: &Backend) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&backend.authority) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(ours.chain.clone(), ours.key.clone_key())?;
    let name = ServerName::try_from(backend.name.clone())?;
    let (host, port) = &backend.address;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Makes it a request of this server's: whoever is told who asks must hear it from nobody else.
fn rewrite(request: &mut Request<Incoming>, host: &str) {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| "/".parse().unwrap_or_default(), Into::into);
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let protocol = headers.get(UPGRADE).cloned().filter(|_| is_upgrade(headers));
    strip(headers);
    let said: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(SAID_BY_US)).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    headers.remove(AUTHORIZATION);
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
    for (name, value) in [USER, GROUP] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let said = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // The body is framed anew, as its length or the lack of it asks for.
    headers.remove(TRANSFER_ENCODING);
}

fn answered(mut response: Response<Incoming>) -> Response<Incoming> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(UPGRADE).cloned().filter(|_| switches);
    strip(response.headers_mut());
    if let Some(protocol) = protocol {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, protocol);
    }
    response
}

/// Passes bytes on, both ways, until either side ends.
async fn join(client: OnUpgrade, served: OnUpgrade) {
    match tokio::try_join!(client, served) {
        Ok((client, served)) => {
            let (mut client, mut served) = (TokioIo::new(client), TokioIo::new(served));
            // Either may vanish at any time, and the other then learns it.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut served).await;
        }
        Err(error) => debug!(%error, "A connection was not upgraded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_one_only_where_the_connection_says_so() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert!(!is_upgrade(&headers));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(is_upgrade(&headers));
    }
}
