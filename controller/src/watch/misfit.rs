//! Objects that do not fit their type are told so on themselves.
//!
//! Schema and admission keep them out; one that got past both is left alone, with
//! whatever it holds, until somebody mends it. That somebody looks at the object and at
//! its events, not at our log. It is read once more for that: what is wrong with it is
//! what this reading says, and if nothing is, there is nothing to tell.

use std::time::Duration;

use crds::annotations::NOT_RESERVED;
use crds::condition::Condition;
use crds::kubevirt::{self, ConditionStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self as meta, ObjectMeta, Time};
use kube::api::{Api, ApiResource, DynamicObject, GetParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::shelf::Seen;
use crate::status;
use crate::warning::{self, Warning};

/// The condition of an IPAMClaim that says so.
const ALLOCATED: &str = "IPsAllocated";
/// The reason of the condition and of the event.
const REASON: &str = "DoesNotFitItsType";
/// An answer that takes longer is not waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// Delay before the API is asked again after it could not be; doubles up to the next.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest such delay.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Objects of one kind that are to be told.
pub(super) struct Misfits(mpsc::UnboundedSender<ObjectMeta>);

impl Misfits {
    /// Tells objects of this kind, one after another; ends with the set of tasks.
    pub(super) fn of<K>(client: &Client, tasks: &mut JoinSet<()>) -> Self
    where
        K: Resource + DeserializeOwned + 'static,
        K::DynamicType: Default,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let teller = Teller {
            client: client.clone(),
            resource: ApiResource::erase::<K>(&K::DynamicType::default()),
            namespaced: |namespace| K::url_path(&K::DynamicType::default(), namespace),
            flaw: flaw::<K>,
        };
        tasks.spawn(async move {
            while let Some(meta) = receiver.recv().await {
                teller.tell(&meta).await;
            }
            // Everything relies on the watch, whose end this is; it says so itself.
            std::future::pending::<()>().await;
        });
        Self(sender)
    }

    /// Has those told that this news is about.
    pub(super) fn in_news<K>(&self, news: &Seen<K>) {
        let metas = match news {
            Seen::All { unreadable, .. } => unreadable.as_slice(),
            Seen::Unreadable(meta) => std::slice::from_ref(&**meta),
            Seen::Now(_) | Seen::Gone(_) => &[],
        };
        for meta in metas {
            // Nobody listens any more only when the controller ends.
            drop(self.0.send(meta.clone()));
        }
    }
}

/// What it takes to tell an object of one kind.
struct Teller {
    client: Client,
    resource: ApiResource,
    namespaced: fn(Option<&str>) -> String,
    flaw: fn(&str) -> Option<String>,
}

