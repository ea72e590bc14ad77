//! What a round writes on IPAMClaims: our finalizer with the subnet, and the status.

use crds::cni::IpamClaim;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tracing::warn;

use super::{Rounds, is_not_found};
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
        for (key, patch) in claims::to_take(&self.world) {
            self.edge.metrics.api_writes.inc();
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            match self.claims_of(&key).patch_metadata(&key.name, &params, &patch).await {
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
        for key in decisions.iter().filter_map(|decision| decision.vm.claim()) {
            let params = PatchParams::default();
            let api = self.claims_of(&key);
            if let Some(patch) = claims::to_let_go(&self.world, &key) {
                self.edge.metrics.api_writes.inc();
                let outcome = api.patch_metadata(&key.name, &params, &Patch::Merge(patch)).await;
                // The watch tells that it is gone.
                if let Err(error) = outcome {
                    self.claim_failed(&key, &error);
                }
                continue;
            }
            if let Some(status) = claims::new_status(&self.world, &key, now) {
                let version = self.world.claims.objects.meta(&key);
                let version = version.and_then(|meta| meta.resource_version.clone());
                // For the version that was read: of two controllers one says what it has.
                let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
                self.edge.metrics.api_writes.inc();
                match api.patch_status(&key.name, &params, &Patch::Merge(patch)).await {
                    Ok(claim) => {
                        self.claim_answered(&key, None);
                        let marked = self.world.claims.put(claim);
                        marked.into_iter().for_each(|key| self.world.look_at(key));
                    }
                    Err(error) => self.claim_failed(&key, &error),
                }
            }
            for vm in self.world.claims.take_news(&key) {
                self.look_again(&vm, SignedDuration::ZERO);
            }
        }
    }

    fn claims_of(&self, key: &VmKey) -> Api<IpamClaim> {
        Api::namespaced(self.edge.client.clone(), &key.namespace)
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

/// What the API says against a write of ours, if the same write will meet with it again.
fn refusal(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let passes = matches!(status.code, 404 | 409 | 429);
    (!passes).then(|| format!("it cannot be written on: {}", status.message))
}
