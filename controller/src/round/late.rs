//! Writes that no round waits for: instances and what VMs say of themselves.
//!
//! ```text
//!  round ─► hand over ─► workers ─► answers ─► world ─► the VM is looked at again
//! ```
//!
//! In a burst the addresses, rows and IP objects of the next thousand VMs need not wait
//! until the last thousand have their instances. Nothing is decided for a VM while a
//! write for it is under way ([`crate::agenda`]), so what happens to one VM happens in
//! the order that it always had. While a round writes, most workers rest: what a place
//! consists of goes first.

use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{PARALLEL_WRITES, delete_instance, is_not_found, standalone};
use crate::MANAGER;
use crate::ledger::VmKey;
use crate::lost;
use crate::machine;
use crate::objects::Start;
use crate::warning::{self, Warning};
use crate::world::node_of;

/// Workers that go on while a round writes.
const MEANWHILE: usize = 6;

/// A write that is not answered for so long is tried again: a server that lost power may
/// never answer, and its VM waits for nothing else.
const LIMIT: Duration = Duration::from_secs(60);

/// What is to be written for one VM.
pub(super) enum Write {
    /// Make its instance.
    Start(Box<Start>),
    /// This instance has ended with its node.
    Lose(Arc<VirtualMachineInstance>),
    /// Delete this very instance, of this version if one is given.
    Stop { uid: String, version: Option<String> },
    /// Have this VM run, as it was seen.
    SwitchOn(Arc<VirtualMachine>),
    /// The VM with a new status, and what to tell about it once it is written. Whole
    /// and guarded by the version that was read: a merge cannot clear what is left
    /// out, and must not undo a request that came in between.
    Status(Box<VirtualMachine>, Vec<Warning>),
    /// The VM with other finalizers, by this patch.
    Finalizers(Value),
}

/// What was written.
pub(super) enum Written {
    /// The instance was made.
    Started(Box<VirtualMachineInstance>),
    /// The instance is going.
    Stopping,
    /// The instance says that it has ended.
    Lost(Box<VirtualMachineInstance>),
    /// Its node is there, which the watch will tell.
    NodeLives,
    /// The VM says what it should.
    Told(Box<VirtualMachine>),
    /// The VM is gone and has nothing to say, or has other finalizers; its watch tells the rest.
    Gone,
}

/// How the write for a VM ended.
pub(super) struct Answer {
    pub(super) vm: VmKey,
    /// Writes that were tried.
    pub(super) writes: u64,
    pub(super) outcome: Result<Written, kube::Error>,
}

