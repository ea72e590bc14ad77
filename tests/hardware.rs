//! What of a node a guest has to itself or no more of than this, and what its firmware keeps.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::guest::Guest;
use tests::kinds::{NODE, SECRET, VM, VMI};
use tests::objects::{GUEST_IMAGE, Vm};
use tests::world::{Choice, Part, Setup, World};
use tests::{eventually, same, suite};

use crate::address_life::make_subnets;
use crate::admission::says;
use crate::volumes;

const SOON: Duration = Duration::from_secs(45);
const NET: &str = "life-net";

/// One node, whose second processor is set aside.
pub(super) struct Apart(World);

impl suite::World for Apart {
    type Choice = Flavour;

    fn unavailable(flavour: Flavour) -> Option<String> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let few = (processors < 2).then(|| "the node has one processor".to_owned());
        few.or_else(|| <World as suite::World>::unavailable(choice(flavour)))
    }

    async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        let agent_args = vec!["--dedicated-cpus=1".to_owned()];
        let setup =
            Setup { nodes: 1, agent_args, control_groups: true, ..Setup::of(choice(flavour)) };
        Ok(Self(World::with(setup).await?))
    }

    async fn explain(&mut self) -> String {
        self.0.explain().await
    }

    async fn finish(self) -> anyhow::Result<()> {
        self.0.finish().await
    }
}

fn choice(flavour: Flavour) -> Choice {
    Choice { flavour, guests: true, reviews: false }
}

pub(super) async fn a_guest_is_kept_to_its_limits_and_its_own_processor_is_nobody_elses(
    apart: &mut Apart,
) -> anyhow::Result<()> {
    let world = &mut apart.0;
    make_subnets(&world.cluster).await?;
    let node = world.cluster.get(NODE, "n1").await?;
    same("the label", &node["metadata"]["labels"]["cpumanager"], "true")?;
    same("aside", &node["status"]["allocatable"]["berth.io/dedicated-cpus"], "1")?;

    let mut limited = Vm::named("limited").on(NET).without_grace().object();
    limited["spec"]["template"]["spec"]["domain"]["resources"] =
        json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "192Mi"}});
    world.cluster.create(VM, limited).await?;
    world.running("limited").await?;
    let conditions = world.cluster.get(VMI, "limited").await?["status"]["conditions"].to_string();
    if berth::lab::control_groups(world.lab().layout()).is_empty() {
        says(&world.cluster, VMI, "limited", ("ResourcesNotEnforced", "True"), "limits.cpu")
            .await?;
        eventually("the Node to say so", SOON, async || {
            let notes = world.cluster.get(NODE, "n1").await?["metadata"]["annotations"].clone();
            same("what it lacks", &notes["berth.io/lacks-control-groups"], "cpu,memory")
        })
        .await?;
    } else {
        ensure!(!conditions.contains("ResourcesNotEnforced"), "{conditions}");
        let group = Group::of(world.qemu("limited").await?)?;
        same("its quota", group.read("cpu", "cpu.cfs_quota_us")?, 50_000)?;
        same("within", group.read("cpu", "cpu.cfs_period_us")?, 100_000)?;
        same("its shares", group.read("cpu", "cpu.shares")?, 25)?;
        // What it is limited to, QEMU of one vCPU, tables of pages, and translated code.
        let memory = (192 << 20) + (64 << 20) + (8 << 20) + (128 << 20) / 512 + (128 << 20);
        same("its memory", group.read("memory", "memory.limit_in_bytes")?, memory)?;
    }

    let own = |name: &str| {
        let mut vm = Vm::named(name).on(NET).without_grace().object();
        vm["spec"]["template"]["spec"]["domain"]["cpu"] =
            json!({"cores": 1, "dedicatedCpuPlacement": true});
        vm
    };
    world.cluster.create(VM, own("own-a")).await?;
    world.running("own-a").await?;
    same("its processor", processors_of(world.qemu("own-a").await?)?, "1".to_owned())?;
    same("of the other", processors_of(world.qemu("limited").await?)?, "0".to_owned())?;
    world.cluster.create(VM, own("own-b")).await?;
    let words = "0/1 nodes are available: 1 Insufficient berth.io/dedicated-cpus.";
    says(&world.cluster, VM, "own-b", ("PodScheduled", "False"), words).await?;
    // Who has it is known to libvirt, and so to the next agent.
    let killed = world.kill(Part::Agent(1))?;
    world.back(killed).await?;
    world.cluster.delete(VM, "own-a").await?;
    world.running("own-b").await?;
    same("its processor", processors_of(world.qemu("own-b").await?)?, "1".to_owned())?;
    for vm in ["limited", "own-b"] {
        world.cluster.delete(VM, vm).await?;
        world.cluster.gone(VMI, vm, SOON).await?;
    }
    Ok(())
}

