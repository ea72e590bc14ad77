//! Who may call: the Kubernetes API alone, which has asked already who it is for and whether that
//! one may. By what it is known stands in its ConfigMap `extension-apiserver-authentication`.
//!
//! Another API server may have another certificate, and a certificate does not last for ever:
//! the ConfigMap is read again each minute.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::sync::watch;
use tracing::{info, warn};

use super::RETRY;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const AUTHORITY: &str = "requestheader-client-ca-file";
const NAMES: &str = "requestheader-allowed-names";

/// How often it is read again.
const AGAIN: Duration = Duration::from_secs(60);

/// Who may call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Callers {
    /// The authorities of their certificates, PEM.
    authority: String,
    /// The common names that these may have; any, if there are none.
    names: Vec<String>,
}

impl Callers {
    fn read(config: &ConfigMap) -> anyhow::Result<Self> {
        let field = |name: &str| config.data.as_ref().and_then(|data| data.get(name));
        let authority = field(AUTHORITY).with_context(|| {
            format!(
                "ConfigMap {NAMESPACE}/{NAME} has no {AUTHORITY}: start kube-apiserver with --requestheader-client-ca-file and --proxy-client-cert-file"
            )
        })?;
        let names = field(NAMES).map_or(Ok(Vec::new()), |names| serde_json::from_str(names));
        let names = names.with_context(|| format!("reading {NAMES} of {NAMESPACE}/{NAME}"))?;
        Ok(Self { authority: authority.clone(), names })
    }

    /// What asks a caller for a certificate of these authorities.
    pub(super) fn verifier(&self) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
    }

    /// Whether who has shown this certificate is one of them; it was verified.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&self, certificate: Option<&CertificateDer<'_>>) -> anyhow::Result<()> {
        let certificate = certificate.context("no certificate was shown")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
        let mut names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let admits = |name: &str| self.names.iter().any(|one| one == name);
        ensure!(
            self.names.is_empty() || names.any(admits),
            "{} is none of {}",
            parsed.subject(),
            self.names.join(", ")
        );
        Ok(())
    }
}

/// Keeps who may call up to date, for as long as somebody listens.
pub(super) async fn keep(client: Client, told: watch::Sender<Option<Callers>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut said = String::new();
    while !told.is_closed() {
        let read = api.get(NAME).await.map_err(anyhow::Error::from);
        let read = read.and_then(|config| Callers::read(&config)).and_then(|callers| {
            callers.verifier().context("the API's authority is none")?;
            Ok(callers)
        });
        let rest = if read.is_ok() { AGAIN } else { RETRY };
        match read {
            Ok(callers) => {
                said.clear();
                let changed = told.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&callers);
                    *known = Some(callers);
                    changed
                });
                if changed {
                    info!("It is known by what the API proves who it is");
                }
            }
            // Whom it was known by before goes on to be.
            Err(error) => {
                let error = format!("{error:#}");
                if error != said {
                    warn!(error, "The API cannot be told from others; trying again");
                    said = error;
                }
            }
        }
        tokio::time::sleep(rest).await;
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn config(data: &[(&str, &str)]) -> ConfigMap {
        let data = data.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        ConfigMap { data: Some(data.collect()), ..ConfigMap::default() }
    }

    fn certificate(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn only_who_is_named_may_call() {
        let callers =
            Callers::read(&config(&[(AUTHORITY, "pem"), (NAMES, r#"["front-proxy"]"#)])).unwrap();
        callers.admit(Some(&certificate("front-proxy"))).unwrap();
        assert!(callers.admit(Some(&certificate("kubelet"))).is_err());
        assert!(callers.admit(None).is_err());
        let any = Callers::read(&config(&[(AUTHORITY, "pem"), (NAMES, "[]")])).unwrap();
        any.admit(Some(&certificate("kubelet"))).unwrap();
    }

    #[test]
    fn an_api_that_does_not_say_who_it_is_is_told_how_to() {
        let error = Callers::read(&config(&[])).unwrap_err();
        assert!(error.to_string().contains("--requestheader-client-ca-file"), "{error}");
        let callers = Callers::read(&config(&[(AUTHORITY, "no PEM")])).unwrap();
        assert!(callers.verifier().is_err(), "nobody would be known");
    }
}
