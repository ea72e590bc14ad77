//! The kinds that scenarios look at, as seen from outside.

use kube::core::ApiResource;

/// Enough to name a kind in a request.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// A logical router.
pub const VPC: Kind = kind("kubeovn.io", "v1", "Vpc", "vpcs", false);
/// A logical switch with its addresses.
pub const SUBNET: Kind = kind("kubeovn.io", "v1", "Subnet", "subnets", false);
/// Who has which address.
pub const IP: Kind = kind("kubeovn.io", "v1", "IP", "ips", false);
/// Some addresses of a subnet under a name.
pub const POOL: Kind = kind("kubeovn.io", "v1", "IPPool", "ippools", false);
/// An address that is nobody's own.
pub const VIP: Kind = kind("kubeovn.io", "v1", "Vip", "vips", false);
/// Addresses of a network attachment that outlive what uses them.
pub const CLAIM: Kind = kind("k8s.cni.cncf.io", "v1alpha1", "IPAMClaim", "ipamclaims", true);
/// The ledger behind the IP objects.
pub const BLOCK: Kind = kind("berth.io", "v1alpha1", "AddressBlock", "addressblocks", false);
/// What a user wants to run.
pub const VM: Kind = kind("kubevirt.io", "v1", "VirtualMachine", "virtualmachines", true);
/// What runs.
pub const VMI: Kind =
    kind("kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances", true);
/// A move of what runs to another node.
pub const MIGRATION: Kind = kind(
    "kubevirt.io",
    "v1",
    "VirtualMachineInstanceMigration",
    "virtualmachineinstancemigrations",
    true,
);
/// How some of what runs is moved.
pub const MIGRATION_POLICY: Kind =
    kind("migrations.kubevirt.io", "v1alpha1", "MigrationPolicy", "migrationpolicies", false);
/// So many of what runs.
pub const REPLICA_SET: Kind = kind(
    "kubevirt.io",
    "v1",
    "VirtualMachineInstanceReplicaSet",
    "virtualmachineinstancereplicasets",
    true,
);
/// A machine that can run VMs.
pub const NODE: Kind = kind("", "v1", "Node", "nodes", false);
/// A part of the cluster.
pub const NAMESPACE: Kind = kind("", "v1", "Namespace", "namespaces", false);
/// A thing that runs on a node.
pub const POD: Kind = kind("", "v1", "Pod", "pods", true);
/// What a pod is to the API.
pub const SERVICE_ACCOUNT: Kind = kind("", "v1", "ServiceAccount", "serviceaccounts", true);
/// A kind of objects.
pub const CRD: Kind = kind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    false,
);
/// Bytes that not everybody may read.
pub const SECRET: Kind = kind("", "v1", "Secret", "secrets", true);
/// Storage that a user asks for.
pub const VOLUME_CLAIM: Kind =
    kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true);
/// Storage that there is.
pub const VOLUME: Kind = kind("", "v1", "PersistentVolume", "persistentvolumes", false);
/// Storage that is being filled.
pub const DATA_VOLUME: Kind = kind("cdi.kubevirt.io", "v1beta1", "DataVolume", "datavolumes", true);
/// What clients of the importer are told.
pub const IMPORTER_CONFIG: Kind =
    kind("cdi.kubevirt.io", "v1beta1", "CDIConfig", "cdiconfigs", false);
/// A bag of strings, for tests of the API itself.
pub const CONFIG_MAP: Kind = kind("", "v1", "ConfigMap", "configmaps", true);

impl Kind {
    /// The kind's name in lower case, as kubectl prints it.
    #[must_use]
    pub fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// For kube's dynamic API.
    #[must_use]
    pub fn resource(&self) -> ApiResource {
        let api_version = match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        };
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version,
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Kind {
    Kind { group, version, kind, plural, namespaced }
}
