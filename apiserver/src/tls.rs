//! A certificate authority of our own, and the server certificate it signs.
//!
//! The authority is made once and lives in the data directory (`ca.crt`, `ca.key`), so kubeconfigs
//! stay valid. The server certificate is made anew at every start and never stored: it then always
//! fits the address that is served, and is always fresh.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::aggregate::{self, FrontProxy};
use crate::credentials::write_private;

/// Names the server answers to besides the address it serves on.
const NAMES: &[&str] = &["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
const ADDRESSES: &[&str] = &["127.0.0.1", "::1"];

/// What the listener needs, and what clients need to trust it.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// What it shows as a client.
    pub(crate) front_proxy: FrontProxy,
}

/// Loads or makes the authority in `dir` and issues a certificate for `address`.
pub(crate) fn identity(dir: &Path, address: IpAddr) -> anyhow::Result<Identity> {
    let (authority, key) = authority(dir)?;
    let issuer = Issuer::new(authority_params(), key);
    let server_key = KeyPair::generate()?;
    let mut params =
        CertificateParams::new(NAMES.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = named("berth-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let fixed = ADDRESSES.iter().filter_map(|text| text.parse().ok());
    params.subject_alt_names.extend(fixed.chain([address]).map(SanType::IpAddress));
    let certificate = params.signed_by(&server_key, &issuer)?;
    let front_proxy = front_proxy(&issuer, der(&authority)?)?;
    let chain = vec![certificate.der().clone(), der(&authority)?];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity { acceptor: TlsAcceptor::from(Arc::new(config)), authority, front_proxy })
}

fn front_proxy(
    issuer: &Issuer<'_, KeyPair>,
    authority: CertificateDer<'static>,
) -> anyhow::Result<FrontProxy> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(aggregate::NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer)?;
    let chain = vec![certificate.der().clone(), authority];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(FrontProxy { chain, key })
}

fn authority(dir: &Path) -> anyhow::Result<(String, KeyPair)> {
    let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    if certificate_path.exists() {
        let certificate = fs::read_to_string(&certificate_path).context("reading ca.crt")?;
        let key = fs::read_to_string(&key_path).context("reading ca.key")?;
        return Ok((certificate, KeyPair::from_pem(&key).context("reading ca.key")?));
    }
    let key = KeyPair::generate()?;
    let certificate = authority_params().self_signed(&key)?.pem();
    // The certificate comes last: it is the sign that both are there.
    write_private(&key_path, key.serialize_pem().as_bytes())?;
    write_private(&certificate_path, certificate.as_bytes())?;
    Ok((certificate, key))
}

/// The same for every authority of ours, so the stored certificate need not be parsed.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("berth-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn der(pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).context("reading ca.crt")
}
