//! One GET, wherever redirects lead, within limits.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use super::RegistryError;

/// For a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// From a request to the head of its answer, through all redirects; and for a small body.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long an idle connection is kept for the next blob.
const KEPT: Duration = Duration::from_secs(15);

const MAX_REDIRECTS: usize = 5;

/// How many wait for an answer at once: each may keep a thread that looks up a host's name,
/// and those are shared with all who read and write files.
const MAX_ASKING: usize = 32;

type Connections = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The way to registries: whom to trust, and whom to talk to without TLS.
pub struct Http {
    /// Hosts as images name them, whose registry is asked without TLS.
    plain: Vec<String>,
    /// Who may vouch for a registry.
    authorities: Vec<CertificateDer<'static>>,
    /// Whether the system's are believed.
    system: bool,
    asking: Semaphore,
    /// Made when somebody asks: the system's certificates take more memory than all else here.
    connections: OnceLock<Connections>,
}

impl fmt::Debug for Http {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Http").field("plain", &self.plain).finish_non_exhaustive()
    }
}

impl Http {
    /// `plain`: hosts, with their ports, that are asked without TLS. `authorities`: who else
    /// may vouch for a registry.
    #[must_use]
    pub fn new(plain: Vec<String>, authorities: Vec<CertificateDer<'static>>) -> Self {
        let asking = Semaphore::new(MAX_ASKING);
        Self { plain, authorities, system: true, asking, connections: OnceLock::new() }
    }

    /// The same way, on which nobody but these may vouch for a registry.
    #[must_use]
    pub fn trusting(&self, authorities: Vec<CertificateDer<'static>>) -> Self {
        Self { system: false, ..Self::new(self.plain.clone(), authorities) }
    }

    /// The beginning of all URLs of the registry at this host.
    pub(super) fn base(&self, host: &str) -> String {
        let scheme = if self.asks_plainly(host) { "http" } else { "https" };
        format!("{scheme}://{host}")
    }

    /// Whether the registry at this host is asked without TLS.
    #[must_use]
    pub fn asks_plainly(&self, host: &str) -> bool {
        self.plain.iter().any(|plain| plain == host)
    }

    /// Asks for `url` with these headers, following redirects. `Authorization` is shown to
    /// nobody but the host that was asked for.
    pub(super) async fn get(
        &self,
        url: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, RegistryError> {
        let _asking = self.asking.acquire().await.expect("it is never closed");
        let mut at = parsed(url)?;
        let origin = place(&at);
        let mut headers = headers.clone();
        let asked = async {
            for _ in 0..=MAX_REDIRECTS {
                let answer = self.once(&at, &headers).await?;
                if !answer.status().is_redirection() {
                    return Ok(answer);
                }
                let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                at = self.next(&at, to)?;
                if place(&at) != origin {
                    headers.remove(AUTHORIZATION);
                }
            }
            Err(RegistryError::failed(format!("{url} leads from one redirect to the next")))
        };
        let host = host_of(&parsed(url)?);
        let late = || RegistryError::failed(format!("{host} does not answer within 30 s"));
        tokio::time::timeout(ANSWER_LIMIT, asked).await.map_err(|_| late())?
    }

    async fn once(
        &self,
        at: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, RegistryError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = at.clone();
        *request.headers_mut() = headers.clone();
        let host = host_of(at);
        let answer = self.connections().request(request).await;
        answer.map_err(|error| RegistryError::failed(format!("{host}: {}", innermost(&error))))
    }

    /// Where a redirect leads: from TLS to nothing but TLS, unless the host may be asked
    /// without it.
    fn next(&self, from: &Uri, to: Option<&str>) -> Result<Uri, RegistryError> {
        let odd = || RegistryError::failed(format!("{} redirects to nowhere", host_of(from)));
        let to = to.ok_or_else(odd)?;
        let next = if to.starts_with('/') && !to.starts_with("//") {
            let (scheme, host) = (from.scheme_str().unwrap_or("https"), host_of(from));
            parsed(&format!("{scheme}://{host}{to}"))?
        } else {
            parsed(to)?
        };
        let host = host_of(&next);
        let is_safe = next.scheme() == Some(&Scheme::HTTPS) || self.asks_plainly(&host);
        if is_safe {
            return Ok(next);
        }
        Err(RegistryError::failed(format!("{} redirects to {host} without TLS", host_of(from))))
    }

    /// Whether a login may be sent there.
    pub(super) fn is_private(&self, url: &str) -> bool {
        parsed(url).is_ok_and(|url| {
            url.scheme() == Some(&Scheme::HTTPS) || self.asks_plainly(&host_of(&url))
        })
    }

    fn connections(&self) -> &Connections {
        self.connections.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            if self.system {
                // A system without certificates trusts nobody, which is no reason not to start.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            roots.add_parsable_certificates(self.authorities.iter().cloned());
            let provider = rustls::crypto::ring::default_provider();
            let tls = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .expect("ring knows them")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            tcp.set_connect_timeout(Some(CONNECT_LIMIT));
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp);
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEPT)
                .build(connector)
        })
    }
}

/// A body of no more than so many bytes.
pub(super) async fn small(
    answer: Response<Incoming>,
    most: u64,
    what: &str,
) -> Result<Bytes, RegistryError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let read = Limited::new(answer.into_body(), most).collect();
    let late = |_| RegistryError::failed(format!("{what} does not come within 30 s"));
    let read = tokio::time::timeout(ANSWER_LIMIT, read).await.map_err(late)?;
    let cut = |error| RegistryError::failed(format!("{what} cannot be read: {error}"));
    Ok(read.map_err(cut)?.to_bytes())
}

/// A header's value; its text is not shown where it has no place in a header.
pub(super) fn header(text: &str, secret: bool) -> Result<HeaderValue, RegistryError> {
    let odd = |_| RegistryError::failed("a login has characters that no header can have");
    let mut value = HeaderValue::from_str(text).map_err(odd)?;
    value.set_sensitive(secret);
    Ok(value)
}

fn parsed(url: &str) -> Result<Uri, RegistryError> {
    let odd = || RegistryError::failed(format!("{:?} is no URL", net::shown(url)));
    let uri: Uri = url.parse().map_err(|_| odd())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    // What stands before an @ would be shown to whom it is not for.
    let named = uri.authority().is_some_and(|one| !one.as_str().contains('@') && is_host(one));
    if known && named { Ok(uri) } else { Err(odd()) }
}

fn is_host(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    !host.is_empty() && (!host.starts_with('[') || address.parse::<IpAddr>().is_ok())
}

fn host_of(uri: &Uri) -> String {
    uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default()
}

/// What a login is for.
fn place(uri: &Uri) -> (Option<String>, String) {
    (uri.scheme_str().map(str::to_owned), host_of(uri))
}

/// The cause of an error: hyper says first that a request failed, and last why.
fn innermost(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}
