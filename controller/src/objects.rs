//! The objects that the controller writes for a VM: its IP objects and its
//! instance. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations;
use crds::kubeovn::{FINALIZER, Ip, IpSpec};
use crds::kubevirt::{
    Condition, ConditionStatus, DEFAULT_GRACE_PERIOD_SECONDS, Firmware, INSTANCE_FINALIZER,
    InstancePhase, Interface, NODE_NAME_LABEL, Opaque, PhaseTransition, START_PAUSED,
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec,
    VirtualMachineInstanceStatus, VolumeStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource as _, ResourceExt as _};
use net::{MacAddr, listed};
use uuid::Uuid;

use crate::agenda::Booking;
use crate::decide::has_owner;
use crate::dhcp;
use crate::hold;
use crate::leave;
use crate::live;
use crate::network::Network;
use crate::request::{Lender, Request, networks_of};
use crate::rows::Port;

/// The namespace of the UUIDs that KubeVirt derives from names.
const LEGACY_FIRMWARE: Uuid = Uuid::from_u128(0x6a1a_24a1_4061_4607_8bf4_a396_3d0c_5895);

/// The IP object of `port`.
#[must_use]
pub fn ip(port: &Port) -> Ip {
    let of_family = |v4: bool| {
        let address = port.addresses.iter().find(|address| address.is_ipv4() == v4);
        address.map(IpAddr::to_string).unwrap_or_default()
    };
    let node = port.node.clone().unwrap_or_default();
    let spec = IpSpec {
        // As Kube-OVN: a node by its own name.
        pod_name: port.vm.node().unwrap_or(&port.vm.name).to_owned(),
        namespace: port.vm.namespace.clone(),
        subnet: port.subnet.clone(),
        node_name: node.clone(),
        ip_address: listed::text(&port.addresses),
        v4_ip_address: of_family(true),
        v6_ip_address: of_family(false),
        mac_address: port.mac.to_string(),
        pod_type: if port.vm.node().is_some() { "" } else { "VirtualMachine" }.to_owned(),
        ..IpSpec::default()
    };
    let mut ip = Ip::new(&port.name, spec);
    ip.labels_mut().insert(annotations::SUBNET_LABEL.to_owned(), port.subnet.clone());
    if !node.is_empty() {
        ip.labels_mut().insert(annotations::NODE_NAME_LABEL.to_owned(), node);
    }
    let notes = ip.annotations_mut();
    notes.insert(annotations::OWNER_UID.to_owned(), port.uid.clone());
    notes.insert(annotations::OWNER_MAC.to_owned(), port.mac.to_string());
    let network = port.network.iter().map(|one| (annotations::NETWORK.to_owned(), one.clone()));
    notes.extend(network);
    ip.finalizers_mut().push(FINALIZER.to_owned());
    ip
}

/// The MAC that an IP object says, however it is written: of one that was written for a VM
/// what was written, whatever its field says now.
#[must_use]
pub fn mac_of(ip: &Ip) -> Option<MacAddr> {
    let notes = ip.annotations();
    let written = notes.get(annotations::OWNER_MAC).filter(|_| has_owner(ip));
    let written = written.and_then(|text| text.parse().ok());
    written.or_else(|| ip.spec.mac_address.trim().parse().ok())
}

/// Whether `have` says all that `want` says. A VM that stops keeps the node it
/// was last on, so no node wanted is no difference. What is being deleted takes no
/// finalizer any more.
#[must_use]
pub fn ip_is_current(have: &Ip, want: &Ip) -> bool {
    let mut spec = want.spec.clone();
    if spec.node_name.is_empty() {
        spec.node_name.clone_from(&have.spec.node_name);
    }
    let says = |ip: &Ip, key| ip.annotations().get(key).cloned();
    let same = |key| says(have, key) == says(want, key);
    have.spec == spec
        && same(annotations::OWNER_UID)
        && same(annotations::OWNER_MAC)
        && (same(annotations::NETWORK) || says(want, annotations::NETWORK).is_none())
        && (same(annotations::DELETION_BLOCKED)
            || says(want, annotations::DELETION_BLOCKED).is_none())
        && (hold::is_held(&have.metadata) || hold::is_leaving(&have.metadata))
}

/// What an instance of `vm` is made of: the template, with what it leaves open.
#[must_use]
pub fn instance_spec(vm: &VirtualMachine) -> VirtualMachineInstanceSpec {
    completed(vm.spec.template.spec.clone(), firmware_uuid(vm))
}

