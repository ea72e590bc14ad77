//! What is applied from YAML: the CustomResourceDefinitions, the quick start,
//! and whatever the user names.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::discovery::Scope;
use serde::Deserialize;
use serde_json::Value;

/// Every CustomResourceDefinition of the system.
pub const CRDS: &[&str] = &[
    include_str!("../../manifests/crds/addressblocks.berth.io.yaml"),
    include_str!("../../manifests/crds/ipamclaims.k8s.cni.cncf.io.yaml"),
    include_str!("../../manifests/crds/ippools.kubeovn.io.yaml"),
    include_str!("../../manifests/crds/ips.kubeovn.io.yaml"),
    include_str!("../../manifests/crds/migrationpolicies.migrations.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/subnets.kubeovn.io.yaml"),
    include_str!("../../manifests/crds/vips.kubeovn.io.yaml"),
    include_str!(
        "../../manifests/crds/virtualmachineclusterinstancetypes.instancetype.kubevirt.io.yaml"
    ),
    include_str!(
        "../../manifests/crds/virtualmachineclusterpreferences.instancetype.kubevirt.io.yaml"
    ),
    include_str!("../../manifests/crds/virtualmachineinstancetypes.instancetype.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/virtualmachinepreferences.instancetype.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/virtualmachineinstancemigrations.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/virtualmachineinstancereplicasets.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/virtualmachineinstances.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/virtualmachines.kubevirt.io.yaml"),
    include_str!("../../manifests/crds/vpcs.kubeovn.io.yaml"),
];

/// The definitions that CDI brings where it is installed.
pub const CDI_CRDS: &[&str] = &[
    include_str!("../../manifests/cdi/cdiconfigs.cdi.kubevirt.io.yaml"),
    include_str!("../../manifests/cdi/datasources.cdi.kubevirt.io.yaml"),
    include_str!("../../manifests/cdi/datavolumes.cdi.kubevirt.io.yaml"),
];

/// That this definition is there says that CDI is installed.
const CDI: &str = "cdis.cdi.kubevirt.io";

/// The StorageClass of volumes that the agents make.
pub const STORAGE_CLASS: &str = include_str!("../../manifests/local-storage.yaml");

/// The quick start: a VPC, a subnet and two VMs.
pub const QUICKSTART: &str = include_str!("../../manifests/examples/quickstart.yaml");

/// Where kubectl notes what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

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
    let of_cdi = if api.get_opt(CDI).await?.is_some() { &[] } else { CDI_CRDS };
    for text in CRDS.iter().chain(of_cdi) {
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

/// Makes the StorageClass of volumes that the agents make, unless it is there.
///
/// # Errors
///
/// When the API refuses it.
pub async fn apply_storage_class(client: &kube::Client) -> Result<()> {
    let wanted: StorageClass = serde_norway::from_str(STORAGE_CLASS)?;
    let api: kube::Api<StorageClass> = kube::Api::all(client.clone());
    match api.create(&PostParams::default(), &wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created.map(drop).context("cannot create the StorageClass"),
    }
}

async fn is_established(api: &kube::Api<CustomResourceDefinition>, name: &str) -> bool {
    let conditions =
        api.get(name).await.ok().and_then(|crd| crd.status).and_then(|status| status.conditions);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// An object, and where it was written.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object, with apiVersion, kind and name.
    pub object: DynamicObject,
    /// `<file>, document <n>`, counted from 1.
    pub place: String,
}

impl Document {
    /// Kind and name, as in `Subnet quickstart`.
    #[must_use]
    pub fn what(&self) -> String {
        let kind = self.object.types.as_ref().map_or("", |types| types.kind.as_str());
        format!("{kind} {}", self.object.metadata.name.as_deref().unwrap_or_default())
    }

    /// Place, kind and name: how errors begin.
    fn whole(&self) -> String {
        format!("{}, {}", self.place, self.what())
    }
}

/// The objects of YAML documents; `source` is what errors call the text.
///
/// # Errors
///
/// At the first document that is not a Kubernetes object; the message says which
/// it is, and what to change.
pub fn parse(text: &str, source: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let place = format!("{source}, document {}", index + 1);
        let value = Value::deserialize(document).with_context(|| format!("{place} is not YAML"))?;
        if value.is_null() {
            continue;
        }
        if let Some(problem) = problem(&value) {
            bail!("{place} {problem}");
        }
        let object = serde_json::from_value(value)
            .with_context(|| format!("{place} is not a Kubernetes object"))?;
        documents.push(Document { object, place });
    }
    Ok(documents)
}

/// Why a document cannot be an object that is to be created, if so.
fn problem(value: &Value) -> Option<String> {
    if !value.is_object() {
        return Some("is not a Kubernetes object: it has no fields".to_owned());
    }
    if value["kind"] == "List" {
        return Some("is a List: write each item as a document, with --- between".to_owned());
    }
    let lacks = |path: &&str| {
        let field = value.pointer(&format!("/{}", path.replace('.', "/")));
        field.and_then(Value::as_str).is_none_or(str::is_empty)
    };
    let missing: Vec<_> =
        ["apiVersion", "kind", "metadata.name"].into_iter().filter(lacks).collect();
    (!missing.is_empty())
        .then(|| format!("is not a Kubernetes object: add {} (strings)", missing.join(" and ")))
}

/// Creates an object unless one of its name is there: a user's changes stay.
///
/// # Errors
///
/// When the API does not know its kind or refuses it; the message says which
/// document it is, and what to change.
pub async fn create_if_absent(client: &kube::Client, document: &Document) -> Result<Outcome> {
    let api = api_for(client, &document.object).await.with_context(|| document.whole())?;
    match api.create(&PostParams::default(), &as_applied(&document.object)?).await {
        Ok(_) => Ok(Outcome::Created),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Existed),
        Err(kube::Error::Api(status)) => {
            bail!("{}: the API refuses it: {}", document.whole(), status.message)
        }
        Err(error) => Err(error).with_context(|| document.whole()),
    }
}

