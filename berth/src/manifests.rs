//! What is applied from YAML: the CustomResourceDefinitions, the quick start,
//! and whatever the user names.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::discovery::Scope;
use serde::Deserialize;
use serde_json::Value;

/// Every CustomResourceDefinition of the system.
pub const CRDS: &[&str] = &[
    include_str!("../../manifests/crds/addressblocks.berth.io.yaml"),
    include_str!("../../manifests/crds/ips.kubeovn.io.yaml"),
    include_str!("../../manifests/crds/subnets.kubeovn.io.yaml"),
    include_str!("../../manifests/crds/virtualmachineinstances.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/virtualmachines.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/vpcs.kubeovn.io.yaml"),
];

/// The quick start: a VPC, a subnet and two VMs.
pub const QUICKSTART: &str = include_str!("../../manifests/examples/quickstart.yaml");

/// How long a definition may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// Whether an object had to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there, and is left as it is.
    Existed,
}

/// Creates the definitions, or brings those that exist up to date, and waits
/// until they are served. Returns how many there are.
///
/// # Errors
///
/// When the API refuses one or does not serve it within half a minute.
pub async fn apply_crds(client: &kube::Client) -> Result<usize> {
    let api: kube::Api<CustomResourceDefinition> = kube::Api::all(client.clone());
    let mut names = Vec::new();
    for text in CRDS {
        let wanted: CustomResourceDefinition = serde_norway::from_str(text)?;
        let name = wanted.metadata.name.clone().context("a definition without a name")?;
        match api.create(&PostParams::default(), &wanted).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let spec = serde_json::json!({ "spec": wanted.spec });
                api.patch(&name, &PatchParams::default(), &Patch::Merge(spec)).await?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create {name}")),
        }
        names.push(name);
    }
    for name in &names {
        let served = async {
            while !is_established(&api, name).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(ESTABLISHED, served)
            .await
            .with_context(|| format!("the API has not established {name}"))?;
    }
    Ok(names.len())
}

async fn is_established(api: &kube::Api<CustomResourceDefinition>, name: &str) -> bool {
    let conditions =
        api.get(name).await.ok().and_then(|crd| crd.status).and_then(|status| status.conditions);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// The objects of a file of YAML documents.
///
/// # Errors
///
/// When a document is not a Kubernetes object.
pub fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if value.is_null() {
            continue;
        }
        let object: DynamicObject =
            serde_json::from_value(value).context("not a Kubernetes object")?;
        if object.types.is_none() || object.metadata.name.is_none() {
            bail!("an object needs apiVersion, kind and metadata.name");
        }
        objects.push(object);
    }
    Ok(objects)
}

/// Creates an object unless one of its name is there: a user's changes stay.
///
/// # Errors
///
/// When the API does not know its kind or refuses it.
pub async fn create_if_absent(client: &kube::Client, object: &DynamicObject) -> Result<Outcome> {
    let api = api_for(client, object).await?;
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(Outcome::Created),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Existed),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot create {} {}",
                kind,
                object.metadata.name.as_deref().unwrap_or_default()
            )
        }),
    }
}

async fn api_for(
    client: &kube::Client,
    object: &DynamicObject,
) -> Result<kube::Api<DynamicObject>> {
    let types = object.types.as_ref().context("an object without a kind")?;
    let gvk = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk)
        .await
        .with_context(|| format!("the API does not know {} {}", types.api_version, types.kind))?;
    Ok(match capabilities.scope {
        Scope::Cluster => kube::Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            kube::Api::namespaced_with(client.clone(), namespace, &resource)
        }
    })
}

/// What the object's conditions complain about now, each in a line.
///
/// # Errors
///
/// When the API does not answer.
pub async fn complaints(client: &kube::Client, object: &DynamicObject) -> Result<Vec<String>> {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let now = api_for(client, object).await?.get(name).await?;
    let conditions = now.data.pointer("/status/conditions").and_then(Value::as_array);
    let mut lines: Vec<_> = conditions
        .into_iter()
        .flatten()
        .filter(|condition| is_complaint(condition))
        .filter_map(|condition| condition["message"].as_str())
        .map(|message| format!("{kind} {name}: {message}"))
        .collect();
    lines.dedup();
    Ok(lines)
}

/// A good thing that is not so, or a bad one that is.
fn is_complaint(condition: &Value) -> bool {
    let (kind, status) = (condition["type"].as_str(), condition["status"].as_str());
    matches!(
        (kind, status),
        (Some("Ready" | "Validated"), Some("False")) | (Some("Failure" | "Error"), Some("True"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_start_is_a_vpc_a_subnet_and_two_machines() {
        let objects = parse(QUICKSTART).unwrap();
        let kinds: Vec<_> =
            objects.iter().map(|object| object.types.as_ref().unwrap().kind.as_str()).collect();
        assert_eq!(kinds, ["Vpc", "Subnet", "VirtualMachine", "VirtualMachine"]);
        for object in objects.into_iter().skip(2) {
            let machine: crds::kubevirt::VirtualMachine = object.try_parse().unwrap();
            assert_eq!(machine.metadata.namespace.as_deref(), Some("default"));
        }
    }

    #[test]
    fn every_definition_is_one() {
        for text in CRDS {
            let definition: CustomResourceDefinition = serde_norway::from_str(text).unwrap();
            assert!(definition.metadata.name.unwrap().contains(&definition.spec.group));
        }
    }

    #[test]
    fn a_bad_condition_is_a_complaint_and_a_good_one_is_not() {
        let condition =
            |kind: &str, status: &str| serde_json::json!({ "type": kind, "status": status });
        assert!(
            is_complaint(&condition("Ready", "False"))
                && is_complaint(&condition("Failure", "True"))
        );
        assert!(
            !is_complaint(&condition("Ready", "True"))
                && !is_complaint(&condition("Error", "False"))
        );
    }

    #[test]
    fn a_document_that_is_no_object_is_refused() {
        assert!(parse("---\n---\n").unwrap().is_empty());
        assert!(
            parse("kind: Vpc\napiVersion: v1\nmetadata: {}\n")
                .unwrap_err()
                .to_string()
                .contains("name")
        );
    }
}
