//! What the spec of an instance cannot be, in KubeVirt's words; pure.
//!
//! ```text
//!  admission: template of a VM, of a set; an instance ──► of_spec, of_instance ─┐
//!                                                                               ├─► causes
//!  the agent, before a guest starts ─────────────────────► of_guest, of_volumes ─┘
//! ```
//!
//! The rules and texts are those of `vmi-create-admitter.go`, `pkg/network/admitter` and
//! `pkg/storage/admitters`. A spec is judged by itself: what depends on other objects or on the
//! node is said by whoever knows these. What does not fit the types is the schema's to say, and
//! [`of_misfit`] says it in KubeVirt's words where there is no schema.
//!
//! | upstream refuses | here |
//! |---|---|
//! | a volume without a disk (instances only) | it gets a disk, as by upstream's mutating webhook |
//! | probes by network without the pod network | without any network: every port of a guest is reached on its tap |
//! | `bridge` on the pod network, where the cluster's configuration says so | never: it is how every port is served |
//! | `startStrategy: Paused` with a livenessProbe | never: a guest that stands still is not asked |
//! | a hostDisk without its feature gate | by the node's agent, which knows its directories |

mod disks;
mod hardware;
mod misfit;
mod names;
mod networks;
mod volumes;

use super::{DomainSpec, VirtualMachineInstanceSpec};
use crate::cause::Cause;

pub use disks::of_disk;
pub use misfit::of_misfit;
pub use volumes::of_volumes;

/// Said of a write to the spec of an instance by anybody but us (`vmi-update-admitter.go`).
pub const RESTRICTED: &str = "update of VMI object is restricted";

/// The most entries of a list (KubeVirt's `arrayLenMax`).
const MOST: usize = 256;

/// What of the spec at `path` cannot be; nothing where all can.
///
/// That no memory is asked for is said of instances only ([`of_instance`]), as upstream: a
/// template may leave it to what is not there yet.
#[must_use]
pub fn of_spec(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let lists = [
        ("networks", spec.networks.len()),
        ("volumes", spec.volumes.len()),
        ("domain.devices.disks", spec.domain.devices.disks.len()),
        ("domain.devices.interfaces", spec.domain.devices.interfaces.len()),
        ("domain.devices.inputs", spec.domain.devices.inputs.len()),
    ];
    let too_many = |(list, entries): (&str, usize)| {
        let field = format!("{path}.{list}");
        let text = format!("{field} list exceeds the {MOST} element limit in length");
        (entries > MOST).then(|| Cause::invalid(field, text))
    };
    let long: Vec<_> = lists.into_iter().filter_map(too_many).collect();
    // Nothing else is said of what is that long: it would take as long.
    if !long.is_empty() {
        return long;
    }
    [
        names::check(spec, path),
        hardware::check(spec, path),
        networks::check(spec, path),
        disks::check(spec, path),
        probes(spec, path),
        of_volumes(&spec.volumes, &format!("{path}.volumes")),
    ]
    .concat()
}

/// The same of the spec of an instance, which is complete.
#[must_use]
pub fn of_instance(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let none = no_memory(&spec.domain, path);
    [of_spec(spec, path), none.into_iter().collect()].concat()
}

/// Of these what no guest can be made of, whatever was let in: the agent asks. A network that is
/// written as no other would write it is served all the same.
#[must_use]
pub fn of_guest(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    [
        no_memory(&spec.domain, path).into_iter().collect(),
        names::start(spec, path),
        hardware::check(spec, path),
        networks::adapters(spec, path),
        disks::check(spec, path),
        probes(spec, path),
    ]
    .concat()
}

/// That nothing says how much memory the guest gets.
#[must_use]
pub fn no_memory(domain: &DomainSpec, path: &str) -> Option<Cause> {
    let [guest, pages, request] =
        ["memory.guest", "memory.hugepages.size", "resources.requests.memory"]
            .map(|field| format!("{path}.domain.{field}"));
    let text = format!(
        "no memory requested, at least one of '{guest}', '{pages}' or '{request}' must be set"
    );
    domain.guest_memory().is_none().then(|| Cause::required(guest, text))
}

fn probes(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    let devices = &spec.domain.devices;
    let declined = devices.autoattach_pod_interface == Some(false);
    let unreachable = spec.networks.is_empty() && (declined || !devices.interfaces.is_empty());
    for (field, probe) in spec.probes() {
        let field = format!("{path}.{field}");
        found.extend(probe.flaw(&field).map(|flaw| Cause::invalid(&field, flaw)));
        let by_network =
            [("httpGet", probe.http_get.is_some()), ("tcpSocket", probe.tcp_socket.is_some())];
        for (kind, _) in by_network.into_iter().filter(|(_, is_set)| *is_set && unreachable) {
            let field = format!("{field}.{kind}");
            let text = format!("{field} is only allowed if the Pod Network is attached");
            found.push(Cause::invalid(field, text));
        }
    }
    found
}

#[cfg(test)]
mod tests;
