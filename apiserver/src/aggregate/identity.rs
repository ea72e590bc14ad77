//! By what this server is known to those who serve groups of their own.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::managed::Operation;
use crate::registry::Served;
use crate::status::ApiError;
use crate::store::{Collection, Key, Mode, Store, View};
use crate::write::{self, Part, Writing};

/// The name in the certificate that this server shows.
pub(crate) const NAME: &str = "berth-apiserver-proxy";

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";

/// The certificate that this server shows, with what vouches for it, and its key.
#[derive(Debug)]
pub(crate) struct FrontProxy {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Tells by which authority and headers this server is to be known, as upstream's does.
pub(crate) async fn publish(
    store: &Store,
    served: &Served,
    authority: &str,
) -> Result<(), ApiError> {
    let registry = served.now();
    let resource = registry.get("", "v1", "configmaps").expect("config maps are built in").clone();
    let data = json!({
        "requestheader-client-ca-file": authority,
        "requestheader-allowed-names": json!([NAME]).to_string(),
        "requestheader-username-headers": r#"["X-Remote-User"]"#,
        "requestheader-group-headers": r#"["X-Remote-Group"]"#,
        "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
    });
    let decide = move |view: &View<'_>, current: Option<Value>| {
        let writing = Writing { manager: "berth".to_owned(), ..Writing::default() };
        let Some(current) = current else {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE}, "data": data});
            return write::create(&resource, view, None, body, &writing, Operation::Update);
        };
        let mut proposed = current.clone();
        proposed["data"] = data;
        write::update(&resource, view, &current, proposed, Part::Main, &writing, Operation::Update)
    };
    let key = Key::new(&Collection::new("", "configmaps"), NAMESPACE, CONFIG_MAP);
    store.mutate(key, Mode::Commit, decide).await?;
    Ok(())
}
