//! What a VM's volumes refer to, asked of the API one by one, by name: an agent needs to
//! list none of these kinds.
//!
//! | kind | verb |
//! |---|---|
//! | secrets, configmaps, persistentvolumeclaims, persistentvolumes | get |
//! | persistentvolumeclaims | patch |
//! | serviceaccounts/token | create |

use std::collections::BTreeMap;

use crds::cdi::notes::DISK_MADE;
use crds::kubevirt::VirtualMachineInstance;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount,
};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::vm::Trouble;
use crate::volumes::claims::had_disk;
use crate::volumes::{DiskFile, Medium, Objects, References, Remote};

/// How long a token is asked to be good for, in seconds: nobody renews what lies on a disc,
/// and a guest may run for long. An API may give it for less.
const TOKEN_LIFE: i64 = 365 * 24 * 3600;

/// What there is of what the volumes of `vmi` refer to. What does not exist is left out:
/// the volume says whether that matters.
///
/// # Errors
/// The API did not answer, or refused.
pub(super) async fn objects(
    client: &Client,
    vmi: &VirtualMachineInstance,
) -> Result<Objects, Trouble> {
    let References { secrets, config_maps, accounts, claims, pull_secrets } = References::of(vmi);
    let namespace = vmi.namespace().unwrap_or_default();
    let mut objects = Objects::default();
    for name in secrets {
        let secret: Option<Secret> = get(client, &namespace, &name).await?;
        if let Some(secret) = secret {
            let data = secret.data.unwrap_or_default().into_iter();
            objects.insert_secret(name, data.map(|(key, value)| (key, value.0)).collect());
        }
    }
    for name in pull_secrets {
        let secret: Option<Secret> = get(client, &namespace, &name).await?;
        let Some(secret) = secret else {
            objects.miss_pull_secret(&name);
            continue;
        };
        let uid = secret.metadata.uid.unwrap_or_default();
        let data = secret.data.unwrap_or_default().into_iter();
        let data = data.map(|(key, value)| (key, value.0)).collect();
        objects.insert_pull_secret(&name, &uid, &data);
    }
    for name in config_maps {
        let map: Option<ConfigMap> = get(client, &namespace, &name).await?;
        if let Some(map) = map {
            objects.insert_config_map(name, entries(map));
        }
    }
    for name in claims {
        let claim: Option<PersistentVolumeClaim> = get(client, &namespace, &name).await?;
        let Some(claim) = claim else { continue };
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let volume = match bound.filter(|bound| !bound.is_empty()) {
            Some(bound) => volume(client, bound).await?,
            None => None,
        };
        let login = volume.as_ref().and_then(|volume| volume.spec.as_ref()?.iscsi.as_ref());
        let login = login.filter(|source| source.chap_auth_session == Some(true));
        if let Some(named) = login.and_then(|source| source.secret_ref.clone()) {
            let (namespace, name) =
                (named.namespace.unwrap_or_default(), named.name.unwrap_or_default());
            if !namespace.is_empty() && !name.is_empty() {
                let secret: Option<Secret> = get(client, &namespace, &name).await?;
                let data = secret.map(|secret| secret.data.unwrap_or_default());
                if let Some(data) = data {
                    let data = data.into_iter().map(|(key, value)| (key, value.0)).collect();
                    objects.insert_login(&namespace, &name, data);
                }
            }
        }
        objects.insert_claim(name, claim, volume);
    }
    for name in accounts {
        let token = token(client, &namespace, &name).await?;
        objects.insert_token(name, token);
    }
    Ok(objects)
}

/// Writes on a claim that it has had its disk, before anybody writes to that: a disk that is not
/// there any more is then not taken for one that never was.
///
/// # Errors
/// It is not written.
pub(super) async fn note_disk(
    client: &Client,
    objects: &Objects,
    claim: &str,
    disk: &DiskFile,
) -> Result<(), Trouble> {
    let is_file = match &disk.medium {
        Medium::File { .. } => true,
        Medium::Network(remote) => matches!(**remote, Remote::Nfs { .. }),
        Medium::Own | Medium::Device => false,
    };
    let Some((claim, _)) = objects.claim(claim).filter(|(claim, _)| is_file && !had_disk(claim))
    else {
        return Ok(());
    };
    let namespace = claim.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let metadata = json!({ "uid": claim.uid(), "annotations": { DISK_MADE: "true" } });
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let noted = api.patch(&claim.name_any(), &PatchParams::default(), &patch).await;
    noted.map(drop).map_err(|error| {
        let message = format!("claim {} cannot be written to: {error}", claim.name_any());
        Trouble::of("VolumeNotReady", message)
    })
}

/// Text and bytes alike.
fn entries(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter();
    let text = text.map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter();
    text.chain(binary.map(|(key, value)| (key, value.0))).collect()
}

async fn get<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Trouble>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(|error| not_read(&K::kind(&()), name, &error))
}

async fn volume(client: &Client, name: &str) -> Result<Option<PersistentVolume>, Trouble> {
    let api: Api<PersistentVolume> = Api::all(client.clone());
    api.get_opt(name).await.map_err(|error| not_read("PersistentVolume", name, &error))
}

fn not_read(kind: &str, name: &str, error: &kube::Error) -> Trouble {
    Trouble::of("VolumeNotReady", format!("{kind} {name} cannot be read: {error}"))
}

async fn token(client: &Client, namespace: &str, account: &str) -> Result<String, Trouble> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_LIFE), ..Default::default() };
    let asked = TokenRequest { spec, ..TokenRequest::default() };
    let given = api.create_token_request(account, &PostParams::default(), &asked).await;
    let why = |error: &dyn std::fmt::Display| {
        let message = format!("error looking up service account {namespace}/{account}: {error}");
        Trouble::of("FailedCreate", message)
    };
    let given = given.map_err(|error| why(&error))?;
    given.status.map(|status| status.token).ok_or_else(|| why(&"the API gave no token"))
}