/// The UUID that the hardware of a VM has where its template says none, at each start: guests
/// know themselves by it, and cloud-init, which runs once for each. It is the VM's own. One that
/// KubeVirt has looked after has that which KubeVirt gave it (`firmware.go`, `CalculateLegacyUUID`),
/// which follows from its name alone.
fn firmware_uuid(vm: &VirtualMachine) -> Option<String> {
    if !vm.annotations().contains_key(annotations::OBSERVED_BY_KUBEVIRT) {
        return vm.uid();
    }
    Some(Uuid::new_v5(&LEGACY_FIRMWARE, vm.name_any().as_bytes()).to_string())
}

/// This spec with what it leaves open, for a guest whose hardware has this UUID.
fn completed(
    mut spec: VirtualMachineInstanceSpec,
    uid: Option<String>,
) -> VirtualMachineInstanceSpec {
    spec.termination_grace_period_seconds =
        spec.termination_grace_period_seconds.or(Some(DEFAULT_GRACE_PERIOD_SECONDS));
    let networks = networks_of(&spec);
    if spec.networks.is_empty() && !networks.is_empty() {
        spec.networks = networks;
        spec.domain.devices.interfaces.push(Interface {
            name: "default".to_owned(),
            bridge: Some(Opaque::default()),
            ..Interface::default()
        });
    }
    live::complete(&mut spec.domain);
    let firmware = spec.domain.firmware.get_or_insert_with(Firmware::default);
    if firmware.uuid.is_none() {
        firmware.uuid = uid;
    }
    spec
}

/// Whether `instance` is what the template of `vm` would make today, as far as its
/// spec and its place in the network go, and but for what changes while it runs.
#[must_use]
pub fn is_made_of(instance: &VirtualMachineInstance, vm: &VirtualMachine) -> bool {
    live::is_met(instance, vm) && has_asked_place(instance, vm)
}

/// Whether `instance` is on the subnets and has the addresses that the template's
/// annotations name. What they leave open the instance may have as it is. What a port
/// is let do beyond that it may do only if it was said.
fn has_asked_place(instance: &VirtualMachineInstance, vm: &VirtualMachine) -> bool {
    let template = vm.spec.template.metadata.as_ref();
    let asked = template.and_then(|meta| meta.annotations.as_ref());
    let has_leave = |key: &&String| {
        key.rsplit_once('/').is_some_and(|(_, field)| {
            leave::FIELDS.contains(&field)
                || dhcp::FIELDS.contains(&field)
                || field == annotations::VIP
        })
    };
    let said = |key: &String| asked.and_then(|asked| asked.get(key)).map(|text| text.trim());
    let noted = |key: &String| instance.annotations().get(key).map(|text| text.trim());
    let keys = asked.into_iter().flatten().map(|(key, _)| key);
    let keys = keys.chain(instance.annotations().keys()).filter(has_leave);
    let same_leave = keys.into_iter().all(|key| said(key) == noted(key));
    let list = annotations::MULTUS_NETWORKS.to_owned();
    same_leave
        && said(&list) == noted(&list)
        && asked.into_iter().flatten().all(|(key, asked)| {
            // An annotation of no network of this instance has no effect.
            let Some(given) = instance.annotations().get(key) else { return true };
            match key.rsplit_once('/').map(|(_, field)| field) {
                Some(annotations::IP_ADDRESS) => addresses(asked).is_subset(&addresses(given)),
                Some(
                    annotations::LOGICAL_SWITCH | annotations::IP_POOL | annotations::IP_FAMILY,
                ) => asked.trim() == given.trim(),
                Some(annotations::MAC_ADDRESS) => {
                    asked.trim().parse::<MacAddr>().ok() == given.trim().parse().ok()
                }
                _ => true,
            }
        })
}

/// The addresses in a list with commas; what is not one is none.
fn addresses(text: &str) -> BTreeSet<Option<IpAddr>> {
    text.split(',').map(|part| part.trim().parse().ok()).collect()
}

/// One start of a VM on a node, with its place in the network. The instance is made of
/// it when it is written: of thousands that wait for that, none takes the room of one.
#[derive(Clone, Debug)]
pub struct Start {
    vm: Arc<VirtualMachine>,
    metadata: ObjectMeta,
    /// Where, and what it takes there.
    pub booking: Booking,
    /// What of its disks lies on claims.
    volumes: Vec<VolumeStatus>,
    /// Its guest is to wait to be resumed, whatever its template says.
    paused: bool,
    at: Timestamp,
}