/// The object with the note by which a later `kubectl apply` of the same file knows what
/// to compare with.
fn as_applied(object: &DynamicObject) -> Result<DynamicObject> {
    let applied = serde_json::to_string(object)?;
    let mut object = object.clone();
    object.annotations_mut().insert(LAST_APPLIED.to_owned(), applied);
    Ok(object)
}

async fn api_for(
    client: &kube::Client,
    object: &DynamicObject,
) -> Result<kube::Api<DynamicObject>> {
    let types = object.types.as_ref().context("an object without a kind")?;
    let gvk = GroupVersionKind::try_from(types)
        .with_context(|| format!("apiVersion {:?} is not GROUP/VERSION", types.api_version))?;
    let (resource, capabilities) = match kube::discovery::pinned_kind(client, &gvk).await {
        Ok(found) => found,
        Err(error) if is_unknown(&error) => bail!(
            "the API has no kind {} in {}: check both for a slip; Berth brings {}",
            types.kind,
            types.api_version,
            kinds()?.join(", ")
        ),
        Err(error) => return Err(error.into()),
    };
    Ok(match capabilities.scope {
        Scope::Cluster => kube::Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            kube::Api::namespaced_with(client.clone(), namespace, &resource)
        }
    })
}

/// Whether discovery says that there is no such thing, rather than nothing.
fn is_unknown(error: &kube::Error) -> bool {
    match error {
        kube::Error::Discovery(_) => true,
        kube::Error::Api(status) => status.code == 404,
        _ => false,
    }
}

/// `<kind> (<group>/<version>)` of each definition.
fn kinds() -> Result<Vec<String>> {
    let kind = |text: &&str| {
        let spec = serde_norway::from_str::<CustomResourceDefinition>(text)?.spec;
        let version = spec.versions.first().map_or("", |version| version.name.as_str());
        Ok(format!("{} ({}/{version})", spec.names.kind, spec.group))
    };
    CRDS.iter().chain(CDI_CRDS).map(kind).collect()
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
    let complaints: Vec<_> =
        conditions.into_iter().flatten().filter(|condition| is_complaint(condition)).collect();
    // That it is not ready is no reason where one is given.
    let reasons = complaints.iter().filter(|one| one["type"] != "Ready");
    let told =
        if reasons.clone().next().is_some() { reasons.copied().collect() } else { complaints };
    let messages: BTreeSet<_> =
        told.into_iter().filter_map(|condition| condition["message"].as_str()).collect();
    Ok(messages.into_iter().map(|message| format!("{kind} {name}: {message}")).collect())
}

/// A good thing that is not so, or a bad one that is.
fn is_complaint(condition: &Value) -> bool {
    let (kind, status) = (condition["type"].as_str(), condition["status"].as_str());
    matches!(
        (kind, status),
        (Some("Ready" | "Validated" | "Synchronized"), Some("False"))
            | (Some("Failure" | "Error"), Some("True"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_start_is_a_vpc_a_subnet_and_two_machines() {
        let documents = parse(QUICKSTART, "quickstart").unwrap();
        let what: Vec<_> = documents.iter().map(Document::what).collect();
        assert_eq!(
            what,
            ["Vpc quickstart-vpc", "Subnet quickstart", "VirtualMachine web", "VirtualMachine db"]
        );
        for document in documents.into_iter().skip(2) {
            let machine: crds::kubevirt::VirtualMachine = document.object.try_parse().unwrap();
            assert_eq!(machine.metadata.namespace.as_deref(), Some("default"));
        }
    }

    #[test]
    fn every_kind_of_ours_is_defined_here() {
        let name = |one: &CustomResourceDefinition| one.metadata.name.clone().unwrap();
        let here =
            CRDS.iter().chain(CDI_CRDS).map(|text| name(&serde_norway::from_str(text).unwrap()));
        let mut defined = crds::definitions();
        defined.extend(crds::definitions_of_others());
        assert_eq!(here.collect::<BTreeSet<_>>(), defined.iter().map(name).collect());
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
    fn a_document_that_is_no_object_is_refused_with_its_place_and_what_to_add() {
        assert!(parse("---\n---\n", "f.yaml").unwrap().is_empty());
        let good = "kind: Vpc\napiVersion: kubeovn.io/v1\nmetadata: {name: a}\n";
        let refusal = |second: &str| {
            format!("{:#}", parse(&format!("{good}---\n{second}"), "f.yaml").unwrap_err())
        };
        let said = refusal("kind: Vpc\napiVersion: v1\nmetadata: {}\n");
        assert!(
            said.starts_with("f.yaml, document 2 ") && said.contains("add metadata.name"),
            "{said}"
        );
        let said = refusal("- a\n- b\n");
        assert!(said.starts_with("f.yaml, document 2 is not a Kubernetes object"), "{said}");
        assert!(refusal("kind: List\nitems: []\n").contains("write each item"));
        let said = refusal("kind: Vpc\nmetadata:\n  name: [\n");
        // Counted over the whole file, as an editor does.
        assert!(
            said.starts_with("f.yaml, document 2 is not YAML: ") && said.contains("line "),
            "{said}"
        );
    }

    #[test]
    fn what_is_brought_is_named_as_users_write_it() {
        assert!(kinds().unwrap().contains(&"VirtualMachine (kubevirt.io/v1)".to_owned()));
    }
}
