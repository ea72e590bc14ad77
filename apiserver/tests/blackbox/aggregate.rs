//! Groups that somebody else serves.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::Server;

/// One who serves `boats.example.io/v1` behind the Service `default/boats`, says who asked, and
/// on an upgrade repeats what is said. It lets nobody in but the API.
async fn boats(api: &Client) -> SocketAddr {
    let maps: Api<ConfigMap> = Api::namespaced(api.clone(), "kube-system");
    let told = maps.get("extension-apiserver-authentication").await.unwrap().data.unwrap();
    let mut roots = RootCertStore::empty();
    let authority = told["requestheader-client-ca-file"].as_bytes();
    roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["boats.default.svc".to_owned()]).unwrap();
    let own = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.der().clone()], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request)) });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connection.with_upgrades().await.ok();
            });
        }
    });
    register(api, address, &own.pem()).await;
    address
}

async fn register(api: &Client, address: SocketAddr, authority: &str) {
    let service = json!({
        "metadata": {"name": "boats"},
        "spec": {"type": "ExternalName", "externalName": address.ip().to_string()},
    });
    let services: Api<Service> = Api::namespaced(api.clone(), "default");
    let service = serde_json::from_value(service).unwrap();
    services.create(&PostParams::default(), &service).await.unwrap();
    let registration = json!({
        "metadata": {"name": "v1.boats.example.io"},
        "spec": {
            "group": "boats.example.io", "version": "v1",
            "groupPriorityMinimum": 1000, "versionPriority": 15,
            "caBundle": STANDARD.encode(authority),
            "service": {"name": "boats", "namespace": "default", "port": address.port()},
        },
    });
    let registrations: Api<APIService> = Api::all(api.clone());
    let registration = serde_json::from_value(registration).unwrap();
    registrations.create(&PostParams::default(), &registration).await.unwrap();
}

fn echo(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    if request.headers().contains_key("upgrade") {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut client = TokioIo::new(client.await.unwrap());
            let mut said = [0; 5];
            client.read_exact(&mut said).await.unwrap();
            client.write_all(&said).await.unwrap();
            client.shutdown().await.ok();
        });
        return response;
    }
    let seen = json!({
        "path": request.uri().to_string(), "method": request.method().as_str(),
        "user": header("x-remote-user"), "group": header("x-remote-group"),
        "extra": header("x-remote-extra-scopes"), "authorization": header("authorization"),
    });
    let mut response = Response::new(Full::from(seen.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

async fn ask(api: &Client, request: http::request::Builder) -> (StatusCode, Value) {
    let response = api.send(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect_bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A client that takes the first answer: others ask again where nobody could be reached.
async fn impatient(server: &Server) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

const PATH: &str = "/apis/boats.example.io/v1/namespaces/default/boats/a/sail?fast=true";

#[tokio::test]
async fn a_request_gets_there_in_the_name_of_who_asks_and_of_nobody_else() {
    let server = Server::start().await;
    let api = server.client().await;
    boats(&api).await;
    let request = Request::put(PATH)
        .header("x-remote-user", "root")
        .header("x-remote-group", "wheel")
        .header("X-Remote-Extra-Scopes", "all");
    let (status, seen) = ask(&api, request).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!((&seen["path"], &seen["method"]), (&json!(PATH), &json!("PUT")));
    assert_eq!(seen["user"], json!(["berth-admin"]), "what the client says of itself is dropped");
    assert_eq!(seen["group"], json!(["system:masters"]));
    assert_eq!(seen["extra"], json!([]));
    assert_eq!(seen["authorization"], json!([]), "the token is the server's business");
}

#[tokio::test]
async fn a_stream_is_passed_on_both_ways() {
    let server = Server::start().await;
    let api = server.client().await;
    boats(&api).await;
    let request = Request::get(PATH).header("connection", "Upgrade").header("upgrade", "echo");
    let mut response = api.send(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "echo");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"ahoy!").await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"ahoy!");
}

#[tokio::test]
async fn the_group_is_named_among_the_others() {
    let server = Server::start().await;
    let api = server.client().await;
    boats(&api).await;
    let groups = api.list_api_groups().await.unwrap().groups;
    let ours = groups.iter().find(|group| group.name == "boats.example.io").unwrap();
    assert_eq!(ours.versions[0].group_version, "boats.example.io/v1");
    let (status, group) = ask(&api, Request::get("/apis/boats.example.io")).await;
    assert_eq!((status, &group["kind"]), (StatusCode::OK, &json!("APIGroup")));
}

#[tokio::test]
async fn who_cannot_be_reached_or_believed_is_told_with_what_to_change() {
    let server = Server::start().await;
    let api = server.client().await;
    let address = boats(&api).await;
    let api = impatient(&server).await;
    let services: Api<Service> = Api::namespaced(api.clone(), "default");
    let registrations: Api<APIService> = Api::all(api.clone());
    let told = async || {
        let (status, said) = ask(&api, Request::get(PATH)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        said["message"].as_str().unwrap().to_owned()
    };
    // Somebody else's certificate.
    registrations.delete("v1.boats.example.io", &kube::api::DeleteParams::default()).await.unwrap();
    services.delete("boats", &kube::api::DeleteParams::default()).await.unwrap();
    let (status, _) = ask(&api, Request::get(PATH)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "nobody serves it");
    let key = KeyPair::generate().unwrap();
    let other = CertificateParams::new(vec!["boats.default.svc".to_owned()]).unwrap();
    register(&api, address, &other.self_signed(&key).unwrap().pem()).await;
    assert!(told().await.contains("error trying to reach service at 127.0.0.1"));
    services.delete("boats", &kube::api::DeleteParams::default()).await.unwrap();
    assert!(told().await.contains("there is no Service default/boats"));
}
