//! A real listener and real TLS clients; the API says who is a controller.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use crds::commands::{CONTROLLERS, STREAM, path};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1 as client;
use kube::Client;
use prometheus::Registry;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::bindings::Bindings;
use crate::control_groups::Lacking;
use crate::cpus::Cpus;
use crate::domain::Emulation;
use crate::hypervisor::fake::Verb;
use crate::hypervisor::{Fake, Hypervisor};
use crate::leases::Defaults;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::ports::Ports;
use crate::telling::Teller;
use crate::volumes::{Dirs, Images, Settings};

const XML: &str = "<domain><name>shop_till</name><metadata><berth:vmi \
    xmlns:berth='https://berth.io/domain/1' uid='u1' namespace='shop' name='till'/>\
    </metadata></domain>";

/// One who asks, with a certificate of its own.
struct Caller {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Caller {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().der().clone();
        Self { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()) }
    }
}

/// An agent that hears commands, and a guest that runs on it.
struct Node {
    fake: Fake,
    endpoint: Endpoint,
    dir: TempDir,
}

impl Node {
    /// `unix`: on a socket and not on a port.
    async fn hearing(controllers: &[&Caller], unix: bool) -> Self {
        let data = controllers.iter().map(|one| (digest(&one.certificate), json!("now")));
        let data: serde_json::Map<String, Value> = data.collect();
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data});
        let told = format!("/api/v1/namespaces/kube-system/configmaps/{CONTROLLERS}");
        let router = Router::new().route(&told, get(|| async move { axum::Json(map) }));
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new();
        fake.define(XML).await.unwrap();
        fake.start("shop_till").await.unwrap();
        let client = Client::new(router, "default");
        let host = Host {
            node: "n1".to_owned(),
            client: client.clone(),
            hypervisor: Hypervisor::Fake(fake.clone()),
            ports: Ports::new(Bindings::open(&dir.path().join("bindings")).unwrap(), None),
            metrics: Metrics::new(Registry::new()).unwrap(),
            dirs: Dirs {
                state: dir.path().to_owned(),
                images: Images::new(dir.path(), dir.path().to_owned(), Settings::default()),
                host_disks: vec![],
            },
            tpms: dir.path().to_owned(),
            run_dir: dir.path().to_owned(),
            emulation: Emulation::Software,
            arrivals: None,
            pki: None,
            defaults: Defaults::default(),
            look: Arc::default(),
            freezes: Places::of(1),
            teller: Teller::new(&client),
            cpus: Cpus::default(),
            lacking: Lacking::default(),
        };
        let address = if unix {
            Address::Unix(dir.path().join("commands.sock"))
        } else {
            "127.0.0.1:0".parse().unwrap()
        };
        let listener = Listener::bind(&address).await.unwrap();
        let endpoint = listener.endpoint.clone();
        tokio::spawn(listener.serve(host, Uploads::default(), CancellationToken::new()));
        Self { fake, endpoint, dir }
    }

    async fn wire(&self) -> Box<dyn Wire> {
        match self.endpoint.address.parse().unwrap() {
            Address::Tcp(at) => Box::new(TcpStream::connect(at).await.unwrap()),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
        }
    }

    /// The status and the text of the answer, or the stream after it.
    async fn ask(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
    ) -> anyhow::Result<(StatusCode, String, Option<TokioIo<hyper::upgrade::Upgraded>>)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let known = Known(self.endpoint.sha256.clone(), Arc::clone(&provider));
        let key = PrivateKeyDer::Pkcs8(caller.key.clone_key());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(known))
            .with_client_auth_cert(vec![caller.certificate.clone()], key)?;
        let tls = TlsConnector::from(Arc::new(config));
        let stream = tls.connect(ServerName::try_from("any")?, self.wire().await).await?;
        let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(&method).uri(path).header("host", "agent");
        if method == Method::GET {
            request = request.header("connection", "upgrade").header("upgrade", STREAM);
        }
        let mut response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let stream = hyper::upgrade::on(&mut response).await?;
            return Ok((status, String::new(), Some(TokioIo::new(stream))));
        }
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned(), None))
    }

    /// The status and the text of the answer to a command for the guest.
    async fn put(&self, caller: &Caller, uid: &str, verb: &str) -> (StatusCode, String) {
        let path = path("shop", "till", uid, verb);
        let (status, said, _) = self.ask(caller, Method::PUT, &path).await.unwrap();
        (status, said)
    }
}