impl Teller {
    /// Tells one object, however long the API is away.
    async fn tell(&self, meta: &ObjectMeta) {
        let mut pause = FIRST_RETRY;
        let name = meta.name.as_deref().unwrap_or_default();
        loop {
            let error = match timeout(LIMIT, self.try_to_tell(meta)).await {
                Ok(Ok(())) => return,
                // It went, or changed meanwhile: its watch tells of that.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return,
                Ok(Err(error @ kube::Error::Api(_))) => {
                    warn!(kind = self.resource.kind, name, %error, "An object was not told that it does not fit its type");
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            debug!(kind = self.resource.kind, name, error, "Telling an object again later");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    async fn try_to_tell(&self, meta: &ObjectMeta) -> Result<(), kube::Error> {
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref();
        let get = Request::new((self.namespaced)(namespace)).get(name, &GetParams::default());
        let text = self.client.request_text(get.map_err(kube::Error::BuildRequest)?).await?;
        let Some(flaw) = (self.flaw)(&text) else { return Ok(()) };
        let object: DynamicObject = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
        let kind = &self.resource.kind;
        let singular = kind.to_lowercase();
        let why = format!(
            "the object does not fit its type, and nothing is done for it: {flaw}; \
             mend that field (kubectl explain {singular} --recursive shows the types)"
        );
        let Some((mut patch, place)) = told(kind, &object.data, &object.metadata, &why) else {
            return Ok(());
        };
        patch["metadata"]["resourceVersion"] = json!(object.metadata.resource_version);
        let (patch, params) = (Patch::Merge(patch), PatchParams::default());
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
            None => Api::all_with(self.client.clone(), &self.resource),
        };
        match place {
            Place::Status => api.patch_status(name, &params, &patch).await?,
            Place::Object => api.patch(name, &params, &patch).await?,
        };
        let about = object.object_ref(&self.resource);
        let warning = Warning { about, reason: REASON.to_owned(), message: why };
        warning::publish(&self.client, vec![warning]).await;
        Ok(())
    }
}

/// Where a patch goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Object,
    Status,
}

/// The first field that does not fit, with its path, and why.
fn flaw<K: DeserializeOwned>(text: &str) -> Option<String> {
    let reader = &mut serde_json::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, K>(reader).err()?;
    let (path, why) = (error.path().to_string(), error.inner().to_string());
    // The place in a text that nobody sees.
    let why = why.split(" at line ").next().unwrap_or_default();
    Some(format!("{path}: {why}"))
}

/// What to write on an object so that it says `why`; nothing if it does already, or if its
/// kind has no place for it.
fn told(kind: &str, data: &Value, meta: &ObjectMeta, why: &str) -> Option<(Value, Place)> {
    let now = Timestamp::now();
    let place = match kind {
        // Without a status subresource.
        "IP" | "Vip" | "VirtualMachineInstance" => Place::Object,
        _ => Place::Status,
    };
    let conditions = &data["status"]["conditions"];
    let conditions = match kind {
        "IP" => {
            let notes = meta.annotations.as_ref();
            let said = notes.and_then(|notes| notes.get(NOT_RESERVED));
            let patch = json!({"metadata": {"annotations": {NOT_RESERVED: why}}});
            return (said.map(String::as_str) != Some(why)).then_some((patch, place));
        }
        "Vpc" | "Subnet" | "IPPool" | "Vip" => {
            // A write of a whole object raises its generation.
            let generation = meta.generation.filter(|_| place == Place::Status);
            changed(conditions, |old: &mut Vec<Condition>| {
                *old = status::misfit(old, why, generation, now);
            })
        }
        "VirtualMachine" => with(conditions, "Failure", ConditionStatus::True, why, now),
        "VirtualMachineInstance" => {
            with(conditions, "Synchronized", ConditionStatus::False, why, now)
        }
        "IPAMClaim" => changed(conditions, |old: &mut Vec<meta::Condition>| {
            let since = old.iter().find(|one| one.type_ == ALLOCATED && one.status == "False");
            let since = since.map_or(Time(now), |one| one.last_transition_time.clone());
            old.retain(|one| one.type_ != ALLOCATED);
            old.push(meta::Condition {
                type_: ALLOCATED.to_owned(),
                status: "False".to_owned(),
                reason: REASON.to_owned(),
                message: why.to_owned(),
                last_transition_time: since,
                observed_generation: meta.generation,
            });
        }),
        _ => None,
    };
    Some((json!({"status": {"conditions": conditions?}}), place))
}

/// Conditions in KubeVirt's form with this one among them, if they are others then.
fn with(
    conditions: &Value,
    kind: &str,
    value: ConditionStatus,
    why: &str,
    now: Timestamp,
) -> Option<Value> {
    changed(conditions, |old| {
        let one = kubevirt::Condition::new(kind, value).because(REASON, why.to_owned());
        one.merge_into(old, Time(now));
    })
}

/// What `change` makes of conditions, if they are others then. Those that cannot be read
/// are none.
fn changed<C: Clone + DeserializeOwned + PartialEq + Serialize>(
    conditions: &Value,
    change: impl FnOnce(&mut Vec<C>),
) -> Option<Value> {
    let old: Vec<C> = serde_json::from_value(conditions.clone()).unwrap_or_default();
    let mut new = old.clone();
    change(&mut new);
    (new != old).then(|| json!(new))
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::Subnet;

    use super::*;

    #[test]
    fn the_field_that_does_not_fit_is_named_by_its_path() {
        let subnet = |spec: Value| {
            let object = json!({"metadata": {"name": "s"}, "spec": spec});
            flaw::<Subnet>(&object.to_string())
        };
        let flaw = subnet(json!({"cidrBlock": "10.0.0.0/24", "excludeIps": ["10.0.0.1", 7]}));
        assert_eq!(
            flaw.as_deref(),
            Some("spec.excludeIps[1]: invalid type: integer `7`, expected a string")
        );
        assert_eq!(subnet(json!({"cidrBlock": "10.0.0.0/24"})), None);
    }

    #[test]
    fn an_object_is_told_in_the_form_of_its_kind_and_only_once() {
        for (kind, place, pointer) in [
            ("Subnet", Place::Status, "/status/conditions"),
            ("Vip", Place::Object, "/status/conditions"),
            ("VirtualMachine", Place::Status, "/status/conditions"),
            ("IPAMClaim", Place::Status, "/status/conditions"),
            ("VirtualMachineInstance", Place::Object, "/status/conditions"),
            ("IP", Place::Object, "/metadata/annotations"),
        ] {
            let other =
                json!({"status": {"conditions": [{"type": "AgentConnected", "status": "True"}]}});
            let (patch, at) = told(kind, &other, &ObjectMeta::default(), "it is odd").unwrap();
            assert_eq!(at, place, "{kind}");
            assert!(patch.pointer(pointer).unwrap().to_string().contains("it is odd"), "{patch}");
            let annotations = serde_json::from_value(patch["metadata"]["annotations"].clone());
            // A write of a whole object raises its generation.
            let generation = (place == Place::Object).then_some(2);
            let annotations = annotations.unwrap();
            let meta = ObjectMeta { annotations, generation, ..ObjectMeta::default() };
            assert_eq!(told(kind, &patch, &meta, "it is odd"), None, "{kind}");
            assert!(told(kind, &patch, &meta, "it is odder").is_some(), "{kind}");
        }
        assert_eq!(told("Node", &json!({}), &ObjectMeta::default(), "it is odd"), None);
    }
}
