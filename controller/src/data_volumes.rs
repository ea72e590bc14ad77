//! Claims that are filled: DataVolumes, where CDI is not installed, and the volumes that our
//! provisioner makes.
//!
//! ```text
//!  VM's template ─► DataVolume ─► claim ─► volume ─► node that fills it ─► agent
//!                       ▲  status             │ label on the claim          │
//!                       └───── annotations of the claim ◄──────────────────┘
//! ```
//!
//! A task of its own, beside the rounds: what is filled has to do with no address, and takes
//! minutes. Each look compares all that is known with what should be (`look`), and carries out
//! what is missing, each write for the version that was read. Nothing is remembered but what
//! was told to people.
//!
//! Where CDI is installed DataVolumes are made from templates and left to it. Claims of
//! our class get their volumes from here all the same.

mod claim;
mod data_sources;
mod grants;
mod importer;
mod known;
mod look;
mod provision;
mod refused;
mod source;
mod status;
mod templates;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crds::cdi::{DataSource, DataVolume, leave};
use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use self::grants::Way;
use self::known::Known;
use self::refused::Refused;
use crate::ledger::VmKey;
use crate::storage::{Selection, is_owned_by};
use crate::warning::{self, Warning};
use crate::world::Event;

/// The least time from one look to the next.
const REST: Duration = Duration::from_millis(100);
/// After a write that was not answered, or came too late.
const AGAIN: Duration = Duration::from_secs(2);
/// Nobody may have rung; leave that was not given is asked for again as often.
const PERIOD: Duration = Duration::from_secs(20);
/// A write that is not answered for so long is given up.
const LIMIT: Duration = Duration::from_secs(30);
/// Writes in flight at once.
const PARALLEL_WRITES: usize = 8;

/// Where the watches and the rounds leave what is news here.
#[derive(Debug, Default)]
pub struct Desk {
    known: Mutex<Known>,
    bell: Notify,
}

impl Desk {
    /// Takes in what a watch saw, as far as it concerns anybody here.
    pub fn apply(&self, event: &Event) {
        if self.known.lock().apply(event) {
            self.bell.notify_one();
        }
    }

    /// Takes in for which nodes claims get their volumes.
    pub fn select(&self, selections: Vec<Selection>) {
        if !selections.is_empty() {
            self.known.lock().select(selections);
            self.bell.notify_one();
        }
    }
}

/// One thing that is missing.
#[derive(Clone, Debug)]
enum Write {
    /// A DataVolume of this VM.
    DataVolume(Box<DataVolume>, ObjectReference),
    Claim(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
    /// A volume that is nobody's any more.
    Remove {
        volume: String,
        uid: String,
    },
    /// A claim that goes with a DataVolume which is gone.
    RemoveClaim {
        claim: VmKey,
        uid: String,
    },
    /// Labels and annotations of a claim; null takes one away.
    Note {
        claim: VmKey,
        uid: String,
        version: String,
        labels: Value,
        annotations: Value,
    },
    /// Whether claims of one namespace may be copied to another.
    Ask(Way),
    /// A DataSource with its new status.
    DataSource(Box<DataSource>),
    /// A DataVolume with its new status.
    Status(Box<DataVolume>),
    /// Something that people are told once.
    Tell(Warning),
}

/// Runs until it is dropped.
pub(crate) async fn run(client: Client, desk: Arc<Desk>) {
    let mut told: HashMap<String, String> = HashMap::new();
    let mut refused = Refused::default();
    // What a refused write said, for as long as it is refused.
    let mut warned: HashMap<u64, Warning> = HashMap::new();
    loop {
        let writes = {
            let known = desk.known.lock();
            if known.is_complete() { look::missing(&known, jiff::Timestamp::now()) } else { vec![] }
        };
        let (tell, writes): (Vec<_>, Vec<_>) =
            writes.into_iter().partition(|write| matches!(write, Write::Tell(_)));
        let writes = refused.due(writes, Instant::now());
        let outcome = carry_out(&client, &desk, writes).await;
        let now = Instant::now();
        outcome.done.iter().for_each(|said| refused.done(*said));
        for (said, warning) in outcome.refused {
            refused.add(said, now);
            warned.extend(warning.map(|warning| (said, warning)));
        }
        warned.retain(|said, _| refused.has(*said));
        tell_news(&client, tell, warned.values().cloned().collect(), &mut told).await;
        if outcome.outdated {
            sleep(AGAIN).await;
            continue;
        }
        sleep(REST).await;
        // Whoever rang while it looked has left the bell rung.
        let wait = refused.next().map_or(PERIOD, |next| next - Instant::now()).min(PERIOD);
        let _ = timeout(wait, desk.bell.notified()).await;
    }
}

/// What became of writes.
#[derive(Default)]
struct Outcome {
    done: Vec<u64>,
    /// With what people are told of it.
    refused: Vec<(u64, Option<Warning>)>,
    /// Something changed meanwhile, or was not answered.
    outdated: bool,
}

async fn carry_out(client: &Client, desk: &Desk, writes: Vec<Write>) -> Outcome {
    let mut all = Outcome::default();
    let each = writes.into_iter().map(|write| async {
        let outcome = timeout(LIMIT, perform(client, desk, &write)).await;
        (write, outcome)
    });
    let mut outcomes = futures::stream::iter(each).buffer_unordered(PARALLEL_WRITES);
    while let Some((write, outcome)) = outcomes.next().await {
        let said = refused::said(&write);
        let error = match outcome {
            Ok(Ok(())) => {
                all.done.push(said);
                continue;
            }
            Ok(Err(error)) => error,
            Err(_) => {
                warn!("A write about a claim was not answered");
                all.outdated = true;
                continue;
            }
        };
        // It changed, or is there: the watch says how.
        if matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
            all.outdated = true;
            continue;
        }
        warn!(%error, "What fills a claim was not written");
        let warning = match write {
            Write::DataVolume(data_volume, about) => Some(Warning {
                about,
                reason: "FailedDataVolumeCreate".to_owned(),
                message: format!("Error creating DataVolume {}: {error}", data_volume.name_any()),
            }),
            _ => None,
        };
        all.refused.push((said, warning));
    }
    all
}

