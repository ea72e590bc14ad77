//! What a spec asks of nodes, and cannot or does not get.

use crds::kubevirt::VirtualMachineInstanceSpec;

use super::Findings;
use crate::placement::{Labels, Wish};

/// What nobody here goes by, though a pod's would count.
const WITHOUT_EFFECT: [&str; 2] = ["priorityClassName", "schedulerName"];

/// Adds what is wrong with a spec that is found at `path`.
pub(super) fn judge(found: &mut Findings, path: &str, spec: &VirtualMachineInstanceSpec) {
    if let Err(why) = Wish::of("", Labels::new(), spec) {
        found.refusal.get_or_insert_with(|| format!("{path}{why}"));
    }
    let set = |field: &&str| {
        spec.rest.get(*field).and_then(|value| value.as_str()).is_some_and(|text| !text.is_empty())
    };
    let told = WITHOUT_EFFECT.into_iter().filter(set);
    found.waits.extend(told.map(|field| format!("{path}spec.{field} is kept but has no effect")));
}
