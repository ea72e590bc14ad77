//! What all VMs of this node share, and how a domain is built here.

mod fetch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crds::kubevirt::VirtualMachineInstance;
use kube::{Client, ResourceExt as _};
use tokio::sync::Notify;

use crate::domain::{self, Emulation, Place};
use crate::hypervisor::Hypervisor;
use crate::kept;
use crate::leases::{Defaults, Port};
use crate::metrics::Metrics;
use crate::ports::{DetachError, Ports};
use crate::vm::Trouble;
use crate::volumes::{self, Dirs, DiskFile, Format, Kernel, VolumeError};

/// The node as its VMs see it; a cheap handle.
#[derive(Clone)]
pub struct Host {
    /// The node's name.
    pub node: String,
    /// The API that VMs' objects are read from and written to.
    pub client: Client,
    pub hypervisor: Hypervisor,
    pub ports: Ports,
    pub metrics: Metrics,
    /// Where images come from and files go.
    pub dirs: Dirs,
    /// Where libvirt has what TPMs know, for each domain by uuid.
    pub tpms: PathBuf,
    /// Where QEMU's sockets are.
    pub run_dir: PathBuf,
    pub emulation: Emulation,
    /// Where guests of other nodes arrive, if any do: an address of this node.
    pub arrivals: Option<String>,
    /// Where libvirtd has what it shows others of itself, if not in its usual places.
    pub pki: Option<String>,
    /// What guests are told where nobody says otherwise.
    pub defaults: Defaults,
    /// Rung by those who changed something, heard by who lists domains.
    pub look: Arc<Notify>,
}

/// What a node tells of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Here {
    /// Its name.
    pub node: String,
    /// Where guests of other nodes arrive, if any do.
    pub arrivals: Option<String>,
    /// The directory of its VMs' files.
    pub state_dir: String,
    /// The directory of its VMs' sockets.
    pub run_dir: String,
    /// Of the VM that comes here: on which image each of its disks lies.
    pub images: BTreeMap<String, String>,
}