/// Tells what was not told before.
async fn tell_news(
    client: &Client,
    tell: Vec<Write>,
    failed: Vec<Warning>,
    told: &mut HashMap<String, String>,
) {
    let said = tell.into_iter().filter_map(|write| match write {
        Write::Tell(warning) => Some(warning),
        _ => None,
    });
    let all: Vec<Warning> = said.chain(failed).collect();
    let key = |one: &Warning| one.about.uid.clone().unwrap_or_default();
    let news = all.iter().filter(|one| told.get(&key(one)) != Some(&one.message)).cloned();
    let news: Vec<_> = news.collect();
    if !news.is_empty() {
        warning::publish(client, news).await;
    }
    // What is not wrong any more is forgotten, so that this never grows.
    let kept = told.drain().filter(|(uid, _)| all.iter().any(|one| key(one) == *uid));
    let mut now: HashMap<_, _> = kept.collect();
    now.extend(all.iter().map(|one| (key(one), one.message.clone())));
    *told = now;
}

async fn perform(client: &Client, desk: &Desk, write: &Write) -> Result<(), kube::Error> {
    let new = PostParams::default();
    match write {
        Write::DataVolume(data_volume, about) => {
            let made = namespaced::<DataVolume>(client, data_volume.namespace())
                .create(&new, data_volume)
                .await?;
            info!(vm = about.name, data_volume = made.name_any(), "Made a DataVolume of a VM");
            desk.known.lock().put_data_volume(made);
        }
        Write::Claim(claim) => {
            let api = namespaced::<PersistentVolumeClaim>(client, claim.namespace());
            let made = api.create(&new, claim).await?;
            info!(claim = made.name_any(), "Made the claim of a DataVolume");
            desk.known.lock().put_claim(made);
        }
        Write::Volume(volume) => {
            let made = Api::<PersistentVolume>::all(client.clone()).create(&new, volume).await?;
            info!(volume = made.name_any(), "Made a volume of a node");
            desk.known.lock().put_volume(made);
        }
        Write::Remove { volume, uid } => {
            let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let of = DeleteParams::default().preconditions(preconditions);
            Api::<PersistentVolume>::all(client.clone()).delete(volume, &of).await?;
            info!(volume, "A volume that is nobody's goes");
        }
        Write::RemoveClaim { claim, uid } => {
            let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let of = DeleteParams::default().preconditions(preconditions);
            let api = namespaced::<PersistentVolumeClaim>(client, Some(claim.namespace.clone()));
            // What is seen may be late: the claim may be that of the DataVolume that is here now.
            let owner = namespaced::<DataVolume>(client, Some(claim.namespace.clone()));
            if let Some(owner) = owner.get_opt(&claim.name).await?
                && let Some(claim) = api.get_opt(&claim.name).await?
                && is_owned_by(&claim, owner.metadata.uid.as_ref())
            {
                return Ok(());
            }
            api.delete(&claim.name, &of).await?;
            info!(claim = claim.name, "The claim of an earlier DataVolume goes");
        }
        Write::Note { claim, uid, version, labels, annotations } => {
            let metadata = json!({ "uid": uid, "resourceVersion": version,
                "labels": labels, "annotations": annotations });
            let patch = Patch::Merge(json!({ "metadata": metadata }));
            let api = namespaced::<PersistentVolumeClaim>(client, Some(claim.namespace.clone()));
            let noted = api.patch(&claim.name, &PatchParams::default(), &patch).await?;
            desk.known.lock().put_claim(noted);
        }
        Write::Status(data_volume) => {
            let api = namespaced::<DataVolume>(client, data_volume.namespace());
            let name = data_volume.name_any();
            let told = api.replace_status(&name, &new, data_volume).await?;
            desk.known.lock().put_data_volume(told);
        }
        Write::DataSource(data_source) => {
            let api = namespaced::<DataSource>(client, data_source.namespace());
            let told = api.replace_status(&data_source.name_any(), &new, data_source).await?;
            desk.known.lock().put_data_source(told);
        }
        Write::Ask(way) => {
            let api: Api<SubjectAccessReview> = Api::all(client.clone());
            let answer = api.create(&new, &leave::question(&way.from, &way.to)).await?;
            let is_given = leave::is_given(&answer);
            info!(from = way.from, to = way.to, is_given, "Asked whether claims may be copied");
            desk.known.lock().grants.put(way.clone(), is_given, jiff::Timestamp::now());
            desk.bell.notify_one();
        }
        Write::Tell(_) => {}
    }
    Ok(())
}

fn namespaced<K>(client: &Client, namespace: Option<String>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(client.clone(), &namespace.unwrap_or_default())
}
