//! What all VMs of this node share, and how a domain is built here.

mod asked;
mod fetch;
mod hotplug;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crds::kubevirt::{VirtualMachineInstance, Volume};
use kube::{Client, ResourceExt as _};
use tokio::sync::Notify;

use crate::consoles;
use crate::control_groups::Lacking;
use crate::cpus::Cpus;
use crate::domain::{self, DomainError, Emulation, Place, Seat};
use crate::guest::Told;
use crate::hypervisor::{DomainState, Hypervisor, HypervisorError, Observed};
use crate::kept;
use crate::leases::{Defaults, Port};
use crate::live::Account;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::ports::{DetachError, Ports};
use crate::telling::Teller;
use crate::vm::Trouble;
use crate::volumes::{self, Dirs, DiskFile, Format, Kernel, Objects, VolumeError};

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
    /// Its processors.
    pub cpus: Cpus,
    /// By what libvirt cannot limit guests.
    pub lacking: Lacking,
    /// Whose turn it is to have a guest's file systems stand still or go on, by domain.
    pub freezes: Places,
    /// Who tells what happens to guests.
    pub teller: Teller,
}

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Here {
    /// Its name.
    pub node: String,
    /// Where guests of other nodes arrive, if any do.
    pub arrivals: Option<String>,
    /// The directory of its VMs' files.
    pub state_dir: String,
    /// The directory of its VMs' sockets.
    pub run_dir: String,
    /// Who executes what its guests do.
    pub emulation: Emulation,
    /// The processors that guests share, if not all.
    pub cpus: Option<String>,
    /// Of the VM that comes here: on which image each of its disks lies.
    pub images: BTreeMap<String, String>,
    /// Of the VM that runs here: what is known of its guest.
    pub told: Told,
    /// Of the VM that runs here: its hardware.
    pub account: Option<Account>,
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
            emulation: self.emulation,
            cpus: self.cpus.shared(),
            images: BTreeMap::new(),
            told: Told::default(),
            account: None,
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
        for disk in &disks {
            self.ready(vmi, disk, &objects).await?;
        }
        self.let_in(vmi).await?;
        kept::restore(&self.client, vmi, &self.kept(vmi)).await?;
        Ok(disks)
    }

    /// What a disk that is there needs besides before a guest has it: that its claim has had one,
    /// and the password of its server.
    async fn ready(
        &self,
        vmi: &VirtualMachineInstance,
        disk: &DiskFile,
        objects: &Objects,
    ) -> Result<(), Trouble> {
        let volume = vmi.spec.volumes.iter().find(|volume| volume.name == disk.volume);
        let claim = volume.filter(|volume| volume.ephemeral.is_none()).and_then(Volume::claim);
        if let Some((claim, _)) = claim {
            fetch::note_disk(&self.client, objects, claim, disk).await?;
        }
        let Some(login) = disk.login() else { return Ok(()) };
        let kept = self.hypervisor.keep_secret(&domain_of(vmi), &disk.volume, login).await;
        kept.map_err(|error| Trouble::of("HypervisorNotReady", error))
    }

    /// Keeps what a guest said on its console for who wants to know why it ended.
    pub async fn keep_console(&self, vmi: &VirtualMachineInstance) {
        let (dirs, vmi) = (self.dirs.clone(), vmi.clone());
        let kept =
            tokio::task::spawn_blocking(move || consoles::keep(&dirs, &domain_of(&vmi), &vmi));
        // Nothing waits for it: a full disk is no reason to keep a guest's files.
        if let Err(error) = kept.await.map_err(io::Error::from).flatten() {
            tracing::warn!(%error, "What a guest said on its console is not kept");
        }
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

    /// Lets QEMU in to the VM's files, and makes the directory of its sockets.
    async fn let_in(&self, vmi: &VirtualMachineInstance) -> Result<(), Trouble> {
        let runner = self.hypervisor.runner().await;
        let runner = runner.map_err(|error| Trouble::of("HypervisorNotReady", error))?;
        let domain = domain_of(vmi);
        let dirs = [
            self.run_dir.clone(),
            self.dirs.state.clone(),
            self.dirs.state.join("vms"),
            self.dirs.of_domain(&domain),
        ];
        let (sockets, images) = (self.sockets(&domain), self.dirs.unpacked());
        let display = self.display(&domain);
        let let_in = tokio::task::spawn_blocking(move || {
            let images = images.exists().then_some(images);
            dirs.into_iter().chain(images).try_for_each(|dir| runner.admit(&dir))?;
            match std::fs::DirBuilder::new().mode(0o700).create(&sockets) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => runner.admit(&sockets)?,
            }
            runner.make(&display)
        });
        let let_in = let_in.await.map_err(io::Error::from).flatten();
        let_in.map_err(|error| {
            Trouble::of("VolumeNotReady", format!("QEMU cannot be let in to its files: {error}"))
        })
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
        let seat = self.seat(&domain, vmi).await?;
        let place = Place {
            emulation: self.emulation,
            checksum_offload,
            serial_socket: self.socket(&domain, "serial"),
            vnc_socket: self.socket(&domain, "vnc"),
            console_log: consoles::log(&self.dirs, &domain),
            disks,
            kernel,
            nvram: self.nvram(&domain),
            ports: ports.iter().map(domain::Port::from).collect(),
            seat,
        };
        domain::xml(vmi, &place).map_err(|error| invalid(&error))
    }

    /// The processors of a domain that is to be defined.
    async fn seat(&self, domain: &str, vmi: &VirtualMachineInstance) -> Result<Seat, Trouble> {
        let wanted = domain::dedicated(&vmi.spec.domain).map_err(|error| invalid(&error))?;
        let mut running = Vec::new();
        if wanted > 0 {
            let away = |error| Trouble::of("HypervisorNotReady", error);
            let others = self.hypervisor.list().await.map_err(away)?;
            let runs = |one: &&Observed| {
                one.domain != domain && !matches!(one.state, DomainState::ShutOff(_))
            };
            for other in others.iter().filter(runs) {
                match self.hypervisor.describe(&other.domain).await {
                    Ok(xml) => running.push(xml),
                    Err(HypervisorError::NotFound(_)) => {}
                    Err(error) => return Err(away(error)),
                }
            }
        }
        let seat = self.cpus.choose(domain, wanted, &running);
        seat.map_err(|error| Trouble::of("InsufficientCPU", error))
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
        self.cpus.forget(domain);
        // What stays of sockets is in nobody's way.
        let _ = tokio::fs::remove_dir_all(self.sockets(domain)).await;
        let ended = domain.to_owned();
        let forgotten = self.hypervisor.forget_secrets(move |domain| domain == ended).await;
        let removed = volumes::remove(domain, &self.dirs).await;
        removed.map_err(|error| Trouble::of("FilesNotRemoved", chain(&error)))?;
        forgotten.map_err(|error| Trouble::of("HypervisorNotReady", error))
    }

    /// Removes files, bindings and OVS ports of all domains but these.
    ///
    /// # Errors
    /// The first thing that could not be removed. May be repeated.
    pub async fn remove_leftovers(&self, living: &BTreeSet<String>) -> Result<(), LeftoverError> {
        self.ports.detach(|domain| !living.contains(domain)).await?;
        let kept = living.clone();
        self.hypervisor.forget_secrets(move |domain| !kept.contains(domain)).await?;
        let mut homes = match tokio::fs::read_dir(self.dirs.state.join("vms")).await {
            Ok(homes) => homes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        while let Some(home) = homes.next_entry().await? {
            let domain = home.file_name().to_string_lossy().into_owned();
            if !living.contains(&domain) {
                tracing::info!(domain, "Removing the files of a VM that is gone");
                let _ = tokio::fs::remove_dir_all(self.sockets(&domain)).await;
                volumes::remove(&domain, &self.dirs).await?;
            }
        }
        let dirs = self.dirs.clone();
        tokio::task::spawn_blocking(move || consoles::sweep(&dirs)).await??;
        Ok(())
    }

    /// The socket of a guest: `serial` or `vnc`.
    pub(crate) fn socket(&self, domain: &str, kind: &str) -> PathBuf {
        match kind {
            "vnc" => self.display(domain).join(kind),
            _ => self.sockets(domain).join(kind),
        }
    }

    /// The directory in which QEMU makes a socket by itself: what is found there is its word.
    fn display(&self, domain: &str) -> PathBuf {
        self.sockets(domain).join("q")
    }

    /// The directory of a guest's sockets: root's, as those that libvirt makes.
    fn sockets(&self, domain: &str) -> PathBuf {
        self.run_dir.join(domain)
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
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Files(#[from] VolumeError),
    #[error(transparent)]
    Secrets(#[from] HypervisorError),
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

fn invalid(error: &DomainError) -> Trouble {
    let message = error.to_string();
    Trouble { reason: "InvalidSpec", message, hopeless: true, again: None }
}

fn trouble(error: &VolumeError) -> Trouble {
    let (reason, hopeless) = (error.reason(), !error.is_retryable());
    Trouble { reason, message: chain(error), hopeless, again: error.again() }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
