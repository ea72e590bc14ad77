//! A file of a web server. Users name it, and the node asks for it: so nothing that is only the
//! node's own is asked, wherever a name or a redirection leads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fault::Fault;
use super::pipe::{Progress, Sender};
use super::sign::{self, Keys};

/// Redirections that are followed.
const REDIRECTIONS: usize = 10;
/// Until a server is connected to, with TLS.
const CONNECT: Duration = Duration::from_secs(15);
/// Until it answers, and from one piece of the file to the next.
const SILENCE: Duration = Duration::from_secs(60);

/// The longest refusal that is read, in bytes.
const LONGEST_REFUSAL: usize = 16 << 10;

/// What is asked for, and how.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) url: String,
    /// For the server that is named, and no other.
    pub(super) headers: HeaderMap,
    /// Certificates, in PEM; without them the host's.
    pub(super) certificates: Vec<Vec<u8>>,
    /// With what the request is signed, if it is for an object of S3.
    pub(super) keys: Option<Keys>,
}

impl Wanted {
    /// What is asked for first. A path that is signed is written as it is signed.
    fn start(&self) -> Result<Uri, Fault> {
        let url: Uri = self.url.parse().map_err(not_a_url(&self.url))?;
        if self.keys.is_none() {
            return Ok(url);
        }
        let path = sign::path(url.path());
        let mut parts = url.into_parts();
        parts.path_and_query = Some(path.parse().map_err(not_a_url(&path))?);
        Uri::from_parts(parts).map_err(not_a_url(&self.url))
    }

    /// The headers for the server that is named.
    fn headers(&self, url: &Uri) -> Result<HeaderMap, Fault> {
        let mut headers = self.headers.clone();
        if let Some(keys) = &self.keys {
            let signed = keys.headers(host_of(url), &sign::path(url.path()), Timestamp::now());
            let odd = "accessKeyId has characters that no header can have";
            headers.extend(signed.map_err(|_| Fault::Final(odd.to_owned()))?);
        }
        Ok(headers)
    }
}

/// Where a URL is: what a connection is to.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Server {
    tls: bool,
    host: String,
    port: u16,
}

/// Sends the file into the pipe.
pub(super) async fn fetch(
    wanted: &Wanted,
    into: &Sender,
    progress: &Progress,
) -> Result<(), Fault> {
    let response = ask(wanted).await?;
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    progress.expect(length.unwrap_or(0));
    let mut body = response.into_body();
    let mut received = 0_u64;
    loop {
        let piece = timeout(SILENCE, body.frame()).await;
        let piece = piece.map_err(|_| Fault::Passing("the server has fallen silent".to_owned()))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(Fault::passing("the server broke off"))?;
        let Ok(data) = piece.into_data() else { continue };
        progress.add(data.len());
        received += u64::try_from(data.len()).unwrap_or(0);
        if !data.is_empty() && into.send(Some(data)).await.is_err() {
            // Whoever reads says why.
            return Ok(());
        }
    }
    if body.is_end_stream() && length.is_some_and(|length| length != received) {
        return Err(Fault::Passing("the server broke off".to_owned()));
    }
    let _ = into.send(None).await;
    Ok(())
}

/// The answer that has the file, wherever that is.
async fn ask(wanted: &Wanted) -> Result<Response<Reply>, Fault> {
    let mut url = wanted.start()?;
    let first = server(&url)?;
    for _ in 0..=REDIRECTIONS {
        let server = server(&url)?;
        let headers = if server == first { wanted.headers(&url)? } else { HeaderMap::new() };
        let response = ask_once(&server, &url, &headers, &wanted.certificates).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let next = response.headers().get(LOCATION).and_then(|text| text.to_str().ok());
        match next.filter(|_| status.is_redirection()) {
            Some(next) => url = resolved(&url, next)?,
            None if wanted.keys.is_some() => return Err(refused_by_store(&url, response).await),
            None => return Err(refused(status)),
        }
    }
    Err(Fault::Final(format!("the server redirects more than {REDIRECTIONS} times")))
}

fn not_a_url<E: std::fmt::Display>(url: &str) -> impl FnOnce(E) -> Fault {
    let shown = net::shown(url);
    move |error| Fault::Final(format!("{shown:?} is not a URL: {error}"))
}

/// In CDI's words (`pkg/importer/http-datasource.go`).
fn refused(status: StatusCode) -> Fault {
    Fault::Passing(format!(
        "Unable to connect to http data source: expected status code 200, got {}. Status: {status}",
        status.as_u16()
    ))
}

