//! Watches: one task per kind, all into one channel.
//!
//! Objects are read one by one: one that does not fit its type, whoever wrote it
//! past the schema, is reported and passed on by its metadata, and the others go on.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use crate::admission::Facts;
use crate::shelf::Seen;
use crate::world::Event;

/// Events that may wait for the round that is under way.
const QUEUE: usize = 4096;

/// Follows every kind; ends with the returned set of tasks. The facts, if somebody wants
/// them, are told first: they wait for no round.
pub fn all(
    client: &Client,
    tasks: &mut JoinSet<()>,
    facts: Option<&Arc<Facts>>,
) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let events = Events { sender, facts: facts.cloned() };
    follow(client, tasks, &events, Event::Vpc);
    follow(client, tasks, &events, Event::Subnet);
    follow(client, tasks, &events, Event::Ip);
    follow(client, tasks, &events, Event::Pool);
    follow(client, tasks, &events, Event::Vip);
    follow(client, tasks, &events, Event::Namespace);
    follow(client, tasks, &events, Event::Machine);
    follow(client, tasks, &events, Event::Instance);
    follow(client, tasks, &events, Event::Node);
    follow(client, tasks, &events, Event::Block);
    receiver
}

/// Who is told of what the watches see.
#[derive(Clone)]
struct Events {
    sender: mpsc::Sender<Event>,
    facts: Option<Arc<Facts>>,
}

fn follow<K>(client: &Client, tasks: &mut JoinSet<()>, events: &Events, wrap: fn(Seen<K>) -> Event)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let resource = ApiResource::erase::<K>(&K::DynamicType::default());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let events = events.clone();
    tasks.spawn(async move {
        let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(event) = stream.next().await {
            let seen = match event {
                Ok(watcher::Event::Init) => {
                    objects.clear();
                    unreadable.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    match read(object) {
                        Ok(object) => objects.push(object),
                        Err(meta) => unreadable.push(*meta),
                    }
                    continue;
                }
                Ok(watcher::Event::InitDone) => Seen::All {
                    objects: std::mem::take(&mut objects),
                    unreadable: std::mem::take(&mut unreadable),
                },
                Ok(watcher::Event::Apply(object)) => match read(object) {
                    Ok(object) => Seen::Now(Box::new(object)),
                    Err(meta) => Seen::Unreadable(meta),
                },
                Ok(watcher::Event::Delete(object)) => Seen::Gone(Box::new(object.metadata)),
                Err(error) => {
                    warn!(kind = resource.kind, %error, "A watch was interrupted; it goes on");
                    continue;
                }
            };
            let event = wrap(seen);
            if let Some(facts) = &events.facts {
                facts.apply(&event);
            }
            if events.sender.send(event).await.is_err() {
                return;
            }
        }
    });
}

/// The object as its type, or else its metadata; without what nobody here reads:
/// managed fields are most of an object's size.
fn read<K: Resource + DeserializeOwned>(mut object: DynamicObject) -> Result<K, Box<ObjectMeta>> {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    let meta = object.metadata.clone();
    let kind = object.types.as_ref().map(|types| types.kind.clone());
    let parsed = serde_json::to_value(object).and_then(serde_json::from_value);
    parsed.map_err(|error: serde_json::Error| {
        let (namespace, name) = (&meta.namespace, &meta.name);
        warn!(kind, namespace, name, %error, "An object does not fit its type; nothing of it is touched");
        Box::new(meta)
    })
}

#[cfg(test)]
mod tests {
    use crds::kubevirt::VirtualMachine;

    use super::*;

    fn object(spec: serde_json::Value) -> DynamicObject {
        let resource = ApiResource::erase::<VirtualMachine>(&());
        DynamicObject::new("web", &resource)
            .within("default")
            .data(serde_json::json!({ "spec": spec }))
    }

    #[test]
    fn an_object_that_does_not_fit_its_type_is_known_by_its_metadata() {
        let read = |spec| read::<VirtualMachine>(object(spec));
        let meta = read(serde_json::json!({ "running": "perhaps" })).unwrap_err();
        assert_eq!(meta.name.as_deref(), Some("web"));
        let fits = serde_json::json!({ "template": { "spec": { "domain": { "devices": {} } } } });
        assert_eq!(read(fits).unwrap().name_any(), "web");
    }
}
