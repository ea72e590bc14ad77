//! Disks that come from a web server: made for a VM, filled by the agent of its node, booted
//! from, copied, and gone with it. Without CDI.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::kinds::{DATA_VOLUME, SECRET, VM, VOLUME, VOLUME_CLAIM};
use tests::namespace::inside;
use tests::world::{Part, World};
use tests::{eventually, guest_image, same};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::store;
use crate::volumes::{make_net, run, stop, vm};

const SOON: Duration = Duration::from_secs(45);
/// In the namespace between the nodes.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
const PORT: u16 = 7014;
/// The disk of the VM, and how large it is made.
const DISK: &str = "boots-root";
const SIZE: u64 = 192 << 20;
/// Another namespace.
const ANNEX: &str = "annex";

/// A web server with one file, of which the second half may have to wait.
struct Shop {
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Shop {
    fn start(world: &World, file: Vec<u8>) -> anyhow::Result<Self> {
        let listener = inside(&world.lab().layout().fabric(), || {
            let listener = std::net::TcpListener::bind((OUTSIDE, PORT))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let listener = TcpListener::from_std(listener)?;
        let (open, opened) = watch::channel(true);
        let file: Arc<[u8]> = file.into();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One that hangs up asks again.
                tokio::spawn(serve(stream, Arc::clone(&file), opened.clone()));
            }
        });
        Ok(Self { open, task })
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    file: Arc<[u8]>,
    mut open: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::from(".");
    let mut asked = String::new();
    stream.read_line(&mut asked).await?;
    while !line.trim_end().is_empty() {
        line.clear();
        stream.read_line(&mut line).await?;
        asked.push_str(&line);
    }
    let stream = stream.get_mut();
    if asked.starts_with("GET /moved ") {
        let head = "HTTP/1.1 302 Found\r\nLocation: /disk.qcow2.gz\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(head.as_bytes()).await;
    }
    if asked.starts_with("GET /bucket/")
        && let Err(why) = store::check(&asked)
    {
        let said =
            format!("<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>");
        let length = said.len();
        let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\n\r\n{said}");
        return stream.write_all(head.as_bytes()).await;
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
    stream.write_all(head.as_bytes()).await?;
    let (first, second) = file.split_at(file.len() / 2);
    stream.write_all(first).await?;
    let _ = open.wait_for(|open| *open).await;
    stream.write_all(second).await
}

/// The disk of the test guest, qcow2.
pub(super) fn guest_disk() -> anyhow::Result<Vec<u8>> {
    let blobs = guest_image()?.join("blobs/sha256");
    let blobs = std::fs::read_dir(&blobs)?.collect::<Result<Vec<_>, _>>()?;
    let size = |one: &std::fs::DirEntry| one.metadata().map_or(0, |meta| meta.len());
    let layer = blobs.iter().max_by_key(|one| size(one)).context("no blob")?.path();
    let tar = |args: &[&str]| {
        let mut tar = Command::new("tar");
        let done = tar.args(args).arg("--file").arg(&layer).arg("--wildcards").arg("*disk/*.*");
        let done = done.output().context("tar")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        anyhow::Ok(done.stdout)
    };
    let disk = tar(&["--extract", "--to-stdout"])?;
    ensure!(disk.starts_with(b"QFI\xfb"), "the guest's disk is no qcow2 file");
    Ok(disk)
}

/// The same, packed.
fn packed() -> anyhow::Result<Vec<u8>> {
    let disk = guest_disk()?;
    let mut gzip = Command::new("gzip");
    let mut gzip = gzip.arg("-1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = gzip.stdin.take().context("no input")?;
    let feeding = std::thread::spawn(move || input.write_all(&disk));
    let packed = gzip.wait_with_output()?;
    feeding.join().map_err(|_| anyhow::anyhow!("gzip was not fed"))??;
    Ok(packed.stdout)
}

fn sha256(bytes: &[u8]) -> anyhow::Result<String> {
    let mut sum = Command::new("sha256sum");
    let mut sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    sum.stdin.take().context("no input")?.write_all(bytes)?;
    let said = String::from_utf8(sum.wait_with_output()?.stdout)?;
    Ok(said.chars().take(64).collect())
}

/// What is filled from an object of a store, and the Secret of who may have it.
fn stored(name: &str, secret: &str) -> [Value; 2] {
    let url = format!("http://{OUTSIDE}:{PORT}/bucket/guest%20disk+1.qcow2.gz");
    let s3 = json!({"url": url, "secretRef": "store-keys"});
    let data_volume = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": "default", "annotations":
            {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {
            "source": {"s3": s3},
            "storage": {"resources": {"requests": {"storage": SIZE}}},
        },
    });
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store-keys", "namespace": "default"},
        "stringData": {"accessKeyId": store::ID, "secretKey": secret},
    });
    [data_volume, secret]
}