impl Start {
    /// A start of `vm` there, with its place written on it.
    #[must_use]
    pub fn new(
        vm: &Arc<VirtualMachine>,
        booking: Booking,
        places: &[(Request, Port, &Network)],
        volumes: Vec<VolumeStatus>,
        at: Timestamp,
    ) -> Self {
        let metadata = metadata(vm, &booking.node, places);
        Self { vm: Arc::clone(vm), metadata, booking, volumes, paused: false, at }
    }

    /// The same with a guest that waits to be resumed, if that was asked for.
    #[must_use]
    pub const fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// The instance to make.
    #[must_use]
    pub fn instance(&self) -> VirtualMachineInstance {
        let mut spec = instance_spec(&self.vm);
        if self.paused {
            spec.start_strategy = Some(START_PAUSED.to_owned());
        }
        let mut instance = VirtualMachineInstance::new(&self.vm.name_any(), spec);
        instance.metadata = self.metadata.clone();
        let status = scheduled(&instance.spec, &self.booking.node, self.volumes.clone(), self.at);
        instance.status = Some(status);
        instance
    }
}

/// `instance`, which has no VM, on `node` with its place in the network written on it.
/// The owner of the place is the instance itself.
#[must_use]
pub fn placed(
    instance: &VirtualMachineInstance,
    node: &str,
    places: &[(Request, Port, &Network)],
    volumes: Vec<VolumeStatus>,
    now: Timestamp,
) -> VirtualMachineInstance {
    let mut placed = instance.clone();
    placed.spec = completed(placed.spec, instance.uid());
    placed.labels_mut().insert(NODE_NAME_LABEL.to_owned(), node.to_owned());
    let notes = placed.annotations_mut();
    notes.retain(|key, _| !is_ours(key));
    for (request, port, network) in places {
        notes.extend(place_annotations(request, port, network));
    }
    notes.extend(instance.uid().map(|uid| (annotations::OWNER_UID.to_owned(), uid)));
    if !placed.finalizers().iter().any(|one| one == INSTANCE_FINALIZER) {
        placed.finalizers_mut().push(INSTANCE_FINALIZER.to_owned());
    }
    placed.status = Some(scheduled(&placed.spec, node, volumes, now));
    placed
}

/// The status of an instance of this spec that has its node and place. It went through the
/// phases before that while nobody could see: programs measure from one to the next.
fn scheduled(
    spec: &VirtualMachineInstanceSpec,
    node: &str,
    volumes: Vec<VolumeStatus>,
    now: Timestamp,
) -> VirtualMachineInstanceStatus {
    let passed = [InstancePhase::Pending, InstancePhase::Scheduling, InstancePhase::Scheduled];
    let passed =
        passed.map(|phase| PhaseTransition { phase, phase_transition_timestamp: Time(now) });
    let mut conditions = Vec::new();
    // None is placed before they are.
    if spec.volumes.iter().any(|volume| volume.data_volume.is_some()) {
        Condition::new("DataVolumesReady", ConditionStatus::True)
            .because("AllDVsReady", "All of the VMI's DVs are bound and not running")
            .merge_into(&mut conditions, Time(now));
    }
    VirtualMachineInstanceStatus {
        phase: Some(InstancePhase::Scheduled),
        node_name: Some(node.to_owned()),
        volume_status: volumes,
        phase_transition_timestamps: passed.into(),
        conditions,
        ..VirtualMachineInstanceStatus::default()
    }
}

fn metadata(vm: &VirtualMachine, node: &str, places: &[(Request, Port, &Network)]) -> ObjectMeta {
    let template = vm.spec.template.metadata.as_ref();
    let mut labels = template.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(annotations::VMI_VM_LABEL.to_owned(), vm.name_any());
    labels.insert(NODE_NAME_LABEL.to_owned(), node.to_owned());
    let mut notes = template.and_then(|meta| meta.annotations.clone()).unwrap_or_default();
    notes.retain(|key, _| !is_ours(key));
    for (request, port, network) in places {
        notes.extend(place_annotations(request, port, network));
    }
    let generation = vm.metadata.generation;
    notes.extend(generation.map(|one| (annotations::VM_GENERATION.to_owned(), one.to_string())));
    // Whose place it has, also when it is orphaned and has forgotten its VM.
    notes.extend(vm.uid().map(|uid| (annotations::OWNER_UID.to_owned(), uid)));
    ObjectMeta {
        name: Some(vm.name_any()),
        namespace: vm.namespace(),
        labels: Some(labels),
        annotations: Some(notes),
        finalizers: Some(vec![INSTANCE_FINALIZER.to_owned()]),
        owner_references: vm.controller_owner_ref(&()).map(|mut owner| {
            owner.block_owner_deletion = Some(true);
            vec![owner]
        }),
        ..ObjectMeta::default()
    }
}

