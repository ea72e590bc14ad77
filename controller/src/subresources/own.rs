//! By what agents know this controller: a certificate made at each start, whose digest stands in
//! a ConfigMap for as long as the controller says so. Its key is nowhere else.

use std::sync::Arc;
use std::time::Duration;

use crds::commands::{CONTROLLERS, CONTROLLERS_NAMESPACE, digest};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::RETRY;

/// How often a controller says that it is there.
const AGAIN: Duration = Duration::from_secs(300);
/// One that has not said so for this long is forgotten: three times were missed.
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(1000);

/// A certificate and its key.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Own {
    /// A new one.
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "berth-controller");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()) })
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

/// Says that the controller with this certificate is there, for as long as it runs.
pub(super) async fn keep(client: Client, own: Arc<Own>) {
    let api: Api<ConfigMap> = Api::namespaced(client, CONTROLLERS_NAMESPACE);
    let digest = digest(&own.certificate);
    let mut told = String::new();
    loop {
        let said = say(&api, &digest).await;
        let rest = if said.is_ok() { AGAIN } else { RETRY };
        let error = said.err().map(|error| error.to_string()).unwrap_or_default();
        if !error.is_empty() && error != told {
            warn!(error, "Agents cannot be told of this controller; trying again");
        }
        told = error;
        tokio::time::sleep(rest).await;
    }
}

async fn say(api: &Api<ConfigMap>, digest: &str) -> Result<(), kube::Error> {
    let now = Timestamp::now();
    let Some(there) = api.get_opt(CONTROLLERS).await? else {
        let metadata = ObjectMeta { name: Some(CONTROLLERS.to_owned()), ..ObjectMeta::default() };
        let data = Some([(digest.to_owned(), now.to_string())].into());
        let made = ConfigMap { metadata, data, ..ConfigMap::default() };
        return api.create(&PostParams::default(), &made).await.map(drop);
    };
    let said = there.data.iter().flatten().map(|(digest, at)| (digest.as_str(), at.as_str()));
    let patch = json!({
        "metadata": { "resourceVersion": there.resource_version() },
        "data": news(said, digest, now),
    });
    api.patch(CONTROLLERS, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// What is to be said beside what others say: that this one is there now, and nothing of those
/// who have been silent.
fn news<'a>(
    said: impl Iterator<Item = (&'a str, &'a str)>,
    own: &str,
    now: Timestamp,
) -> Map<String, Value> {
    let is_silent =
        |at: &str| at.parse().is_ok_and(|at: Timestamp| now.duration_since(at) > FORGOTTEN);
    let gone = said.filter(|(_, at)| is_silent(at) || at.parse::<Timestamp>().is_err());
    let mut news: Map<String, Value> =
        gone.map(|(digest, _)| (digest.to_owned(), Value::Null)).collect();
    news.insert(own.to_owned(), now.to_string().into());
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_is_forgotten_and_who_speaks_is_not() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let said = [
            ("a", "2026-01-01T11:40:00Z"),
            ("b", "2026-01-01T11:55:00Z"),
            ("c", "2026-01-01T13:00:00Z"),
            ("d", "some day"),
        ];
        let news = news(said.into_iter(), "b", now);
        let keys: Vec<_> = news.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a", "d", "b"]);
        assert_eq!((&news["a"], &news["b"]), (&Value::Null, &json!("2026-01-01T12:00:00Z")));
    }

    #[test]
    fn no_two_starts_are_known_by_the_same() {
        let (one, other) = (Own::new().unwrap(), Own::new().unwrap());
        assert_ne!(digest(&one.certificate), digest(&other.certificate));
        assert_eq!(digest(&one.certificate).len(), 64);
    }
}
