//! Watches: one task per kind, all into one channel.
//!
//! Objects are read one by one: one that does not fit its type, whoever wrote it
//! past the schema, is reported and left out, and the others go on.

use std::fmt::Debug;
use std::hash::Hash;

use futures::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use crate::world::{Event, Seen};

/// Events that may wait for the round that is under way.
const QUEUE: usize = 4096;

/// Follows every kind; ends with the returned set of tasks.
pub fn all(client: &Client, tasks: &mut JoinSet<()>) -> mpsc::Receiver<Event> {
    let (events, receiver) = mpsc::channel(QUEUE);
    follow(client, tasks, &events, Event::Vpc);
    follow(client, tasks, &events, Event::Subnet);
    follow(client, tasks, &events, Event::Ip);
    follow(client, tasks, &events, Event::Machine);
    follow(client, tasks, &events, Event::Instance);
    follow(client, tasks, &events, Event::Node);
    follow(client, tasks, &events, Event::Block);
    receiver
}

fn follow<K>(
    client: &Client,
    tasks: &mut JoinSet<()>,
    events: &mpsc::Sender<Event>,
    wrap: fn(Seen<K>) -> Event,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let resource = ApiResource::erase::<K>(&K::DynamicType::default());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let events = events.clone();
    tasks.spawn(async move {
        let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut listed = Vec::new();
        while let Some(event) = stream.next().await {
            let seen = match event {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    listed.extend(read(object));
                    continue;
                }
                Ok(watcher::Event::InitDone) => Seen::All(std::mem::take(&mut listed)),
                Ok(watcher::Event::Apply(object)) => match read(object) {
                    Some(object) => Seen::Now(Box::new(object)),
                    None => continue,
                },
                Ok(watcher::Event::Delete(object)) => match read(object) {
                    Some(object) => Seen::Gone(Box::new(object)),
                    None => continue,
                },
                Err(error) => {
                    warn!(kind = resource.kind, %error, "A watch was interrupted; it goes on");
                    continue;
                }
            };
            if events.send(wrap(seen)).await.is_err() {
                return;
            }
        }
    });
}

/// The object as its type, without what nobody here reads: managed fields are
/// most of an object's size.
fn read<K: Resource + DeserializeOwned>(mut object: DynamicObject) -> Option<K> {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    let (name, namespace) = (object.name_any(), object.namespace());
    let kind = object.types.as_ref().map(|types| types.kind.clone());
    let parsed = serde_json::to_value(object).and_then(serde_json::from_value);
    parsed
        .inspect_err(|error| {
            warn!(kind, namespace, name, %error, "An object does not fit its type and is left out");
        })
        .ok()
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
    fn an_object_that_does_not_fit_its_type_is_left_out() {
        assert!(
            read::<VirtualMachine>(object(serde_json::json!({ "running": "perhaps" }))).is_none()
        );
        let fits = serde_json::json!({ "template": { "spec": { "domain": { "devices": {} } } } });
        assert!(read::<VirtualMachine>(object(fits)).is_some());
    }
}
