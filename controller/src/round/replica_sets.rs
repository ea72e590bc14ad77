//! What a round does for replica sets: instances are made and ended, taken in and let go, and
//! each set says how many it has. One write for each, for the very object that was seen.

use std::sync::Arc;

use crds::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceReplicaSet as ReplicaSet};
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::standalone::difference;
use super::{PARALLEL_WRITES, Rounds, is_not_found};
use crate::decide::Decision;
use crate::hold;
use crate::ledger::VmKey;
use crate::machine::Trouble;
use crate::replica_sets::{self, FAILED_CREATE, FAILED_DELETE, Plan};
use crate::warning::Warning;
use crate::world::vm_key;

/// One thing to be written.
enum Write {
    Create(Box<VirtualMachineInstance>),
    Delete(Arc<VirtualMachineInstance>),
    Patch(Arc<VirtualMachineInstance>, Value),
}

/// What came of it.
enum Written {
    /// There is an instance, or it is another one.
    Put(Box<VirtualMachineInstance>),
    /// This one is gone.
    Gone(Arc<VirtualMachineInstance>),
    /// Its watch tells the rest.
    Unknown,
}

impl Rounds {
    pub(super) async fn write_sets(&mut self, decisions: &mut [Decision], now: Timestamp) {
        for decision in decisions {
            let Some(plan) = decision.set.take() else { continue };
            if let Some(key) = decision.vm.set() {
                self.write_set(&decision.vm, &key, plan, now).await;
            }
        }
    }

    async fn write_set(&mut self, holder: &VmKey, key: &VmKey, mut plan: Plan, now: Timestamp) {
        let Some(set) = self.world.replica_sets.get(key).map(Arc::clone) else { return };
        let trouble = plan.trouble.take();
        let failed = self.carry_out(key, &set, plan).await;
        if failed.is_some() {
            self.fail(holder.clone());
        }
        let trouble = trouble.or(failed);
        let members: Vec<_> = self.world.members_of(key).map(Arc::clone).collect();
        let status = replica_sets::status(&set, &members, trouble.as_ref(), now);
        let Some(news) = difference(&json!(set.status), &json!(status)) else { return };
        let is_new = trouble.filter(|trouble| {
            let told = set.status.iter().flat_map(|status| &status.conditions);
            told.into_iter().all(|one| one.message.as_ref() != Some(&trouble.message))
        });
        let api: Api<ReplicaSet> = Api::namespaced(self.edge.client.clone(), &key.namespace);
        let patch = json!({ "metadata": { "uid": set.uid() }, "status": news });
        self.edge.metrics.api_writes.inc();
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written) => self.world.put_set(written),
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                warn!(set = %key, %error, "How many a replica set has was not written");
                self.fail(holder.clone());
            }
        }
        let told = is_new.map(|trouble| Warning {
            about: set.object_ref(&()),
            reason: trouble.reason.to_owned(),
            message: trouble.message,
        });
        self.warn(told.into_iter().collect()).await;
    }

    /// The first that went wrong, if anything did.
    async fn carry_out(&mut self, key: &VmKey, set: &ReplicaSet, plan: Plan) -> Option<Trouble> {
        let Plan { create, made_of, delete, adopt, release, .. } = plan;
        let made = made_of.into_iter().flat_map(|one| std::iter::repeat_n(one, create));
        let taken = adopt.into_iter().filter_map(|one| {
            let owner = json!(replica_sets::owner(set)?);
            let owners = one.owner_references().iter().map(|one| json!(one)).chain([owner]);
            let owners = owners.collect::<Vec<_>>();
            Some(Write::Patch(one, json!(owners)))
        });
        let let_go = release.into_iter().map(|one| {
            let others = one.owner_references().iter();
            let others = others.filter(|owner| Some(&owner.uid) != set.metadata.uid.as_ref());
            let others = json!(others.collect::<Vec<_>>());
            Write::Patch(one, others)
        });
        let (client, namespace) = (&self.edge.client, key.namespace.as_str());
        let writes: Vec<_> = taken
            .chain(let_go)
            .chain(delete.into_iter().map(Write::Delete))
            .chain(made.map(Write::Create))
            .collect();
        let writes = writes.into_iter().map(|write| carry_out(client, namespace, write));
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        let mut trouble = None;
        for outcome in outcomes {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(Written::Put(instance)) => {
                    info!(set = %key, instance = instance.name_any(), "A replica set has one more, or one less");
                    self.world.put_instance(*instance);
                }
                Ok(Written::Gone(one)) => {
                    self.world.remove_instance(&vm_key(&*one), one.metadata.uid.as_ref());
                }
                Ok(Written::Unknown) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble
    }
}

async fn carry_out(client: &Client, namespace: &str, write: Write) -> Result<Written, Trouble> {
    let api: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), namespace);
    let trouble = |reason, message: String| Trouble { reason, message };
    match write {
        Write::Create(one) => {
            let made = api.create(&PostParams::default(), &one).await;
            let made = made.map_err(|error| {
                let said = format!("Error creating virtual machine instance: {error}");
                trouble(FAILED_CREATE, said)
            })?;
            Ok(Written::Put(Box::new(made)))
        }
        Write::Delete(one) => {
            let name = one.name_any();
            let this = Preconditions { uid: one.uid(), ..Preconditions::default() };
            let params = DeleteParams::default().preconditions(this);
            match api.delete(&name, &params).await.map(|answer| answer.left()) {
                Ok(Some(going)) if hold::is_leaving(&going.metadata) => {
                    Ok(Written::Put(Box::new(going)))
                }
                Ok(_) => Ok(Written::Gone(one)),
                Err(error) if is_not_found(&error) => Ok(Written::Gone(one)),
                Err(error) => {
                    let said = format!("Error deleting virtual machine instance {name}: {error}");
                    Err(trouble(FAILED_DELETE, said))
                }
            }
        }
        Write::Patch(one, owners) => {
            let patch = json!({ "metadata": {
                "uid": one.uid(), "resourceVersion": one.resource_version(),
                "ownerReferences": owners,
            } });
            let name = one.name_any();
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(written) => Ok(Written::Put(Box::new(written))),
                // Of another version its watch tells, and it is decided anew.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    Ok(Written::Unknown)
                }
                Err(error) => {
                    let said = format!("Error adopting virtual machine instance {name}: {error}");
                    Err(trouble(FAILED_CREATE, said))
                }
            }
        }
    }
}
