//! kill -9 of the agent at each step of an import. Whenever it dies: the claim ends filled with the
//! right bytes, and nothing else is left of it.
//!
//! ```text
//!  ordered    the claim names the node                  the server says nothing
//!  placed     the directory of what is unfinished       the same
//!  begun      the first bytes are on the disk           it says no more
//!  half       half of them                              the same
//!  converted  the raw disk is being made                seen, or tried again
//!  renamed    it is the claim's, which does not say so   the API is away
//!  reported   the claim says so
//! ```
//!
//! What keeps an agent at a step is outside of it: the server of the file, and the API.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tests::kinds::{DATA_VOLUME, VOLUME, VOLUME_CLAIM};
use tests::namespace::inside;
use tests::world::{Part, World};
use tests::{Hopeless, eventually, promptly};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(30);
/// In the namespace between the nodes.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
const PORT: u16 = 7017;
/// Bytes of the image, and of the volume that it is put on.
const IMAGE: usize = 24 << 20;
const SIZE: usize = 32 << 20;
/// Bytes after which it has begun.
const BEGUN: usize = 200 << 10;
/// What is sent and not yet seen in the file.
const ON_THE_WAY: u64 = 1 << 20;
/// How often a step may be missed that nobody can be kept at.
const MISSED: usize = 8;

const IMPORTER: &str = "berth.io/importer";
const PHASE: &str = "cdi.kubevirt.io/storage.pod.phase";

/// How far it has come when the agent dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Ordered,
    Placed,
    Begun,
    Half,
    Converted,
    Renamed,
    Reported,
}

const STEPS: [Step; 7] = [
    Step::Ordered,
    Step::Placed,
    Step::Begun,
    Step::Half,
    Step::Converted,
    Step::Renamed,
    Step::Reported,
];

impl Step {
    /// How much of the file the server says before the agent dies.
    fn passes(self, all: usize) -> usize {
        match self {
            Self::Ordered | Self::Placed => 0,
            Self::Begun => BEGUN,
            Self::Half | Self::Renamed => all / 2,
            Self::Converted | Self::Reported => all,
        }
    }
}

/// A server of one file, of which so many bytes pass and no more; of none it does not speak.
struct Till {
    passes: watch::Sender<usize>,
    bytes: usize,
    task: JoinHandle<()>,
}

impl Till {
    fn open(world: &World, file: Vec<u8>) -> anyhow::Result<Self> {
        let listener = inside(&world.lab().layout().fabric(), || {
            let listener = std::net::TcpListener::bind((OUTSIDE, PORT))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let listener = TcpListener::from_std(listener)?;
        let (passes, passed) = watch::channel(0);
        let (bytes, file): (usize, Arc<[u8]>) = (file.len(), file.into());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&file), passed.clone()));
            }
        });
        Ok(Self { passes, bytes, task })
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    file: Arc<[u8]>,
    mut passes: watch::Receiver<usize>,
) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::from(".");
    while !line.trim_end().is_empty() {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    let stream = stream.get_mut();
    passes.wait_for(|most| *most > 0).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
    stream.write_all(head.as_bytes()).await?;
    let mut sent = 0;
    while sent < file.len() {
        let most = *passes.wait_for(|most| *most > sent).await?;
        let end = most.min(file.len()).min(sent + (64 << 10));
        stream.write_all(&file[sent..end]).await?;
        sent = end;
    }
    // Its end may have to be seen before the line is.
    let _ = stream.shutdown().await;
    Ok(())
}

/// An image, and what is in it: nothing that could be a hole.
fn image(dir: &Path) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut plain = Vec::with_capacity(IMAGE);
    while plain.len() < IMAGE {
        // xorshift64 (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        plain.extend(state.to_le_bytes());
    }
    let (raw, qcow2) = (dir.join("kills.raw"), dir.join("kills.qcow2"));
    std::fs::File::create(&raw)?.write_all(&plain)?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2);
    ensure!(convert.status()?.success(), "qemu-img");
    let packed = std::fs::read(&qcow2)?;
    std::fs::remove_file(raw)?;
    std::fs::remove_file(qcow2)?;
    Ok((plain, packed))
}

fn data_volume(name: &str) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": "default", "annotations":
            {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {
            "source": {"http": {"url": format!("http://{OUTSIDE}:{PORT}/disk.qcow2")}},
            "storage": {"resources": {"requests": {"storage": SIZE}}},
        },
    })
}

pub(super) async fn an_agent_may_die_at_each_step_of_an_import(
    world: &mut World,
) -> anyhow::Result<()> {
    let (plain, packed) = image(&world.lab().layout().dir)?;
    let till = Till::open(world, packed)?;
    for step in STEPS {
        let begun = Instant::now();
        let mut missed = 0;
        let of = || format!("the agent killed when {step:?}");
        while !cell(world, &till, &plain, step).await.with_context(of)? {
            missed += 1;
            ensure!(missed < MISSED, "{step:?} was missed {missed} times");
        }
        println!("the agent killed when {step:?}, missed {missed}: {:.1?}", begun.elapsed());
    }
    Ok(())
}

