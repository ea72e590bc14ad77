//! What a spec asks of nodes, and cannot or does not get.

use crds::kubevirt::{VirtualMachineInstanceSpec, ignored};

use super::Findings;
use crate::placement::{Labels, Wish};

/// So many fields without effect are told in full.
const TOLD: usize = 10;

/// Adds what is wrong with a spec that is found at `path`.
pub(super) fn judge(found: &mut Findings, path: &str, spec: &VirtualMachineInstanceSpec) {
    if let Err(why) = Wish::of("", Labels::new(), spec) {
        found.refusal.get_or_insert_with(|| format!("{path}{why}"));
    }
    let unheard = ignored(spec, &format!("{path}spec"));
    let told = unheard.iter().take(TOLD).map(|field| format!("{field} is kept but has no effect"));
    found.waits.extend(told);
    if let Some(more) = unheard.len().checked_sub(TOLD).filter(|more| *more > 0) {
        found.waits.push(format!("and {more} more fields have no effect"));
    }
}