/// The control group of a guest, version 1: by controller, without libvirt's parts of it.
struct Group(Vec<(String, PathBuf)>);

impl Group {
    fn of(qemu: i32) -> anyhow::Result<Self> {
        let list = std::fs::read_to_string(format!("/proc/{qemu}/cgroup"))?;
        let groups = list.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let path = path.trim_start_matches('/').trim_end_matches("/emulator");
            let of =
                |one: &str| (one.to_owned(), PathBuf::from("/sys/fs/cgroup").join(one).join(path));
            Some(controllers.split(',').map(of).collect::<Vec<_>>())
        });
        Ok(Self(groups.flatten().collect()))
    }

    fn read(&self, controller: &str, file: &str) -> anyhow::Result<i64> {
        let group = self.0.iter().find(|(one, _)| one == controller).context("no such group")?;
        let path = group.1.join(file);
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| path.display().to_string())?;
        Ok(text.trim().parse()?)
    }
}

/// Where the only vCPU of a guest runs.
fn processors_of(qemu: i32) -> anyhow::Result<String> {
    for task in std::fs::read_dir(format!("/proc/{qemu}/task"))? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let says = |what: &str| status.lines().find_map(|line| line.strip_prefix(what));
        if says("Name:").is_some_and(|name| name.trim().starts_with("CPU 0")) {
            return Ok(says("Cpus_allowed_list:").context("no list")?.trim().to_owned());
        }
    }
    anyhow::bail!("{} has no vCPU", Pid::from_raw(qemu))
}

/// A VM with EFI and a TPM, both of which keep what they know.
fn keeper() -> Value {
    let mut vm = Vm::named("keeper").on(volumes::NET).pinned_to("n1").object();
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["volumes"] = json!([]);
    let domain = &mut spec["domain"];
    domain["memory"] = json!({"guest": "192Mi"});
    domain["devices"]["disks"] = json!([]);
    domain["devices"]["tpm"] = json!({"persistent": true});
    domain["firmware"] = json!({
        "bootloader": {"efi": {"secureBoot": false, "persistent": true}},
        "kernelBoot": {
            "kernelArgs": "console=ttyS0 quiet mitigations=off",
            "container": {"image": GUEST_IMAGE,
                "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"},
        },
    });
    vm
}

/// The variable of the firmware with this content: each has its own, as the guest cannot write
/// one again without `chattr`, which it lacks.
fn variable(text: &[u8; 8]) -> String {
    let name: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("/sys/firmware/efi/efivars/Berth{name}-6f0d3c1e-7a52-4c3b-9e1d-2b8f5a4c7d10")
}

/// Commands for the TPM (TPM 2.0 Library, part 3): an index of eight bytes in the non-volatile
/// memory, which its owner, whose password is empty, defines, writes and reads.
mod tpm {
    const OWNER: [u8; 4] = [0x40, 0, 0, 1];
    const INDEX: [u8; 4] = [0x01, 0x50, 0, 1];
    /// `TPM_RS_PW` without a password, and its size.
    const SESSION: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

    fn command(code: u32, handles: &[[u8; 4]], parameters: &[u8]) -> Vec<u8> {
        let length = 10 + 4 * handles.len() + SESSION.len() + parameters.len();
        let length = u32::try_from(length).expect("short");
        [&[0x80, 0x02][..], &length.to_be_bytes(), &code.to_be_bytes(), &handles.concat(), &SESSION]
            .concat()
            .into_iter()
            .chain(parameters.iter().copied())
            .collect()
    }

    /// `TPM2_NV_DefineSpace`: SHA-256, for its owner and whoever knows the empty password.
    pub(super) fn define() -> Vec<u8> {
        let public = [&INDEX[..], &[0, 0x0b, 0x02, 0x06, 0, 0x06, 0, 0, 0, 8]].concat();
        command(0x12a, &[OWNER], &[&[0, 0, 0, 14][..], &public].concat())
    }

    /// `TPM2_NV_Write`.
    pub(super) fn write(text: &[u8; 8]) -> Vec<u8> {
        command(0x137, &[OWNER, INDEX], &[&[0, 8][..], text, &[0, 0]].concat())
    }

    /// `TPM2_NV_Read`.
    pub(super) fn read() -> Vec<u8> {
        command(0x14e, &[OWNER, INDEX], &[0, 8, 0, 0])
    }
}

