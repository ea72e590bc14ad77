//! Makes the hardware of a running guest what its object asks for, as far as that can be now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::affinity;
use crds::cdi::DataVolume;
use crds::kubevirt::{ClaimInfo, VirtualMachineInstance, Volume};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt as _};

use super::{Host, fetch, trouble};
use crate::control_groups::{Controller, NO_CONTROL_GROUP};
use crate::domain;
use crate::hypervisor::{Alteration, HypervisorError};
use crate::live::{self, About, Account, Change, Files, Present, changes, in_turn};
use crate::vm::Trouble;
use crate::volumes::{self, DiskFile, Format, Objects};

/// How long the API may take to say what is behind volumes: the guest may be asked to stop
/// meanwhile.
const API_LIMIT: Duration = Duration::from_secs(10);

/// A disk that takes the place of another comes once that is gone.
const PASSES: usize = 2;

impl Host {
    /// Brings the devices of a running domain to what `vmi` asks for, and says how far that
    /// came. May be cut off anywhere and begun again. `turn`: how often that was done before.
    ///
    /// A guest that ignores what it is asked is asked for no more then: the caller may have to
    /// stop it, and libvirt waits for it in a thread that others need.
    ///
    /// # Errors
    /// The hypervisor cannot say what is there, or went away. What it refuses of one device is in
    /// the account.
    pub async fn adjust(
        &self,
        domain: &str,
        vmi: &VirtualMachineInstance,
        turn: usize,
    ) -> Result<Account, HypervisorError> {
        let mut account = Account { present: self.present(domain).await?, ..Account::default() };
        let files = self.files(vmi, &mut account).await;
        for _ in 0..PASSES {
            let mut wanted = in_turn(changes(vmi, &files, &account.present), turn);
            wanted.retain(|change| trouble_with(&account, change.about()).is_none());
            if wanted.is_empty() {
                break;
            }
            let has = account.present.disks.iter();
            let mut taken = has.map(|disk| disk.target.clone()).collect();
            for change in &wanted {
                if change.is_unplug() && account.ignored {
                    continue;
                }
                let done = self.alter(domain, vmi, &mut taken, change).await;
                if done.is_ok()
                    && change.is_unplug()
                    && change.is_ignored(&self.present(domain).await?)
                {
                    account.ignored = true;
                    continue;
                }
                self.learn(change, &done);
                match done {
                    Ok(()) => tracing::info!(change = %change, "A guest's hardware has changed"),
                    Err(Refused::Trouble(trouble)) => match change.about() {
                        About::Volume(name) => {
                            account.troubles.insert(name.to_owned(), trouble);
                        }
                        About::Cpu => account.of_cpu = Some(trouble),
                        About::Memory => account.of_memory = Some(trouble),
                        About::Interface => account.of_interfaces = Some(trouble),
                        About::Bandwidth => account.of_bandwidth = Some(trouble),
                        About::MemoryLimit => account.of_memory_limit = Some(trouble),
                    },
                    Err(Refused::Hypervisor(error)) => return Err(error),
                }
            }
            let before = std::mem::replace(&mut account.present, self.present(domain).await?);
            if account.present == before {
                break;
            }
        }
        let left = changes(vmi, &files, &account.present);
        account.left = volumes_left(&left);
        // What was done says nothing if it has no effect.
        let still = |about| left.iter().any(|change| change.about() == about);
        let waits = || Trouble::of("DeviceInUse", "the guest has not followed yet");
        for (about, trouble) in [
            (About::Cpu, &mut account.of_cpu),
            (About::Memory, &mut account.of_memory),
            (About::Interface, &mut account.of_interfaces),
        ] {
            if still(about) && trouble.is_none() {
                *trouble = Some(waits());
            }
        }
        let memory = account.present.memory.as_ref();
        if account.of_memory.is_none() && memory.is_some_and(|one| one.current != one.requested) {
            let why = "the guest has not taken or given back the memory yet: it needs virtio-mem";
            account.of_memory = Some(Trouble::of("GuestNotReady", why));
        }
        let Account { troubles, left, present, .. } = &mut account;
        // What the guest has it has, whatever became of the objects.
        troubles.retain(|name, _| left.contains(name) || present.disk(name).is_none());
        Ok(account)
    }

