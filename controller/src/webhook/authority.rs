//! The certificate of the webhook, and the authority that the API trusts for it.
//!
//! The authority is made once and lives in a Secret, so that all controllers share it
//! and the API need be told of one. A certificate is made anew at every start, for the
//! names of that start, and never stored.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::ServiceName;

/// The parts of the Secret, as Kubernetes calls them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What the listener needs, and what the API needs to trust it.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    /// The authority's certificate, PEM.
    pub(super) authority: String,
}

/// A certificate for `host` and the address listened at.
pub(super) async fn identity(
    client: &Client,
    secret: &ServiceName,
    host: &str,
    listen: IpAddr,
) -> anyhow::Result<Identity> {
    let (authority, key) = authority(client, secret).await?;
    let issuer = Issuer::new(params(), KeyPair::from_pem(&key)?);
    let mut names = vec![host.to_owned(), "localhost".to_owned()];
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("berth-webhook");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own_key = KeyPair::generate()?;
    let certificate = params.signed_by(&own_key, &issuer)?;
    let chain =
        vec![certificate.der().clone(), CertificateDer::from_pem_slice(authority.as_bytes())?];
    let own_key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, own_key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), authority })
}

/// Certificate and key of the authority: those that are there, or else new ones. Of two
/// that make them at once the first one counts.
async fn authority(client: &Client, secret: &ServiceName) -> anyhow::Result<(String, String)> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let there = api.get_opt(&secret.name).await.context("reading the authority's Secret")?;
    if let Some(there) = there {
        return read(&there).with_context(|| {
            format!("Secret {secret} has no authority: delete it, and it is made anew")
        });
    }
    let key = KeyPair::generate()?;
    let certificate = params().self_signed(&key)?.pem();
    let parts = [(CERTIFICATE, certificate), (KEY, key.serialize_pem())];
    let data = parts.map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes())));
    let made = Secret {
        metadata: ObjectMeta { name: Some(secret.name.clone()), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    };
    // Whoever was faster is read at the next try.
    let made = api.create(&PostParams::default(), &made).await;
    read(&made.context("making the authority's Secret")?)
}

fn read(secret: &Secret) -> anyhow::Result<(String, String)> {
    let part = |name: &str| {
        let part = secret.data.as_ref().and_then(|data| data.get(name));
        let part = part.with_context(|| format!("it has no {name}"))?;
        anyhow::Ok(String::from_utf8(part.0.clone())?)
    };
    let (certificate, key) = (part(CERTIFICATE)?, part(KEY)?);
    CertificateDer::from_pem_slice(certificate.as_bytes())?;
    KeyPair::from_pem(&key)?;
    Ok((certificate, key))
}

/// The same for every authority of ours, so the stored certificate need not be parsed.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("berth-webhook-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
