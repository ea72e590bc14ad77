//! What a job says on its claim. Only annotations that are ours to write, and only on the claim
//! of that uid.

use std::time::Duration;

use crds::cdi::notes::{
    PHASE, PROGRESS, READY, RESTARTS, RUNNING, RUNNING_MESSAGE, RUNNING_REASON,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::fault::Fault;
use super::pipe::Progress;

/// How often it is said how far it is.
const PERIOD: Duration = Duration::from_secs(2);
/// Between attempts to say what must be said.
const AGAIN: Duration = Duration::from_secs(2);
/// A message is no longer, in characters.
const LONGEST: usize = 1000;

/// Who says it.
#[derive(Clone)]
pub(super) struct Told {
    api: Api<PersistentVolumeClaim>,
    name: String,
    uid: String,
}

impl Told {
    pub(super) fn of(client: &Client, claim: &PersistentVolumeClaim) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default()),
            name: claim.name_any(),
            uid: claim.uid().unwrap_or_default(),
        }
    }

    /// It is at work.
    pub(super) async fn begun(&self) -> Result<(), Fault> {
        let notes = json!({ PHASE: "Running", RUNNING: "true", RUNNING_MESSAGE: "",
            RUNNING_REASON: "Pod is running" });
        self.say(notes).await
    }

    /// It takes what somebody sends. Why it did not before stays said.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        let notes = json!({ PHASE: "Running", READY: "true", RUNNING: "true",
            RUNNING_REASON: "Pod is running" });
        self.say(notes).await
    }

    /// It is done: whole, and on the disk.
    pub(super) async fn succeeded(&self) -> Result<(), Fault> {
        let notes = json!({ PHASE: "Succeeded", RUNNING: "false", PROGRESS: null, READY: null,
            RUNNING_MESSAGE: "Import Complete", RUNNING_REASON: "Completed" });
        self.say(notes).await
    }

    /// It is tried again, this often by then.
    pub(super) async fn hindered(&self, why: &str, restarts: u32) -> Result<(), Fault> {
        let notes = json!({ RUNNING: "false", RUNNING_MESSAGE: short(why), PROGRESS: null, READY: null,
            RUNNING_REASON: "Error", RESTARTS: restarts.to_string() });
        self.say(notes).await
    }

    /// It waits for others, who use what is copied.
    pub(super) async fn waits(&self, why: &str) -> Result<(), Fault> {
        let notes = json!({ RUNNING: "false", RUNNING_MESSAGE: short(why), PROGRESS: null,
            RUNNING_REASON: "CloneSourceInUse" });
        self.say(notes).await
    }

    /// It is not tried again.
    pub(super) async fn failed(&self, why: &str) -> Result<(), Fault> {
        let notes = json!({ PHASE: "Failed", RUNNING: "false", PROGRESS: null, READY: null,
            RUNNING_MESSAGE: short(why), RUNNING_REASON: "Error" });
        self.say(notes).await
    }

    /// Says how far it is, for as long as it is not dropped.
    pub(super) async fn keep_saying(&self, progress: &Progress) {
        let mut said = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let text = progress.text();
            if text.is_some() && text != said {
                // The next one will do.
                let _ = self.write(&json!({ PROGRESS: text })).await;
                said = text;
            }
        }
    }

    /// Says it, however long that takes.
    async fn say(&self, notes: Value) -> Result<(), Fault> {
        loop {
            match self.write(&notes).await {
                Ok(()) => return Ok(()),
                // It is gone, or another's: the uid is part of what is written.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                    return Err(Fault::Over);
                }
                Err(error) => {
                    tracing::warn!(claim = self.name, %error, "A claim cannot be written to");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn write(&self, notes: &Value) -> Result<(), kube::Error> {
        let patch = json!({ "metadata": { "uid": self.uid, "annotations": notes } });
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
