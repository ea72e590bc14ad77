//! A running machine: one start of it, on one node.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::object::{HasSpec, HasStatus};
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use kube::core::{ApiResource, crd::v1::CustomResourceExt};
use schemars::JsonSchema;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    AccessCredential, Condition, DomainSpec, GROUP, Machine, MigrationState, Network, Opaque,
    Probe, Quantity, Rest, Volume, exact,
};

/// One start of a machine, from scheduling to its end.
///
/// It has no status subresource, as upstream: who writes the status writes the
/// object. That is why the `kube::CustomResource` derive does not fit here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct VirtualMachineInstance {
    /// Name, namespace, labels …
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What runs.
    pub spec: VirtualMachineInstanceSpec,
    /// How far it got.
    #[serde(default)]
    pub status: Option<VirtualMachineInstanceStatus>,
}

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceSpec {
    /// The virtual hardware.
    pub domain: DomainSpec,
    /// Networks that interfaces refer to.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Volumes that disks refer to.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Seconds the guest has to power off, 30 if absent; 0 pulls the plug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// The guest's host name; the instance's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Domain name under the namespace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// Labels a node must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// `None`, `LiveMigrate`, `LiveMigrateIfPossible` or `External`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<String>,
    /// `Paused`: the guest waits to be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_strategy: Option<String>,
    /// Who may log in.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub access_credentials: Vec<AccessCredential>,
    /// Its guest is ended, and so the instance, when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Box<Probe>>,
    /// The instance is `Ready` while it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Box<Probe>>,
    /// `amd64` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The one start strategy that there is.
pub const START_PAUSED: &str = "Paused";

impl VirtualMachineInstanceSpec {
    /// Its probes, with the field of each.
    pub fn probes(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        let probes =
            [("livenessProbe", &self.liveness_probe), ("readinessProbe", &self.readiness_probe)];
        probes.into_iter().filter_map(|(field, probe)| Some((field, &**probe.as_ref()?)))
    }

    /// Whether its guest waits to be resumed once it is there.
    #[must_use]
    pub fn starts_paused(&self) -> bool {
        self.start_strategy.as_deref() == Some(START_PAUSED)
    }
}

/// How far it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceStatus {
    /// The step it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<InstancePhase>,
    /// The node it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Why it failed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The interfaces as they are.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InstanceInterface>,
    /// Conditions.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What the guest runs, as its agent says.
    #[serde(default, rename = "guestOSInfo", skip_serializing_if = "Option::is_none")]
    pub guest_os_info: Option<Box<GuestOsInfo>>,
    /// `frozen`, if the guest's file systems are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_freeze_status: Option<String>,
    /// When each phase was entered.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<PhaseTransition>,
    /// How far its move to another node came, or its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<Box<MigrationState>>,
    /// Its volumes as they are.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub volume_status: Vec<VolumeStatus>,
    /// The processors that the guest has.
    #[serde(default, rename = "currentCPUTopology", skip_serializing_if = "Option::is_none")]
    pub current_cpu_topology: Option<CpuTopology>,
    /// The mainboard that the guest has, with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The memory that the guest has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// `BlockMigration`: its disks are files of its node and move with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_method: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The steps of an instance's life.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum InstancePhase {
    /// Just made.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Waits for volumes.
    Pending,
    /// Waits for a node.
    Scheduling,
    /// A node has it; its agent is to start it.
    Scheduled,
    /// The guest runs.
    Running,
    /// The guest ended by itself or because it was asked to.
    Succeeded,
    /// The guest crashed or could never start.
    Failed,
    /// Waits for another cluster.
    WaitingForSync,
    /// Nobody knows.
    Unknown,
}

impl InstancePhase {
    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// When a phase was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// Which.
    pub phase: InstancePhase,
    /// When.
    pub phase_transition_timestamp: Time,
}

/// What a guest runs, in its own words.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GuestOsInfo {
    /// `Debian GNU/Linux`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `6.1.0-30-amd64`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_release: String,
    /// `12 (bookworm)`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Name and version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pretty_name: String,
    /// `12`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version_id: String,
    /// When and how the kernel was built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// `x86_64`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// `debian`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
}

