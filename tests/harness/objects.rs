//! What users write, as short sentences:
//! `Vm::named("web").on("blue").with_address("10.7.0.5,fd07::5").yaml()`.

use serde_json::{Map, Value, json};

/// The image that `berth/host/guest-image.sh` makes.
pub const GUEST_IMAGE: &str = "berth/guest:latest";

/// A Vpc with nothing special about it.
#[must_use]
pub fn vpc(name: &str) -> Value {
    json!({"apiVersion": "kubeovn.io/v1", "kind": "Vpc", "metadata": {"name": name}, "spec": {}})
}

/// A Subnet, built step by step.
#[derive(Clone, Debug)]
pub struct Subnet {
    name: String,
    spec: Map<String, Value>,
}

impl Subnet {
    /// A subnet of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), spec: Map::new() }
    }

    /// In this Vpc.
    #[must_use]
    pub fn in_vpc(self, vpc: &str) -> Self {
        self.with("vpc", json!(vpc))
    }

    /// Of these addresses: `v4`, `v6` or `v4,v6`.
    #[must_use]
    pub fn of(self, cidrs: &str) -> Self {
        self.with("cidrBlock", json!(cidrs))
    }

    /// With these gateways: `v4`, `v6` or `v4,v6`.
    #[must_use]
    pub fn behind(self, gateways: &str) -> Self {
        self.with("gateway", json!(gateways))
    }

    /// Never giving these by itself: `a` or `a..b`.
    #[must_use]
    pub fn excluding(self, ranges: &[&str]) -> Self {
        self.with("excludeIps", json!(ranges))
    }

    /// With any other field of its spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.spec.insert(field.to_owned(), value);
        self
    }

    /// The object.
    #[must_use]
    pub fn object(self) -> Value {
        json!({
            "apiVersion": "kubeovn.io/v1",
            "kind": "Subnet",
            "metadata": {"name": self.name},
            "spec": self.spec,
        })
    }
}

/// A VirtualMachine of one NIC that boots the test guest, built step by step.
#[derive(Clone, Debug)]
pub struct Vm {
    name: String,
    run_strategy: &'static str,
    annotations: Map<String, Value>,
    node: Option<String>,
    user_data: Option<String>,
    disks: Vec<(String, Value)>,
    grace_seconds: u64,
}

impl Vm {
    /// A virtual machine of this name that runs always.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            run_strategy: "Always",
            annotations: Map::new(),
            node: None,
            user_data: None,
            disks: Vec::new(),
            grace_seconds: 10,
        }
    }

    /// On this subnet.
    #[must_use]
    pub fn on(self, subnet: &str) -> Self {
        self.annotated("ovn.kubernetes.io/logical_switch", subnet)
    }

    /// With these addresses: `v4`, `v6` or `v4,v6`.
    #[must_use]
    pub fn with_address(self, addresses: &str) -> Self {
        self.annotated("ovn.kubernetes.io/ip_address", addresses)
    }

    /// With this MAC.
    #[must_use]
    pub fn with_mac(self, mac: &str) -> Self {
        self.annotated("ovn.kubernetes.io/mac_address", mac)
    }

    /// With any annotation on its template.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), json!(value));
        self
    }

    /// On this node and no other.
    #[must_use]
    pub fn pinned_to(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Not started yet.
    #[must_use]
    pub fn under(mut self, run_strategy: &'static str) -> Self {
        self.run_strategy = run_strategy;
        self
    }

    /// Not running.
    #[must_use]
    pub fn halted(mut self) -> Self {
        self.run_strategy = "Halted";
        self
    }

    /// Running this script in the guest at boot.
    #[must_use]
    pub fn running(mut self, script: &str) -> Self {
        self.user_data = Some(script.to_owned());
        self
    }

    /// With another virtio disk of this name, and with what its volume is: in the guest
    /// `/dev/vdb` and so on.
    #[must_use]
    pub fn with_disk(mut self, name: &str, volume: Value) -> Self {
        self.disks.push((name.to_owned(), volume));
        self
    }

    /// Switched off without asking the guest.
    #[must_use]
    pub fn without_grace(mut self) -> Self {
        self.grace_seconds = 0;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> Value {
        let mut disks = vec![json!({"name": "root", "disk": {"bus": "virtio"}})];
        let mut volumes = vec![json!({"name": "root", "containerDisk": {"image": GUEST_IMAGE}})];
        if let Some(script) = &self.user_data {
            disks.push(json!({"name": "seed", "disk": {"bus": "virtio"}}));
            volumes.push(json!({"name": "seed", "cloudInitNoCloud": {"userData": script}}));
        }
        for (name, source) in &self.disks {
            disks.push(json!({"name": name, "disk": {"bus": "virtio"}}));
            let mut volume = source.clone();
            volume["name"] = json!(name);
            volumes.push(volume);
        }
        let mut spec = json!({
            "terminationGracePeriodSeconds": self.grace_seconds,
            "domain": {
                "memory": {"guest": "128Mi"},
                "devices": {
                    "disks": disks,
                    "interfaces": [{"name": "default", "bridge": {}}],
                },
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": volumes,
        });
        if let Some(node) = &self.node {
            spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                "runStrategy": self.run_strategy,
                "template": {
                    "metadata": {"annotations": self.annotations},
                    "spec": spec,
                },
            },
        })
    }
}
