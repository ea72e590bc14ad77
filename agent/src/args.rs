//! The flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use crds::commands::Address;
use net::options::{LEASE, is_name};
use ovn::ovsdb::Remote;

use crate::cpus::CpuSet;
use crate::domain::Emulation;
use crate::leases::CLUSTER_DOMAIN;

/// Run the VMs of one node.
///
/// Runs inside the network namespace that holds the node's taps.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Name of this node: VMIs labelled kubevirt.io/nodeName=NODE run here.
    #[arg(long)]
    pub node: String,
    /// The Kubernetes API and how to log in there.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// The libvirt daemon of this node.
    #[arg(long, default_value = "qemu:///system")]
    pub libvirt_uri: String,
    /// The OVSDB of this node's Open vSwitch.
    #[arg(long, default_value = "unix:/run/openvswitch/db.sock")]
    pub ovsdb: Remote,
    /// The bridge that taps are plugged into.
    #[arg(long, default_value = "br-int")]
    pub bridge: String,
    /// Kept over restarts: VMs' files, unpacked images, DHCP bindings.
    #[arg(long, default_value = "/var/lib/berth")]
    pub state_dir: PathBuf,
    /// Sockets: consoles of VMs, admin.sock. At most about 60 characters, since
    /// the path of a socket has no more than 107.
    #[arg(long, default_value = "/run/berth")]
    pub run_dir: PathBuf,
    /// An OCI image layout whose images are used in place of a registry's of the same name.
    #[arg(long, default_value = "/var/lib/berth/image-layout")]
    pub image_dir: PathBuf,
    /// A registry that is asked without TLS: its host as images name it, with the port if they
    /// name one. May be given several times.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
    /// A file of certificates (PEM) that may vouch for registries, beside the system's. May be
    /// given several times.
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
    /// How much of the disk images from registries, and disks unpacked from images, may take,
    /// such as 100Gi. What no VM of this node uses is removed to make room.
    #[arg(long, value_name = "SIZE", default_value = "64Gi", value_parser = size)]
    pub image_cache_bytes: u64,
    /// How much one image may unpack to, holes in its disk included.
    #[arg(long, value_name = "SIZE", default_value = "256Gi", value_parser = size)]
    pub image_max_bytes: u64,
    /// How many images come from registries, or are unpacked, at once.
    #[arg(long, value_name = "COUNT", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..))]
    pub max_parallel_image_pulls: u8,
    /// A directory below which hostDisks of VMs may be: whoever may make a VM may read and
    /// write all files there. May be given several times; without it there are no hostDisks.
    #[arg(long, value_name = "DIR")]
    pub host_disk_dir: Vec<PathBuf>,
    /// A directory in which volumes of the class `berth.io/local` are made for claims, each a
    /// directory. Without it no such volume is made on this node.
    #[arg(long, value_name = "DIR")]
    pub local_volume_dir: Option<PathBuf>,
    /// Where libvirt keeps what the TPM of each domain knows.
    #[arg(long, default_value = "/var/lib/libvirt/swtpm")]
    pub swtpm_dir: PathBuf,
    /// Processors of this node that guests may have to themselves (dedicatedCpuPlacement), such
    /// as 2-7,10. All other guests run on the rest. Keep all else off them, too: the kernel's
    /// `isolcpus`, a kubelet's `reservedSystemCPUs`.
    #[arg(long, value_name = "LIST", value_parser = list)]
    pub dedicated_cpus: Option<CpuSet>,
    /// Who executes the guests' instructions.
    #[arg(long, value_enum, default_value_t = EmulationChoice::Auto)]
    pub emulation: EmulationChoice,
    /// What runs the guests; `fake` runs none and only pretends, for tests.
    #[arg(long, value_enum, default_value_t = HypervisorChoice::Libvirt)]
    pub hypervisor: HypervisorChoice,
    /// The address of this node at which guests of other nodes arrive: its libvirtd
    /// must listen there for TLS (port 16514). Without it no guest comes or goes.
    #[arg(long)]
    pub migration_address: Option<IpAddr>,
    /// Directory of the certificates by which libvirtd knows other nodes and is known,
    /// as libvirtd sees it, if not in its usual places.
    #[arg(long)]
    pub migration_pki: Option<PathBuf>,
    /// The lease of an address where a Subnet's or a VM's options name none, in seconds. To be
    /// the same on all nodes, and what the controller is told.
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE,
          value_parser = clap::value_parser!(u32).range(10..))]
    pub dhcp_lease_time: u32,
    /// The domain of the cluster's own DNS, in which guests look for names; empty for none.
    #[arg(long, value_name = "DOMAIN", default_value = CLUSTER_DOMAIN, value_parser = domain)]
    pub cluster_domain: String,
    /// Where controllers ask for what virtctl wants at once (pause, console …): an address of
    /// this node with a port, such as 10.0.0.5:10662, or `unix:` and a path where the
    /// controller is on the same host. Without it nobody is heard.
    #[arg(long, value_name = "ADDRESS")]
    pub commands_listen: Option<Address>,
    /// Address for Prometheus to read /metrics from.
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
}

fn size(text: &str) -> Result<u64, String> {
    crds::kubevirt::Quantity::from(text).units().map_err(|error| error.to_string())
}

fn list(text: &str) -> Result<CpuSet, String> {
    text.parse()
}

fn domain(text: &str) -> Result<String, String> {
    if text.is_empty() || is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("write a domain name such as cluster.local, or nothing at all".to_owned())
    }
}

/// Who executes the guests' instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EmulationChoice {
    /// KVM where the processor offers it and /dev/kvm opens, else software.
    Auto,
    /// The processor.
    Kvm,
    /// QEMU's translator: slow, and works anywhere.
    Software,
}

/// What runs the guests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum HypervisorChoice {
    /// libvirt.
    Libvirt,
    /// Nothing.
    Fake,
}

impl EmulationChoice {
    /// The choice made. A /dev/kvm that opens and yet cannot run a guest is not
    /// found out here: say `software` then.
    #[must_use]
    pub fn decide(self) -> Emulation {
        match self {
            Self::Kvm => Emulation::Kvm,
            Self::Software => Emulation::Software,
            Self::Auto => {
                let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
                let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let virtual_machine_extensions =
                    cpu.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm");
                if kvm.is_ok() && virtual_machine_extensions {
                    Emulation::Kvm
                } else {
                    Emulation::Software
                }
            }
        }
    }
}