/// What the TPM of a guest answers, in hexadecimal digits.
async fn asked(guest: &mut Guest, command: &[u8]) -> anyhow::Result<String> {
    let octal: String = command.iter().map(|byte| format!("\\{byte:03o}")).collect();
    // One write is one command, and one read its answer.
    let ask = format!(
        "printf '{octal}' >/tmp/ask; exec 3<>/dev/tpm0; dd if=/tmp/ask bs=4096 count=1 >&3 2>/dev/null; \
         dd bs=4096 count=1 <&3 2>/dev/null | xxd -p | tr -d '\\n'; exec 3>&-"
    );
    let answer = guest.run(&ask).await?;
    // Tag, size, and that it went well.
    ensure!(answer.get(12..20) == Some("00000000"), "the TPM answers {answer}");
    Ok(answer)
}

async fn shell(world: &World) -> anyhow::Result<Guest> {
    world.running("keeper").await?;
    let place = world.place("keeper").await?;
    world.guest_ready("keeper", &place).await?;
    let mut guest = world.guest("keeper").await?;
    let mount = "insmod /lib/modules/efivarfs.ko; \
                 mount -t efivarfs efivarfs /sys/firmware/efi/efivars";
    guest.run(mount).await.context("the variables of the firmware")?;
    Ok(guest)
}

async fn write(guest: &mut Guest, text: &[u8; 8]) -> anyhow::Result<()> {
    let words = std::str::from_utf8(text)?;
    // It outlives a reset, and is there for the system that runs; one write is all of it.
    let write = format!(
        "printf '\\007\\000\\000\\000{words}' >/tmp/variable; \
         dd if=/tmp/variable of={} bs=4096 count=1 2>/dev/null",
        variable(text)
    );
    guest.run(&write).await.context("the variable is written")?;
    asked(guest, &tpm::write(text)).await.map(drop)
}

async fn still_there(world: &World, text: &[u8; 8]) -> anyhow::Result<Guest> {
    let mut guest = shell(world).await?;
    let found = guest.run(&format!("tail -c +5 {}", variable(text))).await?;
    same("the variable of the firmware", found.as_bytes(), &text[..])?;
    let answer = asked(&mut guest, &tpm::read()).await?;
    let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(answer.contains(&hex), "the TPM has not kept {hex}: {answer}");
    Ok(guest)
}

pub(super) async fn what_firmware_and_tpm_know_outlives_stops_moves_and_a_killed_agent(
    world: &mut World,
) -> anyhow::Result<()> {
    volumes::make_net(world).await?;
    world.cluster.create(VM, keeper()).await?;
    let mut guest = shell(world).await?;
    asked(&mut guest, &tpm::define()).await.context("the index is defined")?;
    write(&mut guest, b"at first").await?;
    drop(guest);
    volumes::stop(world, "keeper").await?;
    let kept = world.cluster.get(SECRET, "berth-state-keeper").await?;
    let names: Vec<_> = kept["data"].as_object().context("nothing is kept")?.keys().collect();
    same("what is kept", names, vec!["nvram.fd.gz", "tpm2-00.permall.gz"])?;

    volumes::start(world, "keeper").await?;
    let mut guest = still_there(world, b"at first").await?;
    write(&mut guest, b"and then").await?;
    drop(guest);
    // The agent dies between the end of the guest and the end of its instance.
    let qemu = world.qemu("keeper").await?;
    world.cluster.merge(VM, "keeper", json!({"spec": {"runStrategy": "Halted"}})).await?;
    eventually("the guest to end", SOON, async || {
        ensure!(!PathBuf::from(format!("/proc/{qemu}")).exists(), "it runs");
        Ok(())
    })
    .await?;
    let killed = world.kill(Part::Agent(1))?;
    world.back(killed).await?;
    world.cluster.gone(VMI, "keeper", SOON).await?;

    let there = json!({"kubernetes.io/hostname": "n2"});
    let elsewhere = json!({"spec": {"template": {"spec": {"nodeSelector": there}}}});
    world.cluster.merge(VM, "keeper", elsewhere).await?;
    volumes::start(world, "keeper").await?;
    drop(still_there(world, b"and then").await?);
    same("its node", world.node_of("keeper").await?.name.as_str(), "n2")?;
    world.cluster.delete(VM, "keeper").await?;
    world.cluster.gone(VMI, "keeper", SOON).await?;
    world.cluster.gone(SECRET, "berth-state-keeper", SOON).await
}
