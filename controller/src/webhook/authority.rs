//! The certificate of what the API asks (the webhook, the subresources), and the authority that the API trusts for it.
//!
//! The authority is made once and lives in a Secret, so that all controllers share it
//! and the API need be told of one. Whoever has an authority puts it there instead,
//! under whatever name. A certificate is made anew at every start, for the names of that
//! start, and never stored; before it is used it is looked at as the API will.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use ring::hmac;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName as TlsName, UnixTime,
};
use rustls::server::NoClientAuth;
use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use super::ServiceName;

/// Delay before the API is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The parts of the Secret, as Kubernetes calls them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What the seal is for: it is of no use for what else the key may seal.
const SEAL: &[u8] = b"berth.io/tokens";

/// What a listener needs, and what the API needs to trust it.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// What all who share the authority can seal, and nobody else: made of its key.
    pub(crate) seal: hmac::Key,
}

impl Identity {
    /// What greets callers; only those of `verifier`, if there is one.
    pub(crate) fn acceptor(
        &self,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> anyhow::Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.unwrap_or_else(|| Arc::new(NoClientAuth)));
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        let mut config = config.with_single_cert(self.chain.clone(), key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// An authority: its certificate, and those after it that vouch for it, and its key.
pub(super) struct Authority {
    certificate: String,
    key: String,
}

/// An [`identity`] and what greets callers with it, as soon as they can be had; why they
/// cannot yet is told once. `whose`: for people.
pub(crate) async fn awaited(
    client: &Client,
    secret: &ServiceName,
    host: &str,
    address: IpAddr,
    whose: &str,
) -> (Identity, TlsAcceptor) {
    let mut told = String::new();
    loop {
        let found = identity(client, secret, host, address).await;
        match found
            .and_then(|identity| identity.acceptor(None).map(|acceptor| (identity, acceptor)))
        {
            Ok(found) => return found,
            Err(error) => {
                let error = format!("{error:#}");
                if error != told {
                    warn!(error, whose, "There is no certificate yet; trying again");
                    told = error;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A certificate for `host` and the address listened at.
async fn identity(
    client: &Client,
    secret: &ServiceName,
    host: &str,
    listen: IpAddr,
) -> anyhow::Result<Identity> {
    let authority = shared(client, secret).await?;
    issue(authority, host, listen).with_context(|| {
        format!(
            "Secret {secret} has no authority that the API could trust for {host:?}: put one there (its certificate as {CERTIFICATE}, its key as {KEY}), or delete the Secret and it is made anew"
        )
    })
}

/// The same, signed by this authority.
///
/// # Errors
/// When whoever trusts the authority would not trust the certificate.
pub(super) fn issue(authority: Authority, host: &str, listen: IpAddr) -> anyhow::Result<Identity> {
    let Authority { certificate, key } = authority;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusted = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let trusted: Vec<_> =
        trusted.collect::<Result<_, _>>().with_context(|| format!("reading {CERTIFICATE}"))?;
    let own = trusted.first().with_context(|| format!("{CERTIFICATE} has no certificate"))?;
    check_authority(own)?;
    let seal = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), SEAL);
    let seal = hmac::Key::new(hmac::HMAC_SHA256, seal.as_ref());
    let key = KeyPair::from_pem(&key).with_context(|| format!("reading {KEY}"))?;
    let issuer = Issuer::from_ca_cert_der(own, key)?;

    let mut names = vec![host.to_owned(), "localhost".to_owned()];
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("berth-webhook");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own_key = KeyPair::generate()?;
    let made = params.signed_by(&own_key, &issuer)?;
    check_as_the_api_does(made.der(), &trusted, host, &provider)?;

    let chain = std::iter::once(made.der().clone()).chain(trusted.iter().cloned()).collect();
    let key = PrivatePkcs8KeyDer::from(own_key.serialize_der());
    Ok(Identity { chain, key, authority: certificate, seal })
}

/// Whether this may sign others, and may today: of what it trusts rustls does not ask.
fn check_authority(certificate: &CertificateDer<'_>) -> anyhow::Result<()> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .with_context(|| format!("reading {CERTIFICATE}"))?;
    let subject = parsed.subject();
    let is_ca = parsed.basic_constraints()?.is_some_and(|one| one.value.ca);
    ensure!(
        is_ca,
        "{CERTIFICATE} ({subject}) is no authority's: it lacks basicConstraints CA:TRUE"
    );
    let signs = parsed.key_usage()?.is_none_or(|one| one.value.key_cert_sign());
    ensure!(signs, "{CERTIFICATE} ({subject}) may not sign: its keyUsage lacks keyCertSign");
    let validity = parsed.validity();
    ensure!(
        validity.is_valid(),
        "{CERTIFICATE} ({subject}) is valid from {} to {} only: renew it",
        validity.not_before,
        validity.not_after
    );
    Ok(())
}

/// Whether who trusts these takes the certificate for that of `host`.
fn check_as_the_api_does(
    certificate: &CertificateDer<'_>,
    trusted: &[CertificateDer<'_>],
    host: &str,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    for one in trusted {
        roots.add(one.clone().into_owned()).with_context(|| format!("reading {CERTIFICATE}"))?;
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let name = TlsName::try_from(host)
        .with_context(|| format!("{host:?} is no name that a certificate can be for"))?;
    verifier
        .build()?
        .verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
        .with_context(|| {
            format!(
                "what it signs does not verify by {CERTIFICATE}: {KEY} must be the key of the first certificate there, whose name constraints, if any, must allow {host:?}"
            )
        })?;
    Ok(())
}

/// The authority that is there, or else a new one. Of two that make one at once the
/// first one counts.
async fn shared(client: &Client, secret: &ServiceName) -> anyhow::Result<Authority> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let there = api.get_opt(&secret.name).await.context("reading the authority's Secret")?;
    if let Some(there) = there {
        return read(&there).with_context(|| {
            format!("Secret {secret} has no authority: delete it, and it is made anew")
        });
    }
    let Authority { certificate, key } = made()?;
    let data = [(CERTIFICATE, certificate), (KEY, key)];
    let data = data.map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes())));
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

/// A new authority.
pub(super) fn made() -> anyhow::Result<Authority> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("berth-webhook-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Authority { certificate, key: key.serialize_pem() })
}

fn read(secret: &Secret) -> anyhow::Result<Authority> {
    let part = |name: &str| {
        let part = secret.data.as_ref().and_then(|data| data.get(name));
        let part = part.with_context(|| format!("it has no {name}"))?;
        anyhow::Ok(String::from_utf8(part.0.clone())?)
    };
    Ok(Authority { certificate: part(CERTIFICATE)?, key: part(KEY)? })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// An authority of somebody else's making.
    fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (Authority, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Example Corp. Root");
        params.distinguished_name.push(DnType::OrganizationName, "Example Corp.");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap().pem();
        (Authority { certificate, key: key.serialize_pem() }, key)
    }

    fn told(authority: Authority, host: &str) -> String {
        let issued = issue(authority, host, Ipv4Addr::LOCALHOST.into());
        issued.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn an_authority_of_any_name_is_one_that_the_api_can_trust() {
        assert_eq!(told(made().unwrap(), "berth.net.svc"), "");
        assert_eq!(told(foreign(|_| ()).0, "berth.net.svc"), "");
        assert_eq!(told(foreign(|_| ()).0, "10.0.0.1"), "");
        assert_eq!(told(foreign(|_| ()).0, "fd00::1"), "");
    }

    #[test]
    fn what_the_api_would_not_trust_is_told_with_what_to_change() {
        let (mut other, _) = foreign(|_| ());
        other.key = made().unwrap().key;
        assert!(told(other, "berth").contains("tls.key must be the key of the first certificate"));
        let (leaf, _) = foreign(|params| params.is_ca = IsCa::ExplicitNoCa);
        assert!(told(leaf, "berth").contains("Example Corp. Root"), "who it is");
        let (leaf, _) = foreign(|params| params.is_ca = IsCa::NoCa);
        assert!(told(leaf, "berth").contains("lacks basicConstraints CA:TRUE"));
        let (old, _) = foreign(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(told(old, "berth").contains("renew it"));
        let (narrow, _) = foreign(|params| {
            let permitted_subtrees = vec![rcgen::GeneralSubtree::DnsName("example.com".to_owned())];
            params.name_constraints =
                Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
        });
        assert!(told(narrow, "berth.net.svc").contains("must allow \"berth.net.svc\""));
        let (silent, _) = foreign(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
        assert!(told(silent, "berth").contains("keyCertSign"));
        assert!(told(made().unwrap(), "not a name").contains("no name that a certificate"));
    }
}
