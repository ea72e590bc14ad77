//! What is written on claims that are filled, and on the volumes behind them. CDI's names
//! (`pkg/controller/common/util.go`) where it has one.
//!
//! | by | what |
//! |---|---|
//! | the controller, with the claim | where from: [`SOURCE`] and what belongs to it |
//! | the controller, once the claim is bound | by whom: [`IMPORTER`] |
//! | the agent of that node | how far: [`PHASE`], [`PROGRESS`], [`RESTARTS`], [`RUNNING`] … |

/// `http`, `s3`, `registry`, `upload`, `none` for an empty disk, or `pvc`.
pub const SOURCE: &str = "cdi.kubevirt.io/storage.import.source";
/// The URL; of an image with `docker://` before its name.
pub const ENDPOINT: &str = "cdi.kubevirt.io/storage.import.endpoint";
/// The Secret of user and password.
pub const SECRET: &str = "cdi.kubevirt.io/storage.import.secretName";
/// The ConfigMap of certificates.
pub const CERTIFICATES: &str = "cdi.kubevirt.io/storage.import.certConfigMap";
/// Followed by `.` and a number: a header.
pub const HEADER: &str = "cdi.kubevirt.io/storage.import.extraHeaders";
/// Followed by `.` and a number: a Secret of headers.
pub const SECRET_HEADER: &str = "cdi.kubevirt.io/storage.import.secretExtraHeaders";
/// Of an image: `pod` or `node`.
pub const PULL_METHOD: &str = "cdi.kubevirt.io/storage.import.registryImportMethod";
/// Of an image: for which machines it is to be.
pub const ARCHITECTURE: &str = "cdi.kubevirt.io/storage.import.registryImageArchitecture";
/// The checksum of what the server sends.
pub const CHECKSUM: &str = "cdi.kubevirt.io/storage.import.checksum";
/// The claim that is copied: its namespace, `/`, its name.
pub const CLONE: &str = "k8s.io/CloneRequest";
/// On a claim that somebody may send its disk to; empty.
pub const UPLOAD: &str = "cdi.kubevirt.io/storage.upload.target";
/// `kubevirt`: a disk.
pub const CONTENT_TYPE: &str = "cdi.kubevirt.io/storage.contentType";
/// On a DataVolume and its claim: it is bound without anybody who uses it.
pub const IMMEDIATE: &str = "cdi.kubevirt.io/storage.bind.immediate.requested";
/// On a claim that somebody has filled already: the DataVolume that may have it.
pub const POPULATED: &str = "cdi.kubevirt.io/storage.populatedFor";

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub const PHASE: &str = "cdi.kubevirt.io/storage.pod.phase";
/// `true` while what is sent to the claim is taken.
pub const READY: &str = "cdi.kubevirt.io/storage.pod.ready";
/// How often it was begun anew.
pub const RESTARTS: &str = "cdi.kubevirt.io/storage.pod.restarts";
/// `true` while it is at work.
pub const RUNNING: &str = "cdi.kubevirt.io/storage.condition.running";
/// One word: why.
pub const RUNNING_REASON: &str = "cdi.kubevirt.io/storage.condition.running.reason";
/// One sentence: why.
pub const RUNNING_MESSAGE: &str = "cdi.kubevirt.io/storage.condition.running.message";
/// `12.34%`. CDI asks its pods for that; here the agent says it.
pub const PROGRESS: &str = "berth.io/import.progress";

/// A label: the node whose agent fills the claim.
pub const IMPORTER: &str = "berth.io/importer";

/// On a claim whose disk was made: if it is not there, another one is not made in its place.
pub const DISK_MADE: &str = "berth.io/disk-made";

/// The node that a claim is provisioned for.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Our provisioner: a volume is a directory of a node.
pub const PROVISIONER: &str = "berth.io/local";
/// On a Node: the directory below which its agent makes volumes.
pub const LOCAL_VOLUMES: &str = "berth.io/local-volumes";
/// A label of volumes that we made: the node on which they are.
pub const VOLUME_NODE: &str = "berth.io/local-volume-node";
/// Holds such a volume until its directory is removed.
pub const VOLUME_FINALIZER: &str = "berth.io/local-volume";
