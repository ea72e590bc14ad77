//! Where a claim is filled from, as it is written on it. Pure.

use std::collections::BTreeMap;

use crds::cdi::notes::{
    ARCHITECTURE, CERTIFICATES, CHECKSUM, CLONE, ENDPOINT, HEADER, PULL_METHOD, SECRET,
    SECRET_HEADER, SOURCE, UPLOAD,
};
use crds::cdi::{DataVolumeSource, HttpSource, PvcSource, RegistrySource, S3Source};
use crds::kubevirt::Rest;

use super::claim::wrong;
use super::status::Hitch;

/// Annotations of a claim.
type Notes = BTreeMap<String, String>;

/// Checksums that are known, and how many hexadecimal digits each has.
const CHECKSUMS: [(&str, usize); 4] = [("md5", 32), ("sha1", 40), ("sha256", 64), ("sha512", 128)];

/// What the claim says of where it is filled from.
pub(super) fn notes(source: &DataVolumeSource, namespace: &str) -> Result<Notes, Hitch> {
    let DataVolumeSource { blank, http, pvc, registry, s3, upload, rest } = source;
    if source.count() > 1 {
        return Err(wrong("Multiple dataVolume sources"));
    }
    if let Some(kind) = rest.keys().next() {
        let kind = net::shown(kind);
        return Err(wrong(format!(
            "source {kind} is not served without CDI: served are blank, http, pvc, \
             registry, s3 and upload"
        )));
    }
    if let Some(http) = http {
        return of_http(http);
    }
    if let Some(pvc) = pvc {
        return of_pvc(pvc, namespace);
    }
    if let Some(s3) = s3 {
        return of_s3(s3);
    }
    if let Some(registry) = registry {
        return of_registry(registry);
    }
    if upload.is_some() {
        let notes = [(SOURCE, "upload"), (UPLOAD, "")];
        return Ok(notes.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
    if blank.is_some() {
        return Ok([(SOURCE.to_owned(), "none".to_owned())].into());
    }
    Err(wrong("Data volume should have either Source or SourceRef, or be externally populated"))
}

fn of_http(http: &HttpSource) -> Result<Notes, Hitch> {
    check_url("source.http.url", &http.url)?;
    nothing_else("source.http", &http.rest)?;
    let mut notes = Notes::from([
        (SOURCE.to_owned(), "http".to_owned()),
        (ENDPOINT.to_owned(), http.url.clone()),
    ]);
    let single = [
        (SECRET, &http.secret_ref),
        (CERTIFICATES, &http.cert_config_map),
        (CHECKSUM, &http.checksum),
    ];
    for (key, value) in single {
        let value = value.clone().filter(|value| !value.is_empty());
        notes.extend(value.map(|value| (key.to_owned(), value)));
    }
    for (key, values) in
        [(HEADER, &http.extra_headers), (SECRET_HEADER, &http.secret_extra_headers)]
    {
        let values = values.iter().enumerate();
        notes.extend(values.map(|(at, value)| (format!("{key}.{at}"), value.clone())));
    }
    if let Some(text) = notes.get(CHECKSUM) {
        check(text)?;
    }
    Ok(notes)
}

/// That nothing is asked for that would have no effect.
fn nothing_else(of: &str, rest: &Rest) -> Result<(), Hitch> {
    let Some(field) = rest.keys().next() else { return Ok(()) };
    let field = net::shown(field);
    Err(wrong(format!("{of}.{field} is not served without CDI: leave it out")))
}

/// A URL of the web.
fn check_url(field: &str, text: &str) -> Result<http::Uri, Hitch> {
    let shown = net::shown(text);
    let url: http::Uri =
        text.parse().map_err(|_| wrong(format!("{field} {shown:?} is not a URL")))?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    if !is_web || url.host().is_none_or(str::is_empty) {
        return Err(wrong(format!("{field} {shown:?} must begin with http:// or https://")));
    }
    Ok(url)
}

fn check(text: &str) -> Result<(), Hitch> {
    let is_good = text.split_once(':').is_some_and(|(kind, digits)| {
        let known = CHECKSUMS.iter().find(|(name, _)| *name == kind);
        known.is_some_and(|(_, length)| digits.len() == *length)
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let why = || {
        wrong(format!(
            "source.http.checksum {:?} must be md5:, sha1:, sha256: or sha512: and hexadecimal digits",
            net::shown(text)
        ))
    };
    if is_good { Ok(()) } else { Err(why()) }
}

fn of_s3(s3: &S3Source) -> Result<Notes, Hitch> {
    let url = check_url("source.s3.url", &s3.url)?;
    let path = url.path().trim_start_matches('/').split_once('/');
    let is_object = path.is_some_and(|(bucket, object)| !bucket.is_empty() && !object.is_empty());
    let has_user = url.authority().is_some_and(|one| one.as_str().contains('@'));
    if !is_object || url.query().is_some() || has_user {
        let shown = net::shown(&s3.url);
        return Err(wrong(format!(
            "source.s3.url {shown:?} must be https://HOST/BUCKET/OBJECT and nothing else"
        )));
    }
    nothing_else("source.s3", &s3.rest)?;
    let mut notes =
        Notes::from([(SOURCE.to_owned(), "s3".to_owned()), (ENDPOINT.to_owned(), s3.url.clone())]);
    for (key, value) in [(SECRET, &s3.secret_ref), (CERTIFICATES, &s3.cert_config_map)] {
        let value = value.clone().filter(|value| !value.is_empty());
        notes.extend(value.map(|value| (key.to_owned(), value)));
    }
    Ok(notes)
}

fn of_registry(registry: &RegistrySource) -> Result<Notes, Hitch> {
    let RegistrySource { url, image_stream, pull_method, secret_ref, cert_config_map, .. } =
        registry;
    if image_stream.is_some() {
        return Err(wrong(
            "source.registry.imageStream is OpenShift's: write the image that it stands for as \
             source.registry.url, docker://HOST/NAME:TAG",
        ));
    }
    let url = url.as_deref().unwrap_or_default();
    let image = url.strip_prefix("docker://").unwrap_or_default();
    if image.is_empty() {
        let shown = net::shown(url);
        return Err(wrong(format!(
            "source.registry.url {shown:?} must be docker:// and an image, such as \
             docker://quay.io/containerdisks/fedora:latest"
        )));
    }
    let method = pull_method.as_deref().unwrap_or_default();
    if !matches!(method, "" | "pod" | "node") {
        let shown = net::shown(method);
        return Err(wrong(format!("ImportMethod {shown} is neither pod, node or \"\"")));
    }
    nothing_else("source.registry", &registry.rest)?;
    let platform = registry.platform.clone().unwrap_or_default();
    nothing_else("source.registry.platform", &platform.rest)?;
    let mut notes = Notes::from([
        (SOURCE.to_owned(), "registry".to_owned()),
        (ENDPOINT.to_owned(), url.to_owned()),
    ]);
    let others = [
        (PULL_METHOD, pull_method),
        (SECRET, secret_ref),
        (CERTIFICATES, cert_config_map),
        (ARCHITECTURE, &platform.architecture),
    ];
    for (key, value) in others {
        let value = value.clone().filter(|value| !value.is_empty());
        notes.extend(value.map(|value| (key.to_owned(), value)));
    }
    Ok(notes)
}

fn of_pvc(pvc: &PvcSource, namespace: &str) -> Result<Notes, Hitch> {
    let from = pvc.namespace.as_deref().filter(|from| !from.is_empty()).unwrap_or(namespace);
    if pvc.name.is_empty() {
        return Err(wrong("source.pvc.name is required"));
    }
    Ok([(SOURCE.to_owned(), "pvc".to_owned()), (CLONE.to_owned(), format!("{from}/{}", pvc.name))]
        .into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(source: Value) -> Result<Notes, String> {
        let source = serde_json::from_value(source).unwrap();
        notes(&source, "red").map_err(|hitch| match hitch {
            Hitch::Wrong(why) | Hitch::Waits(why) => why,
        })
    }

    #[test]
    fn an_image_is_written_as_it_is_with_all_that_belongs_to_it() {
        let url = "docker://quay.io/containerdisks/fedora:41";
        let registry = json!({"url": url, "pullMethod": "node", "secretRef": "pull",
            "certConfigMap": "", "platform": {"architecture": "amd64"}});
        let notes = of(json!({ "registry": registry })).unwrap();
        let said = |key: &str| notes.get(key).map(String::as_str);
        assert_eq!((said(SOURCE), said(ENDPOINT)), (Some("registry"), Some(url)));
        assert_eq!((said(PULL_METHOD), said(SECRET)), (Some("node"), Some("pull")));
        assert_eq!((said(CERTIFICATES), said(ARCHITECTURE)), (None, Some("amd64")));
    }

    #[test]
    fn an_object_is_a_bucket_and_a_name_in_it() {
        let of = |url: &str| of(json!({"s3": {"url": url, "secretRef": "keys"}}));
        let notes = of("https://s3.eu-west-1.amazonaws.com/b/a/disk.img").unwrap();
        assert_eq!((notes[SOURCE].as_str(), notes[SECRET].as_str()), ("s3", "keys"));
        for wrong in [
            "https://h/b",
            "https://h//o",
            "https://h/b/",
            "https://h/b/o?versionId=1",
            "https://me@h/b/o",
        ] {
            let told = of(wrong).unwrap_err();
            assert!(told.contains("https://HOST/BUCKET/OBJECT"), "{wrong}: {told}");
        }
        assert!(of("s3://b/o").unwrap_err().contains("must begin with http://"));
    }

    #[test]
    fn an_image_that_cannot_be_asked_for_says_how_it_can() {
        let good = "docker://quay.io/a";
        for (registry, words) in [
            (json!({}), "must be docker:// and an image"),
            (json!({"url": "docker://"}), "must be docker:// and an image"),
            (json!({"url": "oci-archive://a"}), "must be docker:// and an image"),
            (json!({"imageStream": "a", "pullMethod": "node"}), "docker://HOST/NAME:TAG"),
            (json!({"url": good, "pullMethod": "pull"}), "ImportMethod pull is neither pod, node"),
            (json!({"url": good, "depth": 1}), "source.registry.depth is not served"),
            (json!({"url": good, "platform": {"os": "x"}}), "source.registry.platform.os is not"),
        ] {
            let told = of(json!({ "registry": registry.clone() })).unwrap_err();
            assert!(told.contains(words), "{registry}: {told}");
        }
    }
}
