//! By what this agent is known, and by what it knows controllers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::commands::{CONTROLLERS, CONTROLLERS_NAMESPACE, digest};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

/// After so long it is asked again who is a controller.
const FRESH: Duration = Duration::from_secs(60);
/// Somebody unknown is asked for no more often than that.
const REST: Duration = Duration::from_secs(1);
/// How long the API may take to say so.
const LIMIT: Duration = Duration::from_secs(5);

/// A new certificate: what greets callers with it, and the digest to know it by.
pub(super) fn identity() -> anyhow::Result<(TlsAcceptor, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["berth-agent".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "berth-agent");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?.der().clone();
    let digest = digest(&certificate);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = Arc::new(Shown(Arc::clone(&provider)));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(shown)
        .with_single_cert(vec![certificate], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), digest))
}

/// Whom the API says to be controllers.
pub(super) struct Controllers {
    client: Client,
    known: Mutex<Known>,
    /// Held by whoever asks; the others need not all.
    asking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    digests: BTreeSet<String>,
    asked: Option<Instant>,
}

impl Controllers {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default(), asking: Mutex::default() }
    }

    /// Whether this is one. While the API is away those that were known are.
    pub(super) async fn know(&self, digest: &str) -> bool {
        let (is_known, is_fresh) = self.remembers(digest).await;
        if is_fresh {
            return is_known;
        }
        // Whoever is known does not wait for what is asked about others.
        let _asking = match self.asking.try_lock() {
            Ok(turn) => turn,
            Err(_) if is_known => return true,
            Err(_) => self.asking.lock().await,
        };
        let (is_known, is_fresh) = self.remembers(digest).await;
        if is_fresh {
            return is_known;
        }
        let asked = timeout(LIMIT, self.ask()).await;
        let mut known = self.known.lock().await;
        known.asked = Some(Instant::now());
        match asked {
            Ok(Ok(digests)) => known.digests = digests,
            Ok(Err(error)) => tracing::warn!(%error, "Who is a controller cannot be asked"),
            Err(_) => tracing::warn!("Who is a controller is not answered"),
        }
        known.digests.contains(digest)
    }

    /// Whether this is one by what was said last, and whether that is new enough.
    async fn remembers(&self, digest: &str) -> (bool, bool) {
        let known = self.known.lock().await;
        let is_known = known.digests.contains(digest);
        let limit = if is_known { FRESH } else { REST };
        (is_known, known.asked.is_some_and(|asked| asked.elapsed() < limit))
    }

    async fn ask(&self) -> Result<BTreeSet<String>, kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), CONTROLLERS_NAMESPACE);
        let found = api.get_opt(CONTROLLERS).await?;
        Ok(found.and_then(|found| found.data).unwrap_or_default().into_keys().collect())
    }
}

/// Asks for a certificate, and that its key is there. Whose it is is asked afterwards.
#[derive(Debug)]
struct Shown(Arc<CryptoProvider>);

impl ClientCertVerifier for Shown {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