/// The workers and their queue. They end with it.
#[derive(Debug)]
pub(super) struct Late {
    queue: mpsc::UnboundedSender<(VmKey, Write)>,
    answers: mpsc::UnboundedReceiver<Answer>,
    round_writes: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Late {
    pub(super) fn new(client: &Client) -> Self {
        let (queue, jobs) = mpsc::unbounded_channel();
        let (answering, answers) = mpsc::unbounded_channel();
        let (round_writes, yielding) = watch::channel(false);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut workers = JoinSet::new();
        for number in 0..PARALLEL_WRITES {
            let rests = (number >= MEANWHILE).then(|| yielding.clone());
            workers.spawn(work(client.clone(), Arc::clone(&jobs), rests, answering.clone()));
        }
        Self { queue, answers, round_writes, workers }
    }

    /// Has this written for a VM for which nothing is under way.
    pub(super) fn hand_over(&self, vm: VmKey, write: Write) {
        self.queue.send((vm, write)).expect("workers wait for as long as there is a queue");
    }

    /// Has most workers rest until the answer is dropped: a round writes.
    pub(super) fn round_first(&self) -> RoundFirst {
        self.round_writes.send_replace(true);
        RoundFirst(self.round_writes.clone())
    }

    /// The next answer, when there is one.
    ///
    /// # Errors
    /// When a worker has ended by a defect: its VM would wait for an answer for good.
    pub(super) async fn answer(&mut self) -> anyhow::Result<Answer> {
        tokio::select! {
            Some(answer) = self.answers.recv() => Ok(answer),
            ended = self.workers.join_next() => anyhow::bail!("a writer ended: {ended:?}"),
        }
    }

    /// The next answer, if there is one.
    pub(super) fn try_answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// While it is there, most workers rest.
pub(super) struct RoundFirst(watch::Sender<bool>);

impl Drop for RoundFirst {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

async fn work(
    client: Client,
    jobs: Arc<Mutex<mpsc::UnboundedReceiver<(VmKey, Write)>>>,
    mut rests: Option<watch::Receiver<bool>>,
    answers: mpsc::UnboundedSender<Answer>,
) {
    loop {
        if let Some(rests) = &mut rests
            && rests.wait_for(|writes| !writes).await.is_err()
        {
            return;
        }
        let Some((vm, job)) = jobs.lock().await.recv().await else { return };
        let mut writes = 1;
        let written = timeout(LIMIT, write(&client, &vm, job, &mut writes)).await;
        let outcome = written.unwrap_or_else(|late| Err(kube::Error::Service(late.into())));
        if answers.send(Answer { vm, writes, outcome }).is_err() {
            return;
        }
    }
}

async fn write(
    client: &Client,
    vm: &VmKey,
    write: Write,
    writes: &mut u64,
) -> Result<Written, kube::Error> {
    let params = PostParams::default();
    let instances = || Api::namespaced(client.clone(), &vm.namespace);
    match write {
        Write::Start(start) => {
            let made = instances().create(&params, &start.instance()).await?;
            Ok(Written::Started(Box::new(made)))
        }
        Write::Lose(instance) => lose(client, &instance).await,
        Write::Stop { uid, version } => {
            delete_instance(&instances(), &vm.name, uid, version).await?;
            Ok(Written::Stopping)
        }
        Write::SwitchOn(machine) => {
            let api: Api<VirtualMachine> = Api::namespaced(client.clone(), &vm.namespace);
            let params =
                PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(machine::switched(&machine, true));
            match api.patch(&vm.name, &params, &patch).await {
                Err(error) if is_not_found(&error) => Ok(Written::Gone),
                outcome => Ok(Written::Told(Box::new(outcome?))),
            }
        }
        Write::Status(machine, news) => {
            let api: Api<VirtualMachine> = Api::namespaced(client.clone(), &vm.namespace);
            let written = match api.replace_status(&vm.name, &params, &machine).await {
                Err(error) if is_not_found(&error) => return Ok(Written::Gone),
                outcome => outcome?,
            };
            *writes += u64::try_from(news.len()).unwrap_or(u64::MAX);
            warning::publish(client, news).await;
            Ok(Written::Told(Box::new(written)))
        }
        Write::Finalizers(patch) => {
            let api: Api<VirtualMachine> = Api::namespaced(client.clone(), &vm.namespace);
            let patch = Patch::Merge(patch);
            // Of one that does not fit its type, too.
            match api.patch_metadata(&vm.name, &PatchParams::default(), &patch).await {
                Err(error) if !is_not_found(&error) => Err(error),
                _ => Ok(Written::Gone),
            }
        }
    }
}

/// Ends an instance in the place of its agent. Watches are late by different times, so
/// the API is asked once more whether the node is what it seems.
async fn lose(client: &Client, instance: &VirtualMachineInstance) -> Result<Written, kube::Error> {
    let node = node_of(instance).unwrap_or_default();
    let node = Api::<Node>::all(client.clone()).get_opt(node).await?;
    if node.is_some_and(|node| !lost::is_out_of_service(&node)) {
        return Ok(Written::NodeLives);
    }
    let ended = lost::ended(instance, Timestamp::now());
    let patch = Patch::Merge(standalone::patch(instance, &ended));
    let namespace = instance.namespace().unwrap_or_default();
    let api: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &namespace);
    match api.patch(&instance.name_any(), &PatchParams::default(), &patch).await {
        Err(error) if is_not_found(&error) => Ok(Written::Gone),
        outcome => Ok(Written::Lost(Box::new(outcome?))),
    }
}
