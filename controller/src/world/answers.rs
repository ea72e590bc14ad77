//! What the API has answered to writes of ours: known at once, and not when a watch tells it.

use crds::kubeovn::{Ip, IpPool, Subnet, Vip, Vpc};
use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::{World, is_news, name_of, vm_key};
use crate::hold;
use crate::ledger::VmKey;

impl World {
    /// Puts in an IP as the API answered it.
    pub fn put_ip(&mut self, ip: Ip) {
        if let Some(change) = self.ips.put(ip.name_any(), ip) {
            self.ip_changed(change);
        }
    }

    /// Takes out an IP that the API said is deleted.
    pub fn remove_ip(&mut self, name: &str) {
        if let Some(change) = self.ips.remove(&name.to_owned()) {
            self.ip_changed(change);
        }
    }

    /// Puts in an instance as the API answered it. One that went by that very write is
    /// gone: its watch has told so, or tells it with the same version, which brings no news.
    pub fn put_instance(&mut self, instance: VirtualMachineInstance) {
        let key = vm_key(&instance);
        let went = hold::is_leaving(&instance.metadata) && instance.finalizers().is_empty();
        let uid = instance.uid();
        if let Some(change) = self.instances.put(key.clone(), instance) {
            self.instance_changed(change);
        }
        let is_it = self.instances.meta(&key).is_some_and(|held| held.uid == uid);
        if went
            && is_it
            && let Some(change) = self.instances.remove(&key)
        {
            self.instance_changed(change);
        }
    }

    /// Takes out an instance that the API said is deleted.
    pub fn remove_instance(&mut self, key: &VmKey, uid: Option<&String>) {
        let is_it = self.instances.meta(key).is_some_and(|held| held.uid.as_ref() == uid);
        if is_it && let Some(change) = self.instances.remove(key) {
            self.instance_changed(change);
        }
    }

    /// Puts in a VM as the API answered it; it does not become dirty for that.
    pub fn put_machine(&mut self, vm: VirtualMachine) {
        self.machines.put(vm_key(&vm), vm);
    }

    /// Puts in a Node as the API answered it.
    pub fn put_node(&mut self, node: Node) {
        self.nodes.put(node.name_any(), node);
    }

    /// Puts in a Subnet as the API answered a write of ours. Somebody else's
    /// change may have come in between, and the watch's echo of it is then old.
    pub fn put_subnet(&mut self, subnet: Subnet) {
        if let Some(change) = self.subnets.put(subnet.name_any(), subnet) {
            self.subnet_changed(change);
        }
    }

    /// Puts in a Vpc as the API answered a write of ours.
    pub fn put_vpc(&mut self, vpc: Vpc) {
        if let Some(change) = self.vpcs.put(vpc.name_any(), vpc) {
            self.vpc_changed(change);
        }
    }

    /// Puts in a Vip as the API answered a write of ours.
    pub fn put_vip(&mut self, vip: Vip) {
        if let Some(change) = self.vips.put(vip.name_any(), vip) {
            self.vip_changed(change);
        }
    }

    /// Puts in the metadata of a Vip as the API answered a write of ours that was
    /// guarded by the version held.
    pub fn put_vip_meta(&mut self, meta: ObjectMeta) {
        if let Some(change) = self.vips.put_meta(name_of(&meta), meta) {
            self.vip_changed(change);
        }
    }

    /// Puts in the metadata of a Subnet as the API answered a write of ours that
    /// was guarded by the version held.
    pub fn put_subnet_meta(&mut self, meta: ObjectMeta) {
        if let Some(change) = self.subnets.put_meta(name_of(&meta), meta) {
            self.subnet_changed(change);
        }
    }

    /// The same of a Vpc.
    pub fn put_vpc_meta(&mut self, meta: ObjectMeta) {
        if let Some(change) = self.vpcs.put_meta(name_of(&meta), meta) {
            self.vpc_changed(change);
        }
    }

    /// Puts in an IPPool as the API answered a write of ours.
    pub fn put_pool(&mut self, pool: IpPool) {
        if let Some((_, old, new)) = self.pools.put(pool.name_any(), pool) {
            self.topology |= is_news(old.as_deref(), new.as_deref(), |pool| &pool.spec);
        }
    }
}