    /// Whether every disk that the guest has is one that `vmi` names, and lies where that says: a
    /// guest that is sent takes no path of this node along that the other has not looked at.
    ///
    /// # Errors
    /// Why it cannot be sent, for people.
    pub async fn has_no_stranger(
        &self,
        domain: &str,
        vmi: &VirtualMachineInstance,
    ) -> Result<(), String> {
        let present = self.present(domain).await.map_err(|error| error.to_string())?;
        let mut account = Account::default();
        let files = self.files(vmi, &mut account).await;
        let of = |name: &String| present.disk(name).is_some_and(|disk| disk.source.is_some());
        if let Some((name, trouble)) = account.troubles.iter().find(|(name, _)| of(name)) {
            let why = &trouble.message;
            return Err(format!("it cannot be told what volume {name} lies on: {why}"));
        }
        let left = volumes_left(&changes(vmi, &files, &present));
        live::stranger(vmi, &present, &left).map_or(Ok(()), |name| Err(live::strange(name)))
    }

    /// What libvirt can limit guests by.
    fn learn(&self, change: &Change, done: &Result<(), Refused>) {
        let controller = match change.about() {
            About::Bandwidth => Controller::Cpu,
            About::MemoryLimit => Controller::Memory,
            _ => return,
        };
        let is_missing = |trouble: &Trouble| trouble.reason == NO_CONTROL_GROUP;
        match done {
            Ok(()) => self.lacking.seen(controller, false),
            Err(Refused::Trouble(trouble)) if is_missing(trouble) => {
                self.lacking.seen(controller, true);
            }
            Err(_) => {}
        }
    }

    async fn present(&self, domain: &str) -> Result<Present, HypervisorError> {
        let xml = self.hypervisor.describe(domain).await?;
        Present::read(&xml).map_err(HypervisorError::Refused)
    }

    async fn alter(
        &self,
        domain: &str,
        vmi: &VirtualMachineInstance,
        taken: &mut BTreeSet<String>,
        change: &Change,
    ) -> Result<(), Refused> {
        let alteration = match change {
            Change::Attach(disk, file) => {
                let device = domain::hot_disk(&vmi.spec, disk, file, taken);
                Alteration::Attach(device.map_err(|error| Trouble::of("InvalidSpec", error))?)
            }
            Change::Detach(disk) => Alteration::Detach(disk.xml.clone()),
            Change::Vcpus(count) => Alteration::Vcpus(*count),
            Change::Memory(memory, bytes) => {
                Alteration::Update(domain::with_requested(&memory.xml, *bytes).map_err(refused)?)
            }
            Change::Link(interface, up) => {
                Alteration::Update(domain::with_link(&interface.xml, *up).map_err(refused)?)
            }
            Change::Unplug(interface) => Alteration::Detach(interface.xml.clone()),
            Change::Insert(drive, file) => {
                Alteration::Update(medium(drive.xml.as_str(), Some(file))?)
            }
            Change::Eject(drive) => Alteration::Update(medium(drive.xml.as_str(), None)?),
            Change::Bandwidth(shares, quota) => {
                Alteration::Bandwidth { shares: *shares, quota: *quota }
            }
            Change::MemoryLimit(bytes) => Alteration::MemoryLimit(*bytes),
        };
        match self.hypervisor.alter(domain, alteration).await {
            Ok(()) => Ok(()),
            Err(HypervisorError::Refused(why)) => {
                Err(Refused::Trouble(Trouble::of("HypervisorRefused", why)))
            }
            Err(HypervisorError::NoControlGroup(why)) => {
                let message = format!(
                    "libvirt of node {} has no control group for it ({why}): mount the controller \
                     and let libvirt use it (cgroup_controllers in qemu.conf)",
                    self.node
                );
                Err(Refused::Trouble(Trouble::of(NO_CONTROL_GROUP, message)))
            }
            Err(error) => Err(Refused::Hypervisor(error)),
        }
    }

    /// What is behind the volumes that may come and go.
    async fn files(&self, vmi: &VirtualMachineInstance, account: &mut Account) -> Files {
        let mut only = vmi.clone();
        only.spec.volumes.retain(Volume::is_hotpluggable);
        let names = || only.spec.volumes.iter().map(|volume| volume.name.clone());
        if only.spec.volumes.is_empty() {
            return Files::new();
        }
        if self.is_fake() {
            let file = |name: &str| DiskFile::own(name, "/dev/null".into(), Format::Raw);
            return names().map(|name| (name.clone(), Ok(file(&name)))).collect();
        }
        let late = || Trouble::of("VolumeNotReady", "the API does not answer");
        let found = tokio::time::timeout(API_LIMIT, Found::of(&self.client, &self.node, &only));
        let found = found.await.unwrap_or_else(|_| Err(late()));
        let files = match found {
            Ok(found) => {
                account.claims = found.claims(&only);
                let mut files = Files::new();
                for volume in &only.spec.volumes {
                    files.insert(volume.name.clone(), self.file(&only, volume, &found).await);
                }
                files
            }
            Err(trouble) => names().map(|name| (name, Err(trouble.clone()))).collect(),
        };
        let failed = files.iter().filter_map(|(name, file)| Some((name, file.as_ref().err()?)));
        account.troubles = failed.map(|(name, why)| (name.clone(), why.clone())).collect();
        files
    }