/// Whether only we may say this, of which network an instance was given a place.
fn is_ours(key: &str) -> bool {
    let ours = [annotations::ALLOCATED, annotations::IPAM_CLAIM];
    key.rsplit_once('/').is_some_and(|(_, field)| ours.contains(&field))
}

/// What Kube-OVN writes on a launcher pod, said of one network of a VM.
fn place_annotations(
    request: &Request,
    port: &Port,
    network: &Network,
) -> BTreeMap<String, String> {
    let key = |field| annotations::key(&request.provider, field);
    // The guest is told of the families that it has an address of.
    let has = |v4: bool| port.addresses.iter().any(|one| one.is_ipv4() == v4);
    let cidrs: Vec<_> = network.cidrs.iter().filter(|cidr| has(cidr.is_ipv4())).collect();
    let gateways: Vec<_> = network.gateways().filter(|one| has(one.is_ipv4())).collect();
    let claim = match &request.lender {
        Some(Lender::Claim(name)) => Some((key(annotations::IPAM_CLAIM), name.clone())),
        Some(Lender::Vip(_)) | None => None,
    };
    let notes = [
        (key(annotations::ALLOCATED), "true".to_owned()),
        (key(annotations::LOGICAL_SWITCH), network.name.clone()),
        (key(annotations::IP_ADDRESS), listed::text(&port.addresses)),
        (key(annotations::MAC_ADDRESS), port.mac.to_string()),
        (key(annotations::CIDR), listed::text(&cidrs)),
        (key(annotations::GATEWAY), listed::text(&gateways)),
    ];
    notes.into_iter().chain(claim).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vm(notes: &Value, spec: &Value) -> VirtualMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 4,
                "annotations": notes},
            "spec": {"runStrategy": "Always", "template": {"spec": spec}},
        }))
        .unwrap()
    }

    fn uuid(notes: &Value, firmware: &Value) -> String {
        let vm = vm(notes, &json!({"domain": {"devices": {}, "firmware": firmware}}));
        instance_spec(&vm).domain.firmware.unwrap().uuid.unwrap()
    }

    #[test]
    fn a_vm_of_kubevirts_keeps_the_uuid_that_its_guest_knows() {
        let notes = json!({annotations::OBSERVED_BY_KUBEVIRT: "v1"});
        let written = "5d307ca9-b3ef-428c-8861-06e72d69f223";
        assert_eq!(uuid(&notes, &json!({"uuid": written})), written);
        // Of the name alone, as KubeVirt reckons: RFC 9562, version 5.
        assert_eq!(uuid(&notes, &Value::Null), "d32ff544-f682-571b-8677-3762f07ab8a4");
        assert_eq!(uuid(&notes, &json!({"serial": "7"})), "d32ff544-f682-571b-8677-3762f07ab8a4");
        // Two of one name in two namespaces are two guests.
        assert_eq!(uuid(&json!({}), &Value::Null), "u1");
        assert_eq!(uuid(&json!({}), &json!({"uuid": written})), written);
    }

    #[test]
    fn an_instance_says_of_which_spec_it_is_and_what_it_went_through() {
        let spec = json!({"domain": {"devices": {}},
            "volumes": [{"name": "root", "dataVolume": {"name": "root"}}]});
        let start = |vm: VirtualMachine| {
            Start::new(&Arc::new(vm), Booking::default(), &[], Vec::new(), Timestamp::UNIX_EPOCH)
                .instance()
        };
        let instance = start(vm(&json!({}), &spec));
        assert_eq!(instance.annotations()[annotations::VM_GENERATION], "4");
        let status = instance.status.unwrap();
        let phases: Vec<_> =
            status.phase_transition_timestamps.iter().map(|one| one.phase).collect();
        use InstancePhase::{Pending, Scheduled, Scheduling};
        assert_eq!(phases, [Pending, Scheduling, Scheduled]);
        assert!(Condition::holds(&status.conditions, "DataVolumesReady"));
        let without = start(vm(&json!({}), &json!({"domain": {"devices": {}}})));
        assert!(without.status.unwrap().conditions.is_empty());
    }
}
