//! Real TLS clients, most of which say nothing or not enough.

use std::net::Ipv4Addr;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName as TlsName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// Longer than any test.
const EVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

/// A webhook, and what its clients need.
struct Webhook {
    at: SocketAddr,
    tls: TlsConnector,
}

impl Webhook {
    async fn with(limits: Limits) -> Self {
        let here = Ipv4Addr::LOCALHOST.into();
        let authority = authority::made().unwrap();
        let identity = authority::issue(authority, "localhost", here).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(identity.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind((here, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, identity.acceptor(None).unwrap(), Arc::default(), limits));
        Self { at, tls: TlsConnector::from(Arc::new(config)) }
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    async fn client(&self) -> TlsStream<TcpStream> {
        let name = TlsName::try_from("localhost").unwrap();
        self.tls.connect(name, self.raw().await).await.unwrap()
    }

    async fn client_who_says(&self, text: &str) -> TlsStream<TcpStream> {
        let mut client = self.client().await;
        client.write_all(text.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        client
    }
}

const PLENTY: Limits = Limits { patience: EVER, silence: EVER, ..LIMITS };
const HASTE: Limits =
    Limits { patience: Duration::from_millis(200), silence: Duration::from_millis(200), ..LIMITS };

fn review() -> String {
    let body = r#"{"request":{"uid":"u","resource":{"resource":"pods"}}}"#;
    format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What comes until `end` is part of it, or there is no more.
async fn heard(client: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    let listening = async {
        while let Ok(length @ 1..) = client.read(&mut piece).await {
            heard.extend_from_slice(&piece[..length]);
            if !end.is_empty() && String::from_utf8_lossy(&heard).contains(end) {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, listening).await.expect("neither an answer nor an end");
    String::from_utf8_lossy(&heard).into_owned()
}

async fn is_answered(client: &mut TlsStream<TcpStream>) {
    client.write_all(review().as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    let heard = heard(client, "\"allowed\":true").await;
    assert!(heard.contains("\"allowed\":true"), "{heard:?}");
}

#[tokio::test]
async fn who_says_nothing_or_not_all_is_not_waited_for() {
    let webhook = Webhook::with(HASTE).await;
    assert_eq!(heard(&mut webhook.raw().await, "").await, "", "no handshake");
    assert_eq!(heard(&mut webhook.client().await, "").await, "", "no request");
    let mut half = webhook.client_who_says("POST / HTTP/1.1\r\nHost: loc").await;
    assert_eq!(heard(&mut half, "").await, "", "half a head");
    let text = review();
    let mut half = webhook.client_who_says(&text[..text.len() - 5]).await;
    assert!(heard(&mut half, "").await.starts_with("HTTP/1.1 408"), "half a body");
    let mut quiet = webhook.client().await;
    is_answered(&mut quiet).await;
    assert_eq!(heard(&mut quiet, "").await, "", "no second request");
}

#[tokio::test]
async fn the_silent_keep_nobody_out() {
    let webhook = Webhook::with(Limits { connections: 4, ..PLENTY }).await;
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(webhook.client().await);
        held.push(webhook.client_who_says("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{").await);
    }
    let mut raw = Vec::new();
    for _ in 0..12 {
        raw.push(webhook.raw().await);
    }
    let mut client = webhook.client().await;
    is_answered(&mut client).await;
    // The first have given way.
    assert_eq!(heard(&mut held[0], "").await, "");
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_not_for_ever() {
    let webhook = Webhook::with(PLENTY).await;
    let mut client = webhook.client().await;
    is_answered(&mut client).await;
    is_answered(&mut client).await;
    let webhook = Webhook::with(Limits { lifetime: Duration::ZERO, ..PLENTY }).await;
    let mut client = webhook.client_who_says(&review()).await;
    let heard = heard(&mut client, "").await;
    assert!(heard.contains("connection: close") && heard.contains("allowed"), "{heard:?}");
}

#[tokio::test]
async fn requests_have_a_longest_size_each_and_all_together() {
    let webhook = Webhook::with(PLENTY).await;
    let long = LARGEST + 1;
    let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {long}\r\n\r\n");
    let mut client = webhook.client_who_says(&text).await;
    let piece = vec![b' '; 64 << 10];
    for _ in 0..=(LARGEST / piece.len()) {
        // It need not listen to all of it.
        if client.write_all(&piece).await.is_err() {
            break;
        }
    }
    assert!(heard(&mut client, "too large").await.starts_with("HTTP/1.1 413"));

    // More than there is for all of them is waited for, and not for ever.
    let patience = Duration::from_millis(300);
    let webhook = Webhook::with(Limits { memory: 1000, patience, ..PLENTY }).await;
    let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n";
    let mut greedy = webhook.client_who_says(&format!("{text}{}", " ".repeat(2000))).await;
    assert!(heard(&mut greedy, "in time").await.starts_with("HTTP/1.1 408"));
    let mut client = webhook.client().await;
    is_answered(&mut client).await;
}