/// One import with one death; whether that was at its step.
async fn cell(world: &mut World, till: &Till, plain: &[u8], step: Step) -> anyhow::Result<bool> {
    let name = format!("kills-{step:?}").to_lowercase();
    till.passes.send_replace(step.passes(till.bytes));
    world.cluster.create(DATA_VOLUME, data_volume(&name)).await?;
    let node = promptly("the claim to name its node", SOON, async || {
        let claim = world.cluster.get(VOLUME_CLAIM, &name).await?;
        let node = claim["metadata"]["labels"][IMPORTER].as_str().context("it names none")?;
        Ok(node.trim_start_matches('n').parse()?)
    })
    .await?;
    let agent = Part::Agent(node);
    let (volume, dir) = directory(world, &name).await?;
    let is_there = if step == Step::Renamed {
        // What is done it cannot say.
        reach(world, &name, &dir, Step::Half, till.bytes).await?;
        let api = world.kill_for_long(Part::Api).await?;
        till.passes.send_replace(till.bytes);
        promptly("the disk to be there", SOON, async || {
            ensure!(dir.join("disk.img").exists(), "{:?}", entries(&dir));
            Ok(())
        })
        .await?;
        let killed = world.kill(agent)?;
        world.back(api).await?;
        world.back(killed).await?;
        true
    } else {
        let is_there = reach(world, &name, &dir, step, till.bytes).await?;
        let killed = world.kill(agent)?;
        world.back(killed).await?;
        is_there
    };
    till.passes.send_replace(till.bytes);
    eventually("the DataVolume to have succeeded", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, &name).await?["status"].clone();
        ensure!(status["phase"] == "Succeeded", "{status}");
        Ok(())
    })
    .await?;
    is_whole(&dir, plain)?;
    eventually("nothing else to be left", SOON, async || {
        let left = entries(&dir);
        ensure!(left == ["disk.img"], "{left:?}");
        let state = world.lab().layout().node(node).state().join("imports");
        let more = entries(&state);
        ensure!(more.is_empty(), "{more:?}");
        let claim = world.cluster.get(VOLUME_CLAIM, &name).await?;
        ensure!(claim["metadata"]["labels"][IMPORTER].is_null(), "it is still to be filled");
        Ok(())
    })
    .await?;
    world.cluster.delete(DATA_VOLUME, &name).await?;
    world.cluster.gone(VOLUME_CLAIM, &name, SOON).await?;
    world.cluster.gone(VOLUME, &volume, SOON).await?;
    ensure!(!dir.exists(), "the directory of the volume is left");
    Ok(is_there)
}

/// Waits, without a pause, until the import has come so far; whether it is no further.
async fn reach(
    world: &World,
    name: &str,
    dir: &Path,
    step: Step,
    all: usize,
) -> anyhow::Result<bool> {
    let is_done = || dir.join("disk.img").exists();
    let source = |bytes: usize| {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let file = unfinished(dir).map(|scratch| scratch.join("source"));
        let length = file.and_then(|file| Some(std::fs::metadata(file).ok()?.len())).unwrap_or(0);
        ensure!(length > 0 && length + ON_THE_WAY >= bytes, "{length} bytes of {bytes}");
        anyhow::Ok(())
    };
    promptly(&format!("the import to be {step:?}"), SOON, async || match step {
        Step::Ordered => Ok(true),
        Step::Placed => unfinished(dir).map(|_| !is_done()).context("no place yet"),
        Step::Begun => source(BEGUN).map(|()| !is_done()),
        Step::Half => source(all / 2).map(|()| !is_done()),
        Step::Converted => {
            if is_done() {
                return Ok(false);
            }
            let disk = unfinished(dir).map(|scratch| scratch.join("disk").exists());
            ensure!(disk == Some(true), "{:?}", entries(dir));
            Ok(true)
        }
        Step::Renamed => bail!(Hopeless("nobody waits for that here".to_owned())),
        Step::Reported => {
            let phase = claim_phase(world, name).await?;
            ensure!(phase == "Succeeded", "it is {phase}");
            Ok(true)
        }
    })
    .await
}

async fn claim_phase(world: &World, name: &str) -> anyhow::Result<String> {
    let claim = world.cluster.get(VOLUME_CLAIM, name).await?;
    Ok(claim["metadata"]["annotations"][PHASE].as_str().unwrap_or_default().to_owned())
}

/// The volume behind the claim of this name, and its directory.
async fn directory(world: &World, claim: &str) -> anyhow::Result<(String, PathBuf)> {
    let claim = world.cluster.get(VOLUME_CLAIM, claim).await?;
    let volume = claim["spec"]["volumeName"].as_str().context("it has no volume")?.to_owned();
    let path = world.cluster.get(VOLUME, &volume).await?["spec"]["local"]["path"].clone();
    Ok((volume, Path::new(path.as_str().context("it has no path")?).to_owned()))
}

fn entries(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|one| one.file_name().to_string_lossy().into_owned()).collect()
}

fn unfinished(dir: &Path) -> Option<PathBuf> {
    let mut all = entries(dir).into_iter();
    all.find(|name| name.starts_with(".berth-import-")).map(|name| dir.join(name))
}

/// That the disk holds the image, and zeroes behind it.
fn is_whole(dir: &Path, plain: &[u8]) -> anyhow::Result<()> {
    let disk = std::fs::read(dir.join("disk.img"))?;
    ensure!(disk.len() == SIZE, "it has {} bytes", disk.len());
    let (image, rest) = disk.split_at(plain.len());
    ensure!(image == plain, "its bytes are wrong");
    ensure!(rest.iter().all(|byte| *byte == 0), "there is something behind the image");
    Ok(())
}