impl fmt::Debug for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Host").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Host {
    /// Asks for a list of domains soon: something was done.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    /// Waits until [`look_again`](Self::look_again) is called.
    pub async fn look_asked(&self) {
        self.look.notified().await;
    }

    /// What this node tells of itself.
    #[must_use]
    pub fn here(&self) -> Here {
        Here {
            node: self.node.clone(),
            arrivals: self.arrivals.clone(),
            state_dir: self.dirs.state.display().to_string(),
            run_dir: self.run_dir.display().to_string(),
            images: BTreeMap::new(),
        }
    }

    /// On which image each disk of a domain lies, by volume.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub async fn images(&self, domain: &str) -> Result<BTreeMap<String, String>, Trouble> {
        let images = volumes::images(domain, &self.dirs).await;
        images.map_err(|error| Trouble::of("VolumeNotReady", chain(&error)))
    }

    /// Makes the files of a VM's disks.
    ///
    /// # Errors
    /// What the user has to change, or what may pass.
    pub async fn prepare(&self, vmi: &VirtualMachineInstance) -> Result<Vec<DiskFile>, Trouble> {
        if self.is_fake() {
            // Nothing will read them.
            let file = |name: &String| DiskFile::own(name, "/dev/null".into(), Format::Raw);
            return Ok(vmi.spec.volumes.iter().map(|volume| file(&volume.name)).collect());
        }
        let objects = fetch::objects(&self.client, vmi).await?;
        let disks = volumes::prepare(vmi, &self.dirs, &objects).await;
        let disks = disks.map_err(|error| trouble(&error))?;
        self.kernel(vmi).await?;
        kept::restore(&self.client, vmi, &self.kept(vmi)).await?;
        Ok(disks)
    }

    /// Keeps what of a VM's hardware outlives its starts. Its guest must have ended here.
    ///
    /// # Errors
    /// It is not kept yet; its files must stay.
    pub async fn keep(&self, vmi: &VirtualMachineInstance) -> Result<(), Trouble> {
        if self.is_fake() {
            return Ok(());
        }
        kept::keep(&self.client, vmi, &self.kept(vmi)).await
    }

    fn kept(&self, vmi: &VirtualMachineInstance) -> Vec<kept::Part> {
        kept::parts(vmi, &self.nvram(&domain_of(vmi)), &self.tpms)
    }

    /// Where the variables of a domain's firmware are.
    fn nvram(&self, domain: &str) -> PathBuf {
        self.dirs.of_domain(domain).join("nvram.fd")
    }

    async fn kernel(&self, vmi: &VirtualMachineInstance) -> Result<Kernel, Trouble> {
        let kernel = volumes::kernel(vmi, &self.dirs).await;
        kernel.map_err(|error| trouble(&error))
    }

    /// The VM's domain.
    ///
    /// # Errors
    /// What the user has to change; or Open vSwitch does not answer.
    pub async fn xml(
        &self,
        vmi: &VirtualMachineInstance,
        ports: &[Port],
        disks: Vec<DiskFile>,
    ) -> Result<String, Trouble> {
        let checksum_offload = if ports.is_empty() {
            false
        } else {
            let answer = self.ports.checksum_offload().await;
            answer.map_err(|error| Trouble::of("NetworkNotReady", error))?
        };
        let domain = domain_of(vmi);
        let kernel = if self.is_fake() { Kernel::default() } else { self.kernel(vmi).await? };
        let place = Place {
            emulation: self.emulation,
            checksum_offload,
            serial_socket: self.socket(&domain, "serial"),
            vnc_socket: self.socket(&domain, "vnc"),
            console_log: self.dirs.of_domain(&domain).join("console.log"),
            disks,
            kernel,
            nvram: self.nvram(&domain),
            ports: ports.iter().map(domain::Port::from).collect(),
        };
        domain::xml(vmi, &place).map_err(|error| Trouble {
            reason: "InvalidSpec",
            message: error.to_string(),
            hopeless: true,
        })
    }

    /// Whether the VM's taps have several queues.
    #[must_use]
    pub fn has_queues(&self, vmi: &VirtualMachineInstance) -> bool {
        domain::has_queues(vmi, self.emulation)
    }

    /// Whether there are files of a domain.
    pub async fn has_files(&self, domain: &str) -> bool {
        tokio::fs::try_exists(self.dirs.of_domain(domain)).await.unwrap_or(true)
    }

    /// Removes the files of a domain.
    ///
    /// # Errors
    /// The disk. May be repeated.
    pub async fn remove_files(&self, domain: &str) -> Result<(), Trouble> {
        for kind in ["serial", "vnc"] {
            // Sockets in a directory of sockets: what stays is in nobody's way.
            let _ = tokio::fs::remove_file(self.socket(domain, kind)).await;
        }
        let removed = volumes::remove(domain, &self.dirs).await;
        removed.map_err(|error| Trouble::of("FilesNotRemoved", chain(&error)))
    }

    /// Removes files, bindings and OVS ports of all domains but these.
    ///
    /// # Errors
    /// The first thing that could not be removed. May be repeated.
    pub async fn remove_leftovers(&self, living: &BTreeSet<String>) -> Result<(), LeftoverError> {
        self.ports.detach(|domain| !living.contains(domain)).await?;
        let mut homes = match tokio::fs::read_dir(self.dirs.state.join("vms")).await {
            Ok(homes) => homes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        while let Some(home) = homes.next_entry().await? {
            let domain = home.file_name().to_string_lossy().into_owned();
            if !living.contains(&domain) {
                tracing::info!(domain, "Removing the files of a VM that is gone");
                volumes::remove(&domain, &self.dirs).await?;
            }
        }
        Ok(())
    }

    /// The socket of a guest: `serial` or `vnc`.
    pub(crate) fn socket(&self, domain: &str, kind: &str) -> PathBuf {
        self.run_dir.join(format!("{domain}.{kind}"))
    }

    const fn is_fake(&self) -> bool {
        matches!(self.hypervisor, Hypervisor::Fake(_))
    }
}

/// Why something of a VM that is gone is still there.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    #[error(transparent)]
    Ports(#[from] DetachError),
    #[error("a directory of files cannot be read: {0}")]
    Directory(#[from] io::Error),
    #[error(transparent)]
    Files(#[from] VolumeError),
}

impl From<&Port> for domain::Port {
    fn from(port: &Port) -> Self {
        let Port { network, name, tap, mac, mtu, addresses: _, binding: _, faults: _, conflict: _ } =
            port;
        Self {
            network: network.clone(),
            name: name.clone(),
            tap: tap.clone(),
            mac: *mac,
            mtu: u32::from(*mtu),
        }
    }
}

fn domain_of(vmi: &VirtualMachineInstance) -> String {
    net::names::domain(&vmi.namespace().unwrap_or_default(), &vmi.name_any())
}

fn trouble(error: &VolumeError) -> Trouble {
    let (reason, hopeless) = (error.reason(), !error.is_retryable());
    Trouble { reason, message: chain(error), hopeless }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
