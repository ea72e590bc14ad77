//! What a user asks for: a machine that exists, running or not.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Rest, VirtualMachineInstanceSpec, exact};
use crate::cdi::DataVolumeSpec;

/// Said of a machine with `running` and `runStrategy`. Upstream `vms-admitter.go`,
/// as is the next.
pub const BOTH_STRATEGIES: &str = "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead";
/// Said of a machine with neither.
pub const NO_STRATEGY: &str = "RunStrategy must be specified";

/// A virtual machine: a template and when to run it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    singular = "virtualmachine",
    shortname = "vm",
    shortname = "vms",
    category = "all",
    namespaced,
    status = "VirtualMachineStatus",
    doc = "A virtual machine: it keeps its disks and its place in the network, running or not.",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.printableStatus","description":"Human Readable Status"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSpec {
    /// Deprecated: `true` is `Always`, `false` is `Halted`. Not together with `runStrategy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// When an instance should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// What each instance is made from.
    pub template: InstanceTemplate,
    /// How large it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instancetype: Option<InstancetypeMatcher>,
    /// What its hardware is like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<InstancetypeMatcher>,
    /// DataVolumes that come and go with the machine.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub data_volume_templates: Vec<DataVolumeTemplate>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Which instancetype or preference.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstancetypeMatcher {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind; the one for the cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The ControllerRevision that it was kept in, to use that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// The volume that says by labels which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer_from_volume: Option<String>,
    /// `Reject` (the default) or `Ignore`: what follows if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer_from_volume_failure_policy: Option<String>,
}

/// When an instance should run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum RunStrategy {
    /// Always; one that ends is made anew.
    Always,
    /// Never.
    Halted,
    /// When asked, until asked or until the guest powers off.
    Manual,
    /// Made anew when it failed, not when the guest powered off.
    RerunOnFailure,
    /// Once.
    Once,
    /// Waits for a migration from another cluster. No effect yet: nothing starts.
    WaitAsReceiver,
}

/// A DataVolume that comes and goes with a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeTemplate {
    /// Its name, labels and annotations.
    #[serde(default)]
    pub metadata: DataVolumeMetadata,
    /// Its spec, copied whole.
    #[serde(default)]
    pub spec: DataVolumeSpec,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The metadata that a DataVolume takes from its template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeMetadata {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Labels, annotations and spec of the instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTemplate {
    /// Labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// The instance's spec, copied whole.
    pub spec: VirtualMachineInstanceSpec,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The metadata that an instance takes from its template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations, among them those of Kube-OVN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStatus {
    /// Whether an instance exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// Whether the instance is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// One word for people.
    #[serde(default)]
    pub printable_status: PrintableStatus,
    /// Conditions: the machine's own and those of its instance.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Asked for through start, stop and restart; the first is being worked on.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub state_change_requests: Vec<StateChangeRequest>,
    /// Starts that failed in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<StartFailure>,
    /// The generation that the instance is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The newest generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_generation: Option<i64>,
    /// The run strategy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// The instancetype that counts, as it was when the machine first referred to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instancetype_ref: Option<InstancetypeStatusRef>,
    /// The same of its preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference_ref: Option<InstancetypeStatusRef>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An instancetype or preference, and where it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstancetypeStatusRef {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The ControllerRevision that it is kept in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_revision_ref: Option<RevisionRef>,
    /// The volume that said which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer_from_volume: Option<String>,
    /// What had followed if it had not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer_from_volume_failure_policy: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A ControllerRevision of the same namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionRef {
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// A machine's state in one word, as `kubectl get vm` shows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum PrintableStatus {
    /// No instance, and none wanted.
    #[default]
    Stopped,
    /// Volumes are being filled.
    Provisioning,
    /// An instance is on its way.
    Starting,
    /// The guest runs.
    Running,
    /// The guest is paused.
    Paused,
    /// The instance is being ended.
    Stopping,
    /// The machine is being deleted.
    Terminating,
    /// Instances fail before they run; the next attempt waits.
    CrashLoopBackOff,
    /// The guest is moving to another node.
    Migrating,
    /// Nobody knows.
    Unknown,
    /// No node can take it, or no address.
    ErrorUnschedulable,
    /// The disk image cannot be had.
    ErrImagePull,
    /// The disk image cannot be had; the next attempt waits.
    ImagePullBackOff,
    /// A claim does not exist.
    ErrorPvcNotFound,
    /// A DataVolume failed.
    DataVolumeError,
    /// A claim waits to be bound.
    WaitingForVolumeBinding,
    /// Waits for a migration from another cluster.
    WaitingForReceiver,
}

/// A wish to start or stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateChangeRequest {
    /// Start or Stop.
    pub action: StateChangeAction,
    /// Such as `paused: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, String>>,
    /// The instance a Stop is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What a wish to start says of one whose guest waits to be resumed: the key, and its value.
pub const PAUSED_REQUEST: (&str, &str) = ("paused", "true");

impl StateChangeRequest {
    /// Whether it is to start a guest that waits to be resumed.
    #[must_use]
    pub fn starts_paused(&self) -> bool {
        let said = self.data.as_ref().and_then(|data| data.get(PAUSED_REQUEST.0));
        self.action == StateChangeAction::Start && said.is_some_and(|said| said == PAUSED_REQUEST.1)
    }
}

/// Start or stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum StateChangeAction {
    /// Make an instance.
    Start,
    /// End the instance.
    Stop,
}

/// Starts that failed in a row, and when the next may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartFailure {
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_fail_count: Option<i64>,
    /// The last that was counted.
    #[serde(default, rename = "lastFailedVMIUID", skip_serializing_if = "Option::is_none")]
    pub last_failed_vmi_uid: Option<String>,
    /// No attempt before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_timestamp: Option<Time>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl VirtualMachineSpec {
    /// The run strategy in force: `runStrategy`, or what `running` stands for.
    ///
    /// # Errors
    /// [`BOTH_STRATEGIES`] or [`NO_STRATEGY`], which the schema refuses where rules
    /// are run.
    pub const fn strategy(&self) -> Result<RunStrategy, &'static str> {
        match (self.run_strategy, self.running) {
            (Some(_), Some(_)) => Err(BOTH_STRATEGIES),
            (None, None) => Err(NO_STRATEGY),
            (Some(strategy), None) => Ok(strategy),
            (None, Some(true)) => Ok(RunStrategy::Always),
            (None, Some(false)) => Ok(RunStrategy::Halted),
        }
    }
}