/// In CDI's words (`pkg/importer/s3-datasource.go`), with the store's own.
async fn refused_by_store(url: &Uri, response: Response<Reply>) -> Fault {
    let status = response.status();
    let body = timeout(SILENCE, Limited::new(response.into_body(), LONGEST_REFUSAL).collect());
    let body = body.await.ok().and_then(Result::ok);
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = code.map(|(code, _)| code.chars().filter(char::is_ascii_alphanumeric).collect());
    let code: String = code.unwrap_or_default();
    let object = net::shown(url.path().trim_start_matches('/'));
    Fault::Passing(format!("could not get s3 object: {object:?}: {status} {}", net::shown(&code)))
}

/// The host of a URL, with its port if it is written: what `Host` says.
fn host_of(url: &Uri) -> &str {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn server(url: &Uri) -> Result<Server, Fault> {
    let shown = || net::shown(&url.to_string());
    let tls = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => {
            let why = format!("{:?} must begin with http:// or https://", shown());
            return Err(Fault::Final(why));
        }
    };
    let host = url.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| Fault::Final(format!("{:?} names no host", shown())))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Server { tls, host, port: url.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
}

/// Where a redirection leads: a whole URL, or a path of the same server.
fn resolved(from: &Uri, to: &str) -> Result<Uri, Fault> {
    let to: Uri = to.parse().map_err(not_a_url(to))?;
    if to.scheme().is_some() {
        return Ok(to);
    }
    let mut parts = from.clone().into_parts();
    parts.path_and_query = to.path_and_query().cloned();
    if let Some(authority) = to.authority() {
        parts.authority = Some(authority.clone());
    }
    Uri::from_parts(parts).map_err(not_a_url("Location"))
}

/// A body, with the connection that it comes over.
#[derive(Debug)]
struct Reply {
    body: Incoming,
    _connection: JoinSet<()>,
}

impl hyper::body::Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

async fn ask_once(
    server: &Server,
    url: &Uri,
    headers: &HeaderMap,
    certificates: &[Vec<u8>],
) -> Result<Response<Reply>, Fault> {
    let silent = |_| Fault::Passing(format!("{} does not answer", server.host));
    let stream = timeout(CONNECT, connect(server)).await.map_err(silent)??;
    if !server.tls {
        return request(stream, server, url, headers).await;
    }
    let tls = TlsConnector::from(Arc::new(trust(certificates)?));
    let name = ServerName::try_from(server.host.clone()).map_err(not_a_url(&server.host))?;
    let stream = timeout(CONNECT, tls.connect(name, stream)).await.map_err(silent)?;
    let stream = stream.map_err(Fault::passing(format!("{} cannot be trusted", server.host)))?;
    request(stream, server, url, headers).await
}

async fn request<S>(
    stream: S,
    server: &Server,
    url: &Uri,
    headers: &HeaderMap,
) -> Result<Response<Reply>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |error: hyper::Error| Fault::Passing(format!("{}: {error}", server.host));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Whoever waits for an answer or reads the body is told.
        let _ = connection.await;
    });
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).body(Empty::<Bytes>::new()).map_err(not_a_url(path))?;
    request.headers_mut().extend(headers.clone());
    let host = host_of(url);
    let host = HeaderValue::from_str(host).map_err(not_a_url(host))?;
    request.headers_mut().insert(HOST, host);
    let agent = HeaderValue::from_static("berth-agent");
    request.headers_mut().insert(http::header::USER_AGENT, agent);
    let silent = |_| Fault::Passing(format!("{} does not answer", server.host));
    let answered = timeout(SILENCE, sender.send_request(request)).await.map_err(silent)?;
    let answered = answered.map_err(broke)?;
    Ok(answered.map(|body| Reply { body, _connection: tasks }))
}

/// The addresses of a host that are not the node's own.
async fn found(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(Fault::passing(format!("{host} cannot be found")))?;
    let found: Vec<SocketAddr> = found.collect();
    let allowed: Vec<_> = found.iter().copied().filter(|one| is_for_all(one.ip())).collect();
    if allowed.is_empty() && !found.is_empty() {
        return Err(Fault::Final(format!(
            "{host} is an address that only the node itself reaches: images come from elsewhere"
        )));
    }
    Ok(allowed)
}