fn templates(checksum: &str) -> Value {
    let http = json!({"url": format!("http://{OUTSIDE}:{PORT}/moved"), "checksum": checksum});
    json!([{
        "metadata": {"name": DISK},
        "spec": {
            "source": {"http": http},
            "storage": {"resources": {"requests": {"storage": SIZE}}},
        },
    }])
}

/// Waits until a DataVolume is in this phase, and says what its condition `Running` has.
pub(super) async fn phase(world: &World, name: &str, phase: &str) -> anyhow::Result<Value> {
    eventually(&format!("DataVolume {name} to be {phase}"), SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, name).await?["status"].clone();
        ensure!(status["phase"] == phase, "{status}");
        Ok(status)
    })
    .await
}

async fn shown(world: &World, vm: &str, status: &str) -> anyhow::Result<()> {
    eventually(&format!("{vm} to be {status}"), SOON, async || {
        let vm = world.cluster.get(VM, vm).await?;
        same("its status", &vm["status"]["printableStatus"], status)
    })
    .await
}

pub(super) fn message(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let one = conditions.into_iter().find(|one| one["type"] == kind);
    one.and_then(|one| Some(one["message"].as_str()?.to_owned())).unwrap_or_default()
}

/// The directory behind the claim of this name.
pub(super) async fn directory(world: &World, claim: &str) -> anyhow::Result<(String, PathBuf)> {
    let claim = world.cluster.get(VOLUME_CLAIM, claim).await?;
    let volume = claim["spec"]["volumeName"].as_str().context("it has no volume")?.to_owned();
    let path = world.cluster.get(VOLUME, &volume).await?["spec"]["local"]["path"].clone();
    Ok((volume, Path::new(path.as_str().context("it has no path")?).to_owned()))
}

/// Another namespace, a name for the disk of the VM, and a copy of what it stands for there.
fn elsewhere() -> Value {
    let group = "cdi.kubevirt.io/v1beta1";
    let source = json!({"apiVersion": group, "kind": "DataSource",
        "metadata": {"name": "golden", "namespace": "default"},
        "spec": {"source": {"pvc": {"name": DISK, "namespace": "default"}}}});
    let copy = json!({"apiVersion": group, "kind": "DataVolume",
        "metadata": {"name": "copied", "namespace": ANNEX, "annotations":
            {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {"storage": {},
            "sourceRef": {"kind": "DataSource", "namespace": "default", "name": "golden"}}});
    let annex = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ANNEX}});
    json!([annex, source, copy])
}

/// What lets that namespace have copies.
fn leave() -> Value {
    let group = "rbac.authorization.k8s.io";
    let metadata = json!({"name": "copy", "namespace": "default"});
    let rules = json!([{"apiGroups": ["cdi.kubevirt.io"], "resources": ["datavolumes/source"],
        "verbs": ["create"]}]);
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role",
        "metadata": metadata, "rules": rules});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": metadata, "roleRef": {"apiGroup": group, "kind": "Role", "name": "copy"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": ANNEX}]});
    json!([role, binding])
}

