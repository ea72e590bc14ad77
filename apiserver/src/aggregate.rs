//! APIs that other programs serve: which there are, and how a request gets there.
//!
//! ```text
//!  client ─ TLS, token ─► this server ─ TLS, both sides known ─► who serves the group
//!                            │ reads          X-Remote-User
//!                 APIService, Service
//! ```
//!
//! As upstream: an object `APIService` named `<version>.<group>` says which Service serves the
//! group in that version, and by which authority that one is known. This server is known by a
//! certificate whose authority is told in the ConfigMap `extension-apiserver-authentication` of
//! `kube-system`; whoever serves a group takes requests from nobody else, and believes what they
//! say of who asks.
//!
//! On one host nothing gives a Service an address, so it must be one of type `ExternalName`.

mod forward;
mod identity;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(crate) use self::forward::forward;
pub(crate) use self::identity::{FrontProxy, NAME, publish};
use crate::registry::Registry;
use crate::status::ApiError;
use crate::store::{Collection, Key, Store};

/// The port of a Service where an APIService names none.
const PORT: u16 = 443;

/// Who serves a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Backend {
    /// Host and port to connect to.
    pub(crate) address: (String, u16),
    /// The name that its certificate is for.
    pub(crate) name: String,
    /// The authorities that may have signed it, PEM.
    pub(crate) authority: Vec<u8>,
}

fn collection() -> Collection {
    Collection::new("apiregistration.k8s.io", "apiservices")
}

/// The groups that others serve, each with its versions; those that are served here do not count.
pub(crate) fn groups(store: &Store, registry: &Registry) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = vec![];
    for stored in store.list(&collection(), None, None).0 {
        let object = stored.value();
        let spec = &object["spec"];
        let (Some(group), Some(version)) = (spec["group"].as_str(), spec["version"].as_str())
        else {
            continue;
        };
        if !spec["service"].is_object() || registry.versions(group).is_some() {
            continue;
        }
        match groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, versions)) => versions.push(version.to_owned()),
            None => groups.push((group.to_owned(), vec![version.to_owned()])),
        }
    }
    for (_, versions) in &mut groups {
        Registry::sort_versions(versions);
    }
    groups
}

/// Who serves this path, if somebody else does.
///
/// # Errors
/// When somebody should and cannot be reached as things are written.
pub(crate) fn backend(
    store: &Store,
    registry: &Registry,
    path: &str,
) -> Option<Result<Backend, ApiError>> {
    let mut segments = path.strip_prefix("/apis/")?.split('/');
    let (group, version) = (segments.next()?, segments.next().filter(|text| !text.is_empty())?);
    if registry.versions(group).is_some() {
        return None;
    }
    let name = format!("{version}.{group}");
    let service = store.get(&Key::new(&collection(), "", &name))?.value();
    let reference = service["spec"]["service"].as_object()?;
    let field = |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default();
    let (namespace, target) = (field("namespace"), field("name"));
    let port = reference.get("port").and_then(Value::as_u64);
    Some(
        resolve(store, &service["spec"], namespace, target, port).map_err(|why| {
            ApiError::no_backend(format!("APIService {name} cannot be used: {why}"))
        }),
    )
}

fn resolve(
    store: &Store,
    spec: &Value,
    namespace: &str,
    target: &str,
    port: Option<u64>,
) -> Result<Backend, String> {
    let key = Key::new(&Collection::new("", "services"), namespace, target);
    let found =
        store.get(&key).ok_or_else(|| format!("there is no Service {namespace}/{target}"))?;
    let found = found.value();
    let host = found["spec"]["externalName"].as_str().filter(|host| !host.is_empty());
    let host = host.filter(|_| found["spec"]["type"] == "ExternalName").ok_or_else(|| {
        format!(
            "Service {namespace}/{target} has no address here: make it one of type ExternalName"
        )
    })?;
    let port = port.map_or(Ok(PORT), u16::try_from);
    let port = port.map_err(|_| "its service.port is no port".to_owned())?;
    let authority = STANDARD.decode(spec["caBundle"].as_str().unwrap_or_default());
    let authority = authority.ok().filter(|pem| !pem.is_empty());
    let authority =
        authority.ok_or("it needs a caBundle: nobody is believed without a certificate")?;
    let name = format!("{target}.{namespace}.svc");
    Ok(Backend { address: (host.to_owned(), port), name, authority })
}