/// That a host, with a port or without one, is not the node's own.
pub(super) async fn check_for_all(host: &str, port: u16) -> Result<(), Fault> {
    let authority: http::uri::Authority = host.parse().map_err(not_a_url(host))?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    found(name, authority.port_u16().unwrap_or(port)).await.map(drop)
}

async fn connect(server: &Server) -> Result<TcpStream, Fault> {
    let allowed = found(&server.host, server.port).await?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(Fault::Passing(format!("{} cannot be reached: {last}", server.host)))
}

/// Where clouds tell a machine of itself in IPv6: Amazon's and Google's.
const CLOUDS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether an address means the same to everybody: not the node itself, and not what clouds
/// tell a machine on its own link.
fn is_for_all(address: IpAddr) -> bool {
    let v4 = |one: Ipv4Addr| {
        !(one.is_loopback()
            || one.is_unspecified()
            || one.is_link_local()
            || one.is_multicast()
            || one.is_broadcast()
            || one.octets()[0] == 0
            || one == Ipv4Addr::new(100, 100, 100, 200))
    };
    let v6 = |one: Ipv6Addr| {
        !(one.is_loopback()
            || one.is_unspecified()
            || one.is_unicast_link_local()
            || one.is_multicast()
            || CLOUDS.contains(&one))
    };
    match address {
        IpAddr::V4(one) => v4(one),
        // `::ffff:127.0.0.1`, and `::127.0.0.1` of old.
        IpAddr::V6(one) => {
            // And `64:ff9b::7f00:1`, by way of a translator (RFC 6052).
            let octets = one.octets();
            let translated = octets.starts_with(&[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]);
            let within = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
            v6(one) && one.to_ipv4().is_none_or(v4) && (!translated || v4(within))
        }
    }
}

fn trust(certificates: &[Vec<u8>]) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    if certificates.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
    }
    for pem in certificates {
        for one in CertificateDer::pem_slice_iter(pem) {
            let wrong = "certConfigMap holds something else than certificates";
            let one = one.map_err(|_| Fault::Final(wrong.to_owned()))?;
            roots.add(one).map_err(|_| Fault::Final(wrong.to_owned()))?;
        }
    }
    if roots.is_empty() {
        let why = "no certificates are there by which to know a server: name a certConfigMap";
        return Err(Fault::Passing(why.to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(Fault::passing("TLS"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Headers as users write them: `Name: value` each.
pub(super) fn headers<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for line in lines {
        // It may be a secret: it is not shown.
        let wrong = || Fault::Final("a header must be a name, a colon and a value".to_owned());
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Logs in as this user.
pub(super) fn log_in(headers: &mut HeaderMap, user: &[u8], password: &[u8]) {
    use base64::Engine as _;
    let both = [user, b":", password].concat();
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both));
    let mut value = HeaderValue::from_str(&text).expect("base64 is plain text");
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_the_nodes_own_is_asked() {
        for own in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(!is_for_all(own.parse().unwrap()), "{own}");
        }
        for good in ["10.0.0.1", "192.168.1.1", "100.127.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"]
        {
            assert!(is_for_all(good.parse().unwrap()), "{good}");
        }
    }

    #[test]
    fn a_redirection_leads_to_a_url_or_to_a_path() {
        let from: Uri = "https://a:8443/x/y?z".parse().unwrap();
        let to = |to: &str| resolved(&from, to).unwrap().to_string();
        assert_eq!(to("http://b/c"), "http://b/c");
        assert_eq!(to("/c?d"), "https://a:8443/c?d");
        let told = server(&"ftp://b/c".parse().unwrap()).unwrap_err().to_string();
        assert!(told.contains("must begin with http://"), "{told}");
        let v6 = server(&"http://[fd00::1]:81/".parse().unwrap()).unwrap();
        assert_eq!(v6, Server { tls: false, host: "fd00::1".to_owned(), port: 81 });
    }

    #[test]
    fn headers_are_names_and_values_and_a_bad_one_is_not_shown() {
        let good = headers(["X-Token: a:b", "Accept:*/*"]).unwrap();
        assert_eq!(good.get("x-token").unwrap(), "a:b");
        for bad in ["secret", "a b: c", "a: b\nc: d"] {
            let told = headers([bad]).unwrap_err().to_string();
            assert!(!told.contains(bad), "{told}");
        }
        let mut with_user = HeaderMap::new();
        log_in(&mut with_user, b"Aladdin", b"open sesame");
        assert_eq!(with_user.get(AUTHORIZATION).unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