/// One interface as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceInterface {
    /// The network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// All addresses, IPv4 first.
    #[serde(
        default,
        deserialize_with = "exact",
        rename = "ipAddresses",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ip_addresses: Vec<String>,
    /// The tap device on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_interface_name: Option<String>,
    /// The name inside the guest, if an agent in it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// Who says so: `domain`, `guest-agent`, with commas between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_source: Option<String>,
    /// Queues of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_count: Option<i32>,
    /// `up` or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Processors as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuTopology {
    /// Cores per socket.
    #[serde(default)]
    pub cores: u32,
    /// Sockets.
    #[serde(default)]
    pub sockets: u32,
    /// Threads per core.
    #[serde(default)]
    pub threads: u32,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Memory as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// What the guest began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_at_boot: Option<Quantity>,
    /// What it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_current: Option<Quantity>,
    /// What it is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_requested: Option<Quantity>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// One volume as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// The volume's name.
    pub name: String,
    /// The disk in the guest. Upstream leaves it empty until there is one.
    #[serde(default)]
    pub target: String,
    /// Of one that comes and goes while the guest runs: `Pending`, `Bound`, `Ready`, `Detaching`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why it is there, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is there, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// There for one that comes and goes while the guest runs. Upstream says in it by which
    /// pod; here none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplug_volume: Option<Opaque>,
    /// The claim that it lies on, if it lies on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_info: Option<ClaimInfo>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What of a claim matters to who uses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimInfo {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// `ReadWriteOnce`, `ReadWriteMany` …
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// What it has, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl From<&PersistentVolumeClaim> for ClaimInfo {
    fn from(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.clone().unwrap_or_default();
        let status = claim.status.clone().unwrap_or_default();
        let capacity = status.capacity.unwrap_or_default().into_iter();
        Self {
            claim_name: claim.metadata.name.clone(),
            access_modes: spec.access_modes.unwrap_or_default(),
            volume_mode: spec.volume_mode,
            capacity: capacity.map(|(name, amount)| (name, Quantity::Text(amount.0))).collect(),
            ..Self::default()
        }
    }
}

impl ClaimInfo {
    /// Whether several nodes may write to it at once.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.access_modes.iter().any(|mode| mode == "ReadWriteMany")
    }
}

impl VirtualMachineInstance {
    /// An instance with this name and spec, without namespace or status.
    #[must_use]
    pub fn new(name: &str, spec: VirtualMachineInstanceSpec) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { metadata, spec, status: None }
    }

    /// The phase; unset where there is no status yet.
    #[must_use]
    pub fn phase(&self) -> InstancePhase {
        self.status.as_ref().and_then(|status| status.phase).unwrap_or_default()
    }
}

// === impl VirtualMachineInstance: what the derive would have written ===

impl Serialize for VirtualMachineInstance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = 4 + usize::from(self.status.is_some());
        let mut object = serializer.serialize_struct("VirtualMachineInstance", fields)?;
        object.serialize_field("apiVersion", "kubevirt.io/v1")?;
        object.serialize_field("kind", "VirtualMachineInstance")?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        if let Some(status) = &self.status {
            object.serialize_field("status", status)?;
        }
        object.end()
    }
}

impl kube::Resource for VirtualMachineInstance {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "VirtualMachineInstance".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn api_version((): &()) -> Cow<'_, str> {
        "kubevirt.io/v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "virtualmachineinstances".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl HasSpec for VirtualMachineInstance {
    type Spec = VirtualMachineInstanceSpec;

    fn spec(&self) -> &Self::Spec {
        &self.spec
    }

    fn spec_mut(&mut self) -> &mut Self::Spec {
        &mut self.spec
    }
}

impl HasStatus for VirtualMachineInstance {
    type Status = VirtualMachineInstanceStatus;

    fn status(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<Self::Status> {
        &mut self.status
    }
}

/// One start of a virtual machine: what runs, on which node, and how far it got.
// Without metadata, which a CRD's schema does not describe.
#[derive(JsonSchema)]
#[schemars(title = "VirtualMachineInstance")]
#[allow(dead_code, reason = "only its schema is used")]
struct Shape {
    spec: VirtualMachineInstanceSpec,
    status: Option<VirtualMachineInstanceStatus>,
}

impl CustomResourceExt for VirtualMachineInstance {
    fn crd() -> CustomResourceDefinition {
        let schema = schemars::generate::SchemaSettings::openapi3()
            .with(|settings| {
                settings.inline_subschemas = true;
                settings.meta_schema = None;
            })
            .with_transform(schemars::transform::AddNullable::default())
            .with_transform(StructuralSchemaRewriter)
            .with_transform(OptionalEnum)
            .with_transform(OptionalIntOrString)
            .into_generator()
            .into_root_schema_for::<Shape>();
        let column = |name: &str, r#type: &str, path: &str, priority: i32| serde_json::json!({ "name": name, "type": r#type, "jsonPath": path, "priority": priority });
        let condition = |name: &str| format!(".status.conditions[?(@.type=='{name}')].status");
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": Self::crd_name() },
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {
                    "kind": "VirtualMachineInstance",
                    "plural": "virtualmachineinstances",
                    "singular": "virtualmachineinstance",
                    "shortNames": Self::shortnames(),
                    "categories": ["all"],
                },
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": schema },
                    "additionalPrinterColumns": [
                        column("Age", "date", ".metadata.creationTimestamp", 0),
                        column("Phase", "string", ".status.phase", 0),
                        column("IP", "string", ".status.interfaces[0].ipAddress", 0),
                        column("NodeName", "string", ".status.nodeName", 0),
                        column("Ready", "string", &condition("Ready"), 0),
                        column("Live-Migratable", "string", &condition("LiveMigratable"), 1),
                        column("Paused", "string", &condition("Paused"), 1),
                    ],
                }],
            },
        }))
        .expect("the literal above is a CRD")
    }

    fn crd_name() -> &'static str {
        "virtualmachineinstances.kubevirt.io"
    }

    fn api_resource() -> ApiResource {
        ApiResource::erase::<Self>(&())
    }

    fn shortnames() -> &'static [&'static str] {
        &["vmi", "vmis"]
    }
}
