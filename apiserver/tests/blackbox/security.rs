//! Who gets in.

use std::os::unix::fs::PermissionsExt;

use http::StatusCode;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::harness::Server;

async fn with_token(server: &Server, token: Option<&str>) -> Client {
    let mut config = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let user = config.auth_infos[0].auth_info.as_mut().unwrap();
    user.token = token.map(|token| token.to_owned().into());
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn status(client: &Client, path: &str) -> StatusCode {
    let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
    client.send(request).await.unwrap().status()
}

#[tokio::test]
async fn without_the_token_only_health_and_version_are_told() {
    let server = Server::start().await;
    for token in [None, Some("wrong")] {
        let client = with_token(&server, token).await;
        for path in ["/healthz", "/livez", "/readyz", "/version"] {
            assert_eq!(status(&client, path).await, StatusCode::OK, "{path}");
        }
        for path in ["/api", "/apis", "/api/v1/namespaces", "/openapi/v3", "/nowhere"] {
            assert_eq!(status(&client, path).await, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    assert_eq!(status(&server.client().await, "/api").await, StatusCode::OK);
}

#[tokio::test]
async fn nobody_else_can_read_keys_and_tokens() {
    let server = Server::start().await;
    for file in ["ca.key", "token", "kubeconfig"] {
        let mode = std::fs::metadata(server.dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_kubeconfig_stays_valid_across_a_restart_but_for_the_port() {
    let server = Server::start().await;
    let read = |server: &Server| Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let before = read(&server);
    let server = server.restart().await;
    let after = read(&server);
    let authority = |config: &Kubeconfig| {
        config.clusters[0].cluster.as_ref().unwrap().certificate_authority_data.clone()
    };
    assert_eq!(authority(&before), authority(&after));
    assert_eq!(status(&server.client().await, "/api").await, StatusCode::OK);
}
