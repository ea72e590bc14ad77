//! What a round writes on IPAMClaims: our finalizer with the subnet, and the status.

use crds::cni::IpamClaim;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::warn;

use super::{PARALLEL_WRITES, Rounds, is_not_found};
use crate::claims;
use crate::decide::Decision;
use crate::ledger::VmKey;

impl Rounds {
    /// Takes hold of the claims that VMs have asked for, before any address is claimed for
    /// them. They are decided in the next round.
    pub(super) async fn take_claims(&mut self) {
        let asked = self.world.claims.take_asked();
        if asked.is_empty() {
            return;
        }
        let mut failed = Vec::new();
        let patches = claims::to_take(&self.world);
        for (key, outcome) in self.patch_claims(patches, Place::Object).await {
            match outcome {
                Ok(claim) => {
                    self.claim_answered(&key, None);
                    let marked = self.world.claims.put_meta(&key, claim.metadata);
                    marked.into_iter().for_each(|key| self.world.look_at(key));
                }
                Err(error) => {
                    self.claim_failed(&key, &error);
                    failed.push(key);
                }
            }
        }
        for key in asked.into_iter().filter(|key| !failed.contains(key)) {
            self.look_again(&VmKey::of_claim(&key), SignedDuration::ZERO);
        }
        failed.into_iter().for_each(|key| self.world.claims.ask(key));
    }

    /// Writes the statuses of the claims that were decided, and lets those go that are
    /// being deleted and hold nothing. To be called once the ledger is written.
    pub(super) async fn write_claims(&mut self, decisions: &[Decision], now: Timestamp) {
        let decided: Vec<_> = decisions.iter().filter_map(|one| one.vm.claim()).collect();
        let (mut over, mut told) = (Vec::new(), Vec::new());
        for key in &decided {
            if let Some(patch) = claims::to_let_go(&self.world, key) {
                over.push((key.clone(), patch));
            } else if let Some(status) = claims::new_status(&self.world, key, now) {
                let version = self.world.claims.objects.meta(key);
                let version = version.and_then(|meta| meta.resource_version.clone());
                // For the version that was read: of two controllers one says what it has.
                let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
                told.push((key.clone(), patch));
            }
        }
        for (key, outcome) in self.patch_claims(over, Place::Object).await {
            // The watch tells that it is gone.
            if let Err(error) = outcome {
                self.claim_failed(&key, &error);
            }
        }
        for (key, outcome) in self.patch_claims(told, Place::Status).await {
            match outcome {
                Ok(claim) => {
                    self.claim_answered(&key, None);
                    let marked = self.world.claims.put(claim);
                    marked.into_iter().for_each(|key| self.world.look_at(key));
                }
                Err(error) => self.claim_failed(&key, &error),
            }
        }
        for key in &decided {
            for vm in self.world.claims.take_news(key) {
                self.look_again(&vm, SignedDuration::ZERO);
            }
        }
    }

    /// Patches these claims, all at once as far as writes go at once.
    async fn patch_claims(
        &self,
        patches: Vec<(VmKey, Value)>,
        place: Place,
    ) -> Vec<(VmKey, Result<IpamClaim, kube::Error>)> {
        let writes = patches.into_iter().map(|(key, patch)| async move {
            let client = self.edge.client.clone();
            let api: Api<IpamClaim> = Api::namespaced(client, &key.namespace);
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            self.edge.metrics.api_writes.inc();
            let outcome = match place {
                Place::Object => api.patch(&key.name, &params, &patch).await,
                Place::Status => api.patch_status(&key.name, &params, &patch).await,
            };
            (key, outcome)
        });
        futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await
    }

    fn claim_failed(&mut self, key: &VmKey, error: &kube::Error) {
        if !is_not_found(error) {
            warn!(claim = %key, %error, "An IPAMClaim was not written; trying again");
            self.fail(VmKey::of_claim(key));
        }
        if let Some(refusal) = refusal(error) {
            self.claim_answered(key, Some(refusal));
        }
    }

    /// Has the VMs that wait for this claim say what the API said of it, if that is news.
    fn claim_answered(&mut self, key: &VmKey, error: Option<String>) {
        for vm in self.world.claims.answered(key, error) {
            self.look_again(&vm, SignedDuration::ZERO);
        }
    }
}

/// What of a claim a patch is for.
#[derive(Clone, Copy, Debug)]
enum Place {
    Object,
    Status,
}

/// What the API says against a write of ours, if the same write will meet with it again.
fn refusal(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let passes = matches!(status.code, 404 | 409 | 429);
    (!passes).then(|| format!("it cannot be written on: {}", status.message))
}
