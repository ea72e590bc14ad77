//! Which VMs are to run: what their run strategies make of what there is.

use crds::kubevirt::{
    InstancePhase, RunStrategy, StateChangeAction, VirtualMachine, VirtualMachineInstance,
};

/// An instance as this run of the lab sees it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    /// There is none.
    Nothing,
    /// Its status says `Running`, which was so in an earlier run only.
    Earlier,
    /// Its status is of now.
    Now(&'a VirtualMachineInstance),
}

impl<'a> Seen<'a> {
    /// What its status says, if that is of now.
    pub(super) fn now(self) -> Option<&'a VirtualMachineInstance> {
        match self {
            Self::Now(instance) => Some(instance),
            Self::Nothing | Self::Earlier => None,
        }
    }

    fn phase(self) -> Option<InstancePhase> {
        self.now().map(VirtualMachineInstance::phase)
    }
}

/// Whether the VM runs, or will without anybody's doing: the controller's table
/// (`controller::machine`), read for somebody who waits for the VM.
pub(super) fn is_to_run(vm: &VirtualMachine, instance: Seen<'_>) -> bool {
    if vm.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let status = vm.status.as_ref();
    let requested = status
        .and_then(|status| status.state_change_requests.first())
        .is_some_and(|request| request.action == StateChangeAction::Start);
    let lives = instance.phase().is_some_and(|phase| !phase.is_final());
    match vm.spec.strategy().unwrap_or(RunStrategy::Halted) {
        RunStrategy::Always => true,
        RunStrategy::Halted | RunStrategy::WaitAsReceiver => false,
        RunStrategy::Manual => lives || requested,
        RunStrategy::Once => lives || matches!(instance, Seen::Nothing),
        RunStrategy::RerunOnFailure => match instance {
            // The strategy is new to the controller, or it restarts after a failure.
            Seen::Nothing => {
                requested
                    || status.and_then(|status| status.run_strategy)
                        != Some(RunStrategy::RerunOnFailure)
            }
            // A guest that went with its lab has failed.
            Seen::Earlier => true,
            Seen::Now(instance) => instance.phase() != InstancePhase::Succeeded,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(strategy: &str, status: serde_json::Value) -> VirtualMachine {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": { "name": "vm" },
            "spec": { "runStrategy": strategy, "template": { "spec": { "domain": { "devices": {} } } } },
            "status": status,
        }))
        .unwrap()
    }

    fn instance(phase: InstancePhase) -> VirtualMachineInstance {
        let mut instance = VirtualMachineInstance::default();
        instance.status.get_or_insert_default().phase = Some(phase);
        instance
    }

    #[test]
    fn a_vm_is_to_run_when_its_strategy_brings_it_up_by_itself() {
        let [scheduled, failed, succeeded] =
            [InstancePhase::Scheduled, InstancePhase::Failed, InstancePhase::Succeeded]
                .map(instance);
        let all = [
            Seen::Nothing,
            Seen::Earlier,
            Seen::Now(&scheduled),
            Seen::Now(&failed),
            Seen::Now(&succeeded),
        ];
        let seen = |strategy| {
            let vm = vm(strategy, serde_json::json!({ "runStrategy": strategy }));
            all.map(|instance| is_to_run(&vm, instance))
        };
        assert_eq!(seen("Always"), [true; 5]);
        assert_eq!(seen("Halted"), [false; 5]);
        assert_eq!(seen("Manual"), [false, false, true, false, false]);
        assert_eq!(seen("Once"), [true, false, true, false, false]);
        assert_eq!(seen("RerunOnFailure"), [false, true, true, true, false]);
    }

    #[test]
    fn a_start_that_was_asked_for_counts_and_so_does_a_strategy_that_is_new() {
        let asked = serde_json::json!({
            "runStrategy": "RerunOnFailure", "stateChangeRequests": [{ "action": "Start" }],
        });
        assert!(is_to_run(&vm("Manual", asked.clone()), Seen::Nothing));
        assert!(is_to_run(&vm("RerunOnFailure", asked), Seen::Nothing));
        assert!(is_to_run(&vm("RerunOnFailure", serde_json::json!({})), Seen::Nothing));
    }
}