    async fn file(
        &self,
        vmi: &VirtualMachineInstance,
        volume: &Volume,
        found: &Found,
    ) -> Result<DiskFile, Trouble> {
        found.is_ready(volume)?;
        let file = volumes::of_claim(vmi, volume, &self.dirs, &found.objects).await;
        let file = file.map_err(|error| trouble(&error))?;
        self.ready(vmi, &file, &found.objects).await?;
        Ok(file)
    }
}

/// The volumes that these changes are about.
fn volumes_left(changes: &[Change]) -> BTreeSet<String> {
    let volume = |change: &Change| match change.about() {
        About::Volume(name) => Some(name.to_owned()),
        _ => None,
    };
    changes.iter().filter_map(volume).collect()
}

/// Why a device was not changed.
enum Refused {
    Trouble(Trouble),
    Hypervisor(HypervisorError),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

fn medium(drive: &str, file: Option<&DiskFile>) -> Result<String, Trouble> {
    domain::with_medium(drive, file).map_err(refused)
}

fn refused(why: String) -> Trouble {
    Trouble::of("HypervisorRefused", why)
}

/// What is known to keep something from being so.
fn trouble_with<'a>(account: &'a Account, about: About<'_>) -> Option<&'a Trouble> {
    match about {
        About::Volume(name) => account.troubles.get(name),
        About::Cpu => account.of_cpu.as_ref(),
        About::Memory => account.of_memory.as_ref(),
        About::Interface => account.of_interfaces.as_ref(),
        About::Bandwidth => account.of_bandwidth.as_ref(),
        About::MemoryLimit => account.of_memory_limit.as_ref(),
    }
}

/// What the API says of what volumes lie on.
struct Found {
    objects: Objects,
    node: Option<Node>,
    /// By name; one that nobody fills is not there.
    filled: BTreeMap<String, DataVolume>,
}

impl Found {
    async fn of(
        client: &Client,
        node: &str,
        vmi: &VirtualMachineInstance,
    ) -> Result<Self, Trouble> {
        let objects = fetch::objects(client, vmi).await?;
        let nodes: Api<Node> = Api::all(client.clone());
        let node = nodes.get_opt(node).await;
        let node = node.map_err(|error| Trouble::of("VolumeNotReady", error))?;
        let namespace = vmi.namespace().unwrap_or_default();
        let api: Api<DataVolume> = Api::namespaced(client.clone(), &namespace);
        let mut filled = BTreeMap::new();
        for source in vmi.spec.volumes.iter().filter_map(|one| one.data_volume.as_ref()) {
            let one = api.get_opt(&source.name).await;
            let one = one.map_err(|error| Trouble::of("VolumeNotReady", error))?;
            filled.extend(one.map(|one| (source.name.clone(), one)));
        }
        Ok(Self { objects, node, filled })
    }

    fn claims(&self, vmi: &VirtualMachineInstance) -> BTreeMap<String, ClaimInfo> {
        let info = |volume: &Volume| {
            let (claim, _) = self.objects.claim(volume.claim()?.0)?;
            Some((volume.name.clone(), ClaimInfo::from(claim)))
        };
        vmi.spec.volumes.iter().filter_map(info).collect()
    }

    /// Whether the claim of a volume can be used on this node.
    fn is_ready(&self, volume: &Volume) -> Result<(), Trouble> {
        let Some((name, is_filled)) = volume.claim() else { return Ok(()) };
        let waits = |reason, message: String| Err(Trouble::of(reason, message));
        if is_filled && let Some(source) = self.filled.get(name) {
            let phase = source.status.as_ref().map_or("", |status| status.phase.as_str());
            if phase != "Succeeded" {
                return waits("NotAllDVsReady", format!("DataVolume {name} is {phase:?}"));
            }
        }
        let Some((claim, bound)) = self.objects.claim(name) else {
            return waits("FailedPvcNotFound", format!("PVC {name} not found"));
        };
        match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Bound") => {}
            Some("Lost") => return waits("PVCNotReady", "PVC is in phase Lost".to_owned()),
            _ => return waits("PVCNotReady", "PVC is in phase ClaimPending".to_owned()),
        }
        let terms = bound.and_then(affinity::terms).unwrap_or_default();
        let meets = |node: &Node| terms.iter().any(|term| affinity::meets(node, term));
        if !terms.is_empty() && !self.node.as_ref().is_some_and(meets) {
            let volume = bound.map(|volume| volume.name_any()).unwrap_or_default();
            let message = format!(
                "volume node affinity conflict: persistentvolume {volume:?} is not of this node"
            );
            return waits("FailedScheduling", message);
        }
        Ok(())
    }
}