async fn copied_to_another_namespace(world: &World, original: &Path) -> anyhow::Result<()> {
    let file = world.lab().layout().dir.join("annex.yaml");
    let apply = async |all: Value| {
        let documents = all.as_array().into_iter().flatten().map(|one| format!("---\n{one}\n"));
        std::fs::write(&file, documents.collect::<String>())?;
        world.cluster.kubectl_ok(&["apply", "-f", &file.to_string_lossy()]).await
    };
    let shown = async |kind: &str, name: &str, namespace: &str| {
        let words = ["get", kind, name, "--namespace", namespace, "-o", "json"];
        anyhow::Ok(serde_json::from_str::<Value>(&world.cluster.kubectl_ok(&words).await?)?)
    };
    apply(elsewhere()).await?;
    // Our own API has one user, who may do everything.
    if world.cluster.flavour() == Flavour::Real {
        eventually("the copy to be refused", SOON, async || {
            let status = shown("datavolume", "copied", ANNEX).await?["status"].clone();
            let words = "system:serviceaccount:annex:default has insufficient permissions";
            ensure!(message(&status, "Running").contains(words), "{status}");
            Ok(())
        })
        .await?;
        apply(leave()).await?;
    }
    eventually("the copy to be there", SOON, async || {
        let status = shown("datavolume", "copied", ANNEX).await?["status"].clone();
        ensure!(status["phase"] == "Succeeded", "{status}");
        Ok(())
    })
    .await?;
    let named = shown("datasource", "golden", "default").await?["status"].clone();
    same("what the name stands for", &named["source"]["pvc"]["name"], DISK)?;
    same("whether it is ready", &named["conditions"][0]["status"], "True")?;
    let claim = shown("pvc", "copied", ANNEX).await?;
    let volume = claim["spec"]["volumeName"].as_str().context("it has no volume")?.to_owned();
    let path = world.cluster.get(VOLUME, &volume).await?["spec"]["local"]["path"].clone();
    let copied = Path::new(path.as_str().context("it has no path")?).join("disk.img");
    let mut cmp = Command::new("cmp");
    let compared = cmp.arg(original.join("disk.img")).arg(copied).status()?;
    ensure!(compared.success(), "the copy in another namespace differs");
    world.cluster.kubectl_ok(&["delete", "datavolume", "copied", "--namespace", ANNEX]).await?;
    world.cluster.kubectl_ok(&["delete", "datasource", "golden"]).await?;
    world.cluster.gone(VOLUME, &volume, SOON).await
}

