//! What a round writes of moving guests: the state on their instances, and what their
//! migrations say. Each for the very version that was read.

use std::sync::Arc;

use crds::kubevirt::{
    MigrationPhase, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration,
};
use futures::StreamExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::standalone::{difference, patch};
use super::{PARALLEL_WRITES, Rounds, gone_is_fine, is_not_found};
use crate::decide::Decision;
use crate::ledger::VmKey;
use crate::migration;
use crate::warning::Warning;
use crate::world::vm_key;

impl Rounds {
    pub(super) async fn write_moves(&mut self, decisions: &mut [Decision]) {
        let (mut instances, mut moves) = (Vec::new(), Vec::new());
        let (mut outlived, mut created) = (Vec::new(), Vec::new());
        for decision in decisions {
            let evacuation = std::mem::take(&mut decision.evacuation);
            created.extend(evacuation.create.map(|one| (decision.vm.clone(), one)));
            outlived.extend(evacuation.cancel);
            let outcome = std::mem::take(&mut decision.moves);
            if outcome.ask && !self.is_as_seen(&decision.vm).await {
                continue;
            }
            if let Some(want) = outcome.instance
                && let Some(have) = self.world.instances.get(&decision.vm)
            {
                instances.push((decision.vm.clone(), patch(have, &want)));
            }
            outlived.extend(outcome.outlived);
            moves.extend(outcome.migrations.into_iter().map(|one| (decision.vm.clone(), one)));
        }
        self.write_states(instances).await;
        self.write_migrations(moves).await;
        self.delete_migrations(outlived).await;
        self.create_migrations(created).await;
    }

    /// Whether the API has the instance as it was seen. If not it is decided for again.
    async fn is_as_seen(&mut self, vm: &VmKey) -> bool {
        let api: Api<VirtualMachineInstance> =
            Api::namespaced(self.edge.client.clone(), &vm.namespace);
        let seen = self.world.instances.meta(vm);
        let seen = seen.map(|meta| (meta.uid.clone(), meta.resource_version.clone()));
        match api.get_opt(&vm.name).await {
            Ok(now) if now.as_ref().map(|one| (one.uid(), one.resource_version())) == seen => true,
            Ok(now) => {
                info!(%vm, "The instance is not as its watch has it yet");
                now.into_iter().for_each(|one| self.world.put_instance(one));
                self.fail(vm.clone());
                false
            }
            Err(error) => {
                warn!(%vm, %error, "Whether an instance still moves could not be asked");
                self.fail(vm.clone());
                false
            }
        }
    }

    async fn create_migrations(&mut self, wanted: Vec<(VmKey, Box<Migration>)>) {
        let client = &self.edge.client;
        let writes = wanted.into_iter().map(|(vm, want)| async move {
            let api: Api<Migration> = Api::namespaced(client.clone(), &vm.namespace);
            (api.create(&PostParams::default(), &want).await, vm)
        });
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        for (outcome, vm) in outcomes {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(made) => {
                    info!(%vm, migration = made.name_any(), "A guest is to leave its node");
                    self.world.put_migration(made);
                }
                // Its watch tells the rest.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    warn!(%vm, %error, "The migration of a guest off its node was not made");
                    self.fail(vm);
                }
            }
        }
    }

    /// Deletes these very objects. Whatever fails is tried again when something changes.
    async fn delete_migrations(&mut self, outlived: Vec<Arc<Migration>>) {
        for migration in outlived {
            let namespace = migration.namespace().unwrap_or_default();
            let api: Api<Migration> = Api::namespaced(self.edge.client.clone(), &namespace);
            let this = Preconditions { uid: migration.uid(), ..Preconditions::default() };
            let params = DeleteParams::default().preconditions(this);
            self.edge.metrics.api_writes.inc();
            if let Err(error) = gone_is_fine(api.delete(&migration.name_any(), &params).await) {
                warn!(migration = migration.name_any(), %error, "A migration that is over, or not wanted any more, was not deleted");
            }
        }
    }

    async fn write_states(&mut self, instances: Vec<(VmKey, Value)>) {
        let client = &self.edge.client;
        let writes = instances.into_iter().map(|(vm, patch)| async move {
            let api: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &vm.namespace);
            (api.patch(&vm.name, &PatchParams::default(), &Patch::Merge(patch)).await, vm)
        });
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        for (outcome, vm) in outcomes {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(written) => {
                    if let Some(state) = written.migration() {
                        let target = state.target_node.as_deref();
                        info!(%vm, target, calledoff = state.abort_requested, "A guest moves");
                    }
                    self.world.put_instance(written);
                }
                // Its watch tells the rest.
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    warn!(%vm, %error, "The move of a guest was not written; trying again");
                    self.fail(vm);
                }
            }
        }
    }

    async fn write_migrations(&mut self, moves: Vec<(VmKey, Migration)>) {
        let client = self.edge.client.clone();
        let writes = moves.into_iter().filter_map(|(vm, want)| {
            let have = self.world.migrations.get(&vm_key(&want))?;
            let write = Write::between(have, &want);
            let client = client.clone();
            Some(async move { (write.carry_out(&client).await, vm, want) })
        });
        let writes: Vec<_> = writes.collect();
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        let mut warnings = Vec::new();
        for (outcome, vm, want) in outcomes {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(written) => {
                    warnings.extend(failure(&written));
                    self.world.put_migration(written);
                }
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    let migration = want.name_any();
                    warn!(migration, %error, "A migration was not written; trying again");
                    self.fail(vm);
                }
            }
        }
        self.warn(warnings).await;
    }
}

/// What a migration that has just failed tells of it.
fn failure(written: &Migration) -> Option<Warning> {
    let status = written.status.as_ref()?;
    let failed = migration::phase(written) == MigrationPhase::Failed;
    let why = status.conditions.iter().find(|one| failed && one.r#type == "Failure")?;
    let (reason, message) = (why.reason.clone()?, why.message.clone()?);
    let is_held = !written.finalizers().is_empty();
    is_held.then(|| Warning { about: written.object_ref(&()), reason, message })
}

/// What is to be written on one migration: its finalizers first, so that none is known
/// to be ours that we do not hold.
struct Write {
    namespace: String,
    name: String,
    object: Option<Value>,
    status: Option<Value>,
    version: Option<String>,
}

impl Write {
    fn between(have: &Migration, want: &Migration) -> Self {
        let object = (have.finalizers() != want.finalizers()).then(|| {
            json!({ "metadata": {
                "uid": have.uid(), "resourceVersion": have.resource_version(),
                "finalizers": want.finalizers(),
            } })
        });
        Self {
            namespace: have.namespace().unwrap_or_default(),
            name: have.name_any(),
            object,
            status: difference(&json!(have.status), &json!(want.status)),
            version: have.resource_version(),
        }
    }

    async fn carry_out(self, client: &Client) -> Result<Migration, kube::Error> {
        let api: Api<Migration> = Api::namespaced(client.clone(), &self.namespace);
        let params = PatchParams::default();
        let mut version = self.version;
        let mut written = None;
        if let Some(object) = self.object {
            let answer = api.patch(&self.name, &params, &Patch::Merge(object)).await?;
            version = answer.resource_version();
            written = Some(answer);
        }
        match (self.status, written) {
            (None, Some(written)) => Ok(written),
            (None, None) => api.get(&self.name).await,
            (Some(status), _) => {
                let status =
                    json!({ "metadata": { "resourceVersion": version }, "status": status });
                api.patch_status(&self.name, &params, &Patch::Merge(status)).await
            }
        }
    }
}
