//! What a claim says of how it is to be filled; pure.

use std::collections::BTreeMap;
use std::fmt;

use crds::cdi::notes::{
    ARCHITECTURE, CERTIFICATES, CHECKSUM, CLONE, ENDPOINT, HEADER, PHASE, PULL_METHOD, RESTARTS,
    SECRET, SECRET_HEADER, SOURCE,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;

use super::fault::Fault;
use super::pulled;
use crate::volumes::Policy;

/// Where a claim is filled from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// An empty disk.
    Blank,
    /// A web server.
    Http(Http),
    /// An object of S3; without headers or a checksum.
    S3(Http),
    /// A container image.
    Registry(Image),
    /// What somebody sends.
    Upload,
    /// Another claim.
    Clone(Origin),
}

/// The claim that one is a copy of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Origin {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// As CDI shows it.
impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// A file of a web server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Http {
    pub(super) url: String,
    /// The Secret of user and password.
    pub(super) secret: Option<String>,
    /// The ConfigMap of certificates.
    pub(super) certificates: Option<String>,
    pub(super) headers: Vec<String>,
    /// Secrets of which each value is a header.
    pub(super) secret_headers: Vec<String>,
    pub(super) checksum: Option<String>,
}

/// An image of a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) policy: Policy,
    /// The Secret of a login.
    pub(super) secret: Option<String>,
    /// The ConfigMap of certificates.
    pub(super) certificates: Option<String>,
    /// For which machines it must be.
    pub(super) architecture: Option<String>,
}

/// Whether a claim is still to be filled.
pub(super) fn is_open(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.annotations().get(PHASE).map(String::as_str);
    claim.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// How often it was begun anew.
pub(super) fn restarts(claim: &PersistentVolumeClaim) -> u32 {
    claim.annotations().get(RESTARTS).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What `claim` asks for.
pub(super) fn source(claim: &PersistentVolumeClaim) -> Result<Source, Fault> {
    let notes = claim.annotations();
    let note = |key: &str| notes.get(key).filter(|text| !text.is_empty()).cloned();
    match notes.get(SOURCE).map_or("", String::as_str) {
        "none" => Ok(Source::Blank),
        "http" => Ok(Source::Http(Http {
            url: note(ENDPOINT).unwrap_or_default(),
            secret: note(SECRET),
            certificates: note(CERTIFICATES),
            headers: numbered(notes, HEADER),
            secret_headers: numbered(notes, SECRET_HEADER),
            checksum: note(CHECKSUM),
        })),
        "s3" => Ok(Source::S3(Http {
            url: note(ENDPOINT).unwrap_or_default(),
            secret: note(SECRET),
            certificates: note(CERTIFICATES),
            ..Http::default()
        })),
        "upload" => Ok(Source::Upload),
        "registry" => {
            let url = note(ENDPOINT).unwrap_or_default();
            let odd =
                || Fault::Final(format!("{:?} must be docker:// and an image", net::shown(&url)));
            Ok(Source::Registry(Image {
                name: url.strip_prefix("docker://").ok_or_else(odd)?.to_owned(),
                policy: pulled::policy(note(PULL_METHOD).as_deref()),
                secret: note(SECRET),
                certificates: note(CERTIFICATES),
                architecture: note(ARCHITECTURE),
            }))
        }
        "pvc" => {
            let said = note(CLONE).unwrap_or_default();
            let parts = said.split_once('/');
            let parts = parts.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
            let (namespace, name) = parts
                .ok_or_else(|| Fault::Final(format!("{:?} names no claim", net::shown(&said))))?;
            Ok(Source::Clone(Origin { namespace: namespace.to_owned(), name: name.to_owned() }))
        }
        other => Err(Fault::Final(format!("source {:?} is not served", net::shown(other)))),
    }
}

/// The values of `key.0`, `key.1` …
fn numbered(notes: &BTreeMap<String, String>, key: &str) -> Vec<String> {
    (0..).map_while(|at| notes.get(&format!("{key}.{at}")).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(notes: Value) -> PersistentVolumeClaim {
        serde_json::from_value(
            json!({"metadata": {"name": "root", "namespace": "red", "annotations": notes}}),
        )
        .unwrap()
    }

    #[test]
    fn a_claim_says_where_it_is_filled_from() {
        assert_eq!(source(&claim(json!({ SOURCE: "none" }))).unwrap(), Source::Blank);
        let notes = json!({SOURCE: "http", ENDPOINT: "http://h/x", format!("{HEADER}.0"): "a: b",
            format!("{HEADER}.1"): "c: d", format!("{HEADER}.3"): "e: f", SECRET: ""});
        let headers = vec!["a: b".to_owned(), "c: d".to_owned()];
        let http = Http { url: "http://h/x".to_owned(), headers, ..Http::default() };
        assert_eq!(source(&claim(notes)).unwrap(), Source::Http(http));
        let copy = |of: &str| source(&claim(json!({ SOURCE: "pvc", CLONE: of })));
        let origin = Origin { namespace: "red".to_owned(), name: "a".to_owned() };
        assert_eq!(copy("red/a").unwrap(), Source::Clone(origin));
        for wrong in ["/a", "a", "red/", ""] {
            assert!(matches!(copy(wrong), Err(Fault::Final(_))), "{wrong}");
        }
        assert!(matches!(source(&claim(json!({ SOURCE: "s4" }))), Err(Fault::Final(_))));
        let image = |url: &str| {
            let notes = json!({ SOURCE: "registry", ENDPOINT: url, PULL_METHOD: "node" });
            source(&claim(notes))
        };
        let Ok(Source::Registry(found)) = image("docker://quay.io/a:1") else { panic!("no image") };
        assert_eq!((found.name.as_str(), found.policy), ("quay.io/a:1", Policy::ByName));
        assert!(matches!(image("oci-archive://a"), Err(Fault::Final(_))));
    }

    #[test]
    fn what_has_ended_is_not_begun_again() {
        for (phase, open) in
            [("Pending", true), ("Running", true), ("Succeeded", false), ("Failed", false)]
        {
            assert_eq!(is_open(&claim(json!({ PHASE: phase }))), open, "{phase}");
        }
    }
}