pub(super) async fn a_vm_boots_from_an_imported_disk_though_its_agent_dies_meanwhile(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let file = packed()?;
    let sum = sha256(&file)?;
    let shop = Shop::start(world, file)?;

    // A bad checksum ends it, and says so on the VM.
    // On the node where volumes are made that nobody uses yet, so that one kill is for all.
    let mut boots = vm("boots").pinned_to("n1").object();
    boots["spec"]["template"]["spec"]["volumes"][0] =
        json!({"name": "root", "dataVolume": {"name": DISK}});
    boots["spec"]["dataVolumeTemplates"] = templates(&format!("sha256:{}", "0".repeat(64)));
    world.cluster.create(VM, boots).await?;
    let failed = phase(world, DISK, "Failed").await?;
    let said = message(&failed, "Running");
    ensure!(said.contains("checksum mismatch") && said.contains(&sum), "{said}");
    shown(world, "boots", "DataVolumeError").await?;
    let (volume, path) = directory(world, DISK).await?;
    ensure!(!path.join("disk.img").exists(), "what is wrong is a disk");

    // Mended: the template first, then what was made of it.
    shop.open.send_replace(false);
    let mended = json!({"spec": {"dataVolumeTemplates": templates(&format!("sha256:{sum}"))}});
    world.cluster.merge(VM, "boots", mended).await?;
    world.cluster.delete(DATA_VOLUME, DISK).await?;
    world.cluster.gone(VOLUME, &volume, SOON).await?;
    ensure!(!path.exists(), "the directory of a volume that is gone is there");
    eventually("half of it to be there", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, DISK).await?["status"].clone();
        ensure!(status["phase"] == "ImportInProgress", "{status}");
        let half = status["progress"].as_str().is_some_and(|text| {
            text.ends_with('%')
                && text.len() == 6
                && (text.starts_with('4') || text.starts_with('5'))
        });
        ensure!(half, "{status}");
        Ok(())
    })
    .await?;
    shown(world, "boots", "Provisioning").await?;

    // Beside it, from a store that wants to know who asks.
    let [data_volume, keys] = stored("stored", "guessed");
    world.cluster.create(SECRET, keys).await?;
    world.cluster.create(DATA_VOLUME, data_volume).await?;
    eventually("the store to refuse", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, "stored").await?["status"].clone();
        ensure!(message(&status, "Running").contains("SignatureDoesNotMatch"), "{status}");
        Ok(())
    })
    .await?;
    let right = json!({"stringData": {"secretKey": store::SECRET}});
    world.cluster.merge(SECRET, "store-keys", right).await?;
    eventually("some of it to be there", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, "stored").await?["status"].clone();
        ensure!(status["progress"].as_str().is_some_and(|text| text.ends_with('%')), "{status}");
        Ok(())
    })
    .await?;
    let claim = world.cluster.get(VOLUME_CLAIM, DISK).await?;
    let node = claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].clone();
    let node = node.as_str().context("no node was chosen")?.to_owned();
    let number = node.trim_start_matches('n').parse()?;
    let killed = world.kill(Part::Agent(number))?;
    world.back(killed).await?;
    shop.open.send_replace(true);
    let done = phase(world, DISK, "Succeeded").await?;
    same("its progress", &done["progress"], "100.0%")?;
    let instance = world.running("boots").await?;
    same("its node", &instance["status"]["nodeName"], node.as_str())?;
    let size = run(world, "boots", "blockdev --getsize64 /dev/vda").await?;
    same("its size", size.as_str(), SIZE.to_string().as_str())?;
    let (volume, path) = directory(world, DISK).await?;
    same("files of the volume", std::fs::read_dir(&path)?.count().to_string(), "1")?;

    phase(world, "stored", "Succeeded").await?;
    let (_, filled) = directory(world, "stored").await?;
    ensure!(filled.join("disk.img").is_file(), "there is no disk");
    world.cluster.delete(DATA_VOLUME, "stored").await?;
    world.cluster.delete(SECRET, "store-keys").await?;

    // A copy waits until nobody writes to what is copied.
    let copy = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": "boots-copy", "namespace": "default", "annotations":
            {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {"source": {"pvc": {"name": DISK}}, "storage": {}},
    });
    world.cluster.create(DATA_VOLUME, copy).await?;
    eventually("the copy to wait", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, "boots-copy").await?["status"].clone();
        let said = message(&status, "Running");
        ensure!(said.contains("is in use by VM boots"), "{status}");
        Ok(())
    })
    .await?;
    stop(world, "boots").await?;
    phase(world, "boots-copy", "Succeeded").await?;
    let (_, copied) = directory(world, "boots-copy").await?;
    let mut cmp = Command::new("cmp");
    let compared = cmp.arg(path.join("disk.img")).arg(copied.join("disk.img")).status()?;
    ensure!(compared.success(), "the copy differs");
    copied_to_another_namespace(world, &path).await?;

    // All of it goes with the VM, and nothing else does.
    world.cluster.delete(VM, "boots").await?;
    world.cluster.gone(DATA_VOLUME, DISK, SOON).await?;
    world.cluster.gone(VOLUME_CLAIM, DISK, SOON).await?;
    world.cluster.gone(VOLUME, &volume, SOON).await?;
    ensure!(!path.exists() && copied.exists(), "the wrong directory is gone");
    world.cluster.delete(DATA_VOLUME, "boots-copy").await?;
    world.cluster.gone(VOLUME_CLAIM, "boots-copy", SOON).await
}
