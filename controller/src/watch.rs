//! Watches: one task per kind, all into one channel.
//!
//! Objects are read one by one: one that does not fit its type, whoever wrote it
//! past the schema, is told so and passed on by its metadata, and the others go on.

mod feed;
mod misfit;
mod pulse;
mod read;

use std::sync::Arc;

use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use crate::admission::Facts;
use crate::data_volumes::Desk;
use crate::drain::Gate;
use crate::endpoints::Directory;
use crate::fencing::Sentry;
use crate::instancetypes::News as Kind;
use crate::shelf::Seen;
use crate::storage::News;
use crate::world::Event;
use feed::Feed;
use misfit::Misfits;

/// Events that may wait for the round that is under way.
const QUEUE: usize = 4096;

/// Who is told of what the watches see before the world is: they wait for no round.
#[derive(Clone, Debug)]
pub struct Told {
    /// What reviewers go by, if somebody asks them; first of all.
    pub facts: Option<Arc<Facts>>,
    /// Who fills claims.
    pub desk: Arc<Desk>,
    /// Who tells Services of guests.
    pub directory: Arc<Directory>,
    /// Who keeps `kubectl drain` waiting.
    pub gate: Arc<Gate>,
    /// Who fences nodes.
    pub sentry: Arc<Sentry>,
}

impl Told {
    fn apply(&self, event: &Event) {
        if let Some(facts) = &self.facts {
            facts.apply(event);
        }
        self.desk.apply(event);
        self.directory.apply(event);
        self.gate.apply(event);
        self.sentry.apply(event);
    }
}

/// Follows every kind; ends with the returned set of tasks.
pub fn all(client: &Client, tasks: &mut JoinSet<()>, told: Told) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let events = Events { sender, told };
    tasks.spawn(pulse::follow(client.clone(), events.clone()));
    // Older installations do not have its definition: there are none then.
    follow_if_served(client, tasks, &events, Event::Claim, Some(|| Event::NoClaims));
    let no_data_volumes = || Event::Storage(News::NoDataVolumes);
    let data_volume = |seen| Event::Storage(News::DataVolume(seen));
    follow_if_served(client, tasks, &events, data_volume, Some(no_data_volumes));
    let no_data_sources = || Event::Storage(News::NoDataSources);
    let data_source = |seen| Event::Storage(News::DataSource(seen));
    follow_if_served(client, tasks, &events, data_source, Some(no_data_sources));
    follow(client, tasks, &events, |seen| Event::Storage(News::Claim(seen)));
    follow(client, tasks, &events, |seen| Event::Storage(News::Volume(seen)));
    // What they take of nodes: nothing, as far as may be known, where they may not be read.
    let pods = Feed::new(client).even_if_forbidden();
    follow_feed(client, pods, tasks, &events, Event::Pod, Some(|| Event::NoPods));
    kinds(client, tasks, &events);
    follow_if_served(client, tasks, &events, Event::Set, Some(|| Event::NoSets));
    follow(client, tasks, &events, |seen| Event::Storage(News::Class(seen)));
    let no_importer = || Event::Storage(News::NoImporter);
    let importer = |seen| Event::Storage(News::Importer(seen));
    follow_if_served(client, tasks, &events, importer, Some(no_importer));
    follow(client, tasks, &events, Event::Vpc);
    follow(client, tasks, &events, Event::Subnet);
    follow(client, tasks, &events, Event::Ip);
    follow(client, tasks, &events, Event::Pool);
    follow(client, tasks, &events, Event::Vip);
    follow(client, tasks, &events, Event::Namespace);
    follow(client, tasks, &events, Event::Machine);
    follow(client, tasks, &events, Event::Instance);
    follow(client, tasks, &events, Event::Migration);
    // Older installations do not have its definition.
    follow_if_served(client, tasks, &events, Event::Policy, Some(|| Event::NoPolicies));
    follow(client, tasks, &events, Event::Node);
    follow(client, tasks, &events, Event::Block);
    receiver
}

/// Follows instancetypes, preferences and what of them is kept. Older installations do not
/// have their definitions.
fn kinds(client: &Client, tasks: &mut JoinSet<()>, events: &Events) {
    let absent: [Option<fn() -> Event>; 5] = [
        Some(|| Event::Kind(Kind::Absent(0))),
        Some(|| Event::Kind(Kind::Absent(1))),
        Some(|| Event::Kind(Kind::Absent(2))),
        Some(|| Event::Kind(Kind::Absent(3))),
        Some(|| Event::Kind(Kind::Absent(4))),
    ];
    let of = |seen| Event::Kind(Kind::Instancetype(seen));
    follow_if_served(client, tasks, events, of, absent[0]);
    follow_if_served(
        client,
        tasks,
        events,
        |seen| Event::Kind(Kind::ClusterInstancetype(seen)),
        absent[1],
    );
    follow_if_served(client, tasks, events, |seen| Event::Kind(Kind::Preference(seen)), absent[2]);
    follow_if_served(
        client,
        tasks,
        events,
        |seen| Event::Kind(Kind::ClusterPreference(seen)),
        absent[3],
    );
    follow_if_served(client, tasks, events, |seen| Event::Kind(Kind::Revision(seen)), absent[4]);
}

/// Who is told of what the watches see.
#[derive(Clone)]
struct Events {
    sender: mpsc::Sender<Event>,
    told: Told,
}

impl Events {
    /// Whether somebody wants to know still.
    async fn tell(&self, event: Event) -> bool {
        self.told.apply(&event);
        self.sender.send(event).await.is_ok()
    }
}

fn follow<K>(client: &Client, tasks: &mut JoinSet<()>, events: &Events, wrap: fn(Seen<K>) -> Event)
where
    K: Resource + Clone + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    follow_if_served(client, tasks, events, wrap, None);
}

/// Follows a kind that the API may not serve, which is told by `absent`.
fn follow_if_served<K>(
    client: &Client,
    tasks: &mut JoinSet<()>,
    events: &Events,
    wrap: fn(Seen<K>) -> Event,
    absent: Option<fn() -> Event>,
) where
    K: Resource + Clone + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    follow_feed(client, Feed::new(client), tasks, events, wrap, absent);
}

fn follow_feed<K>(
    client: &Client,
    mut feed: Feed<K>,
    tasks: &mut JoinSet<()>,
    events: &Events,
    wrap: fn(Seen<K>) -> Event,
    absent: Option<fn() -> Event>,
) where
    K: Resource + Clone + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let misfits = Misfits::of::<K>(client, tasks);
    let events = events.clone();
    tasks.spawn(async move {
        loop {
            let event = match (feed.next().await, absent) {
                (Ok(seen), _) => {
                    misfits.in_news(&seen);
                    wrap(seen)
                }
                (Err(_), Some(absent)) => absent(),
                (Err(error), None) => {
                    warn!(%error, "A kind is waited for; nothing is done before it is there");
                    continue;
                }
            };
            if !events.tell(event).await {
                return;
            }
        }
    });
}