/// Takes the agent for what its endpoint says.
#[derive(Debug)]
struct Known(String, Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(digest(certificate), self.0);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_controller_has_a_guest_stand_still_and_go_on() {
    let controller = Caller::new();
    for unix in [false, true] {
        let node = Node::hearing(&[&controller], unix).await;
        for verb in ["pause", "unpause", "softreboot", "reset"] {
            let answer = node.put(&controller, "u1", verb).await;
            assert_eq!(answer, (StatusCode::OK, String::new()), "{verb}");
        }
        let calls: Vec<_> = node.fake.calls().into_iter().map(|(verb, _)| verb).skip(2).collect();
        assert_eq!(calls, [Verb::Suspend, Verb::Resume, Verb::Reboot, Verb::Reset]);
    }
}

#[tokio::test]
async fn a_screen_is_shown_as_it_is_and_after_its_pointer_was_moved() {
    let controller = Caller::new();
    let node = Node::hearing(&[&controller], false).await;
    let ask = async |verb: &str| {
        let path = path("shop", "till", "u1", verb);
        let (status, said, _) = node.ask(&controller, Method::GET, &path).await.unwrap();
        (status, said)
    };
    let (status, said) = ask("screenshot").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(said.contains("no screens to take screenshot from"), "{said}");
    node.fake.shows("shop_till", b"P6 1 1 255 rgb");
    let moved = |node: &Node| node.fake.calls().iter().any(|(verb, _)| *verb == Verb::MovePointer);
    let (status, said) = ask("screenshot").await;
    assert_eq!((status, said.contains("PNG"), moved(&node)), (StatusCode::OK, true, false));
    assert_eq!(ask("screenshot/moved").await.0, StatusCode::OK);
    assert!(moved(&node));
}

#[tokio::test]
async fn who_is_no_controller_is_not_heard() {
    let (controller, other) = (Caller::new(), Caller::new());
    let node = Node::hearing(&[&controller], false).await;
    let path = path("shop", "till", "u1", "reset");
    node.ask(&other, Method::PUT, &path).await.map(|_| ()).unwrap_err();
    assert!(!node.fake.calls().iter().any(|(verb, _)| *verb == Verb::Reset));
}

#[tokio::test]
async fn only_the_guest_that_is_meant_is_asked() {
    let controller = Caller::new();
    let node = Node::hearing(&[&controller], false).await;
    let (status, said) = node.put(&controller, "u2", "reset").await;
    assert_eq!(
        (status, said.as_str()),
        (StatusCode::BAD_REQUEST, "no guest of shop/till runs on node n1")
    );
    node.fake.power_off("shop_till");
    assert_eq!(node.put(&controller, "u1", "reset").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(node.put(&controller, "u1", "explode").await.0, StatusCode::NOT_FOUND);
    assert_eq!(node.put(&controller, "u1", "console").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!node.fake.calls().iter().any(|(verb, _)| *verb == Verb::Reset));
}

#[tokio::test]
async fn a_console_is_the_guests_serial_line() {
    let controller = Caller::new();
    let node = Node::hearing(&[&controller], false).await;
    let path = path("shop", "till", "u1", "console");
    let (status, said, _) = node.ask(&controller, Method::GET, &path).await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST, "{said}: it has none");

    std::fs::create_dir(node.dir.path().join("shop_till")).unwrap();
    let serial = UnixListener::bind(node.dir.path().join("shop_till/serial")).unwrap();
    let (_, _, stream) = node.ask(&controller, Method::GET, &path).await.unwrap();
    let mut stream = stream.expect("a stream");
    let (mut guest, _) = serial.accept().await.unwrap();
    stream.write_all(b"uptime\n").await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = [0; 7];
    guest.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"uptime\n");
    guest.write_all(b"up 3 days").await.unwrap();
    let mut heard = [0; 9];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"up 3 days");
    drop(guest);
    assert_eq!(stream.read(&mut heard).await.unwrap_or(0), 0, "its end is the console's");
}
