use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::layout::Digest;
use super::*;

/// An agent's directories, with an image layout that grows on request.
struct Node {
    dir: TempDir,
    index: Vec<Value>,
}

/// How a layer is packed.
#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("images/blobs/sha256")).unwrap();
        Self { dir, index: Vec::new() }
    }

    fn dirs(&self) -> Dirs {
        Dirs { state: self.dir.path().join("state"), images: self.dir.path().join("images") }
    }

    fn blob(&self, content: &[u8]) -> String {
        let digest = Digest::of(Sha256::new_with_prefix(content));
        fs::write(self.dirs().images.join("blobs/sha256").join(digest.hex()), content).unwrap();
        format!("sha256:{}", digest.hex())
    }

    /// A manifest whose layers hold these files.
    fn manifest(&self, packing: Packing, layers: &[&[(&str, &[u8])]]) -> String {
        let layer = |files: &&[(&str, &[u8])]| {
            let mut tar = tar::Builder::new(Vec::new());
            for (path, content) in *files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, path, *content).unwrap();
            }
            let tar = tar.into_inner().unwrap();
            let packed = match packing {
                Packing::Plain => tar,
                Packing::Gzip => {
                    let mut gzip =
                        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    gzip.write_all(&tar).unwrap();
                    gzip.finish().unwrap()
                }
            };
            json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": self.blob(&packed) })
        };
        let layers: Vec<_> = layers.iter().map(layer).collect();
        self.blob(json!({ "schemaVersion": 2, "layers": layers }).to_string().as_bytes())
    }

    /// Gives a manifest a name.
    fn publish(&mut self, image: &str, media_type: &str, digest: &str) {
        self.index.push(json!({
            "mediaType": media_type,
            "digest": digest,
            "annotations": { "org.opencontainers.image.ref.name": image },
        }));
        let index = json!({ "schemaVersion": 2, "manifests": self.index });
        fs::write(self.dirs().images.join("index.json"), index.to_string()).unwrap();
    }

    /// An image of one layer.
    fn image(&mut self, image: &str, packing: Packing, files: &[(&str, &[u8])]) {
        let manifest = self.manifest(packing, &[files]);
        self.publish(image, MANIFEST, &manifest);
    }

    async fn prepare(&self, vmi: &VirtualMachineInstance) -> Result<Vec<DiskFile>, VolumeError> {
        prepare(vmi, &self.dirs(), &Secrets::default()).await
    }

    async fn refusal(&self, volume: Value) -> VolumeError {
        self.prepare(&vmi("u1", json!([volume]))).await.unwrap_err()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn vmi(uid: &str, volumes: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": uid },
        "spec": { "domain": { "devices": {} }, "volumes": volumes },
    }))
    .unwrap()
}

fn root(image: &str) -> Value {
    json!({ "name": "root", "containerDisk": { "image": image } })
}

fn disk_of(size: usize) -> Vec<u8> {
    let mut disk = vec![0; size];
    disk[..4].copy_from_slice(b"boot");
    *disk.last_mut().unwrap() = 7;
    disk
}

/// What `qemu-img` knows of an overlay.
fn info(path: &Path) -> Value {
    let done =
        std::process::Command::new("qemu-img").args(["info", "--output=json"]).arg(path).output();
    serde_json::from_slice(&done.unwrap().stdout).unwrap()
}

/// The image under an overlay.
fn base(overlay: &DiskFile) -> PathBuf {
    info(&overlay.path)["full-backing-filename"].as_str().unwrap().into()
}

/// The content of a file of an ISO, which stores small files in one piece.
fn holds(iso: &Path, text: &str) -> bool {
    let iso = fs::read(iso).unwrap();
    iso.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_container_disk_becomes_an_overlay_on_a_shared_read_only_base() {
    let mut node = Node::new();
    let disk = disk_of(300 << 10);
    node.image("berth/guest:latest", Packing::Gzip, &[("./disk/guest.img", &disk)]);
    let files = node.prepare(&vmi("u1", json!([root("berth/guest:latest")]))).await.unwrap();
    assert_eq!((files[0].volume.as_str(), files[0].format), ("root", Format::Qcow2));
    assert_eq!(files[0].path, node.dirs().of_domain("default_web").join("root.qcow2"));
    assert_eq!(info(&files[0].path)["virtual-size"], 300 << 10);
    let base = base(&files[0]);
    assert_eq!(fs::read(&base).unwrap(), disk);
    assert_eq!(base.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    let home = node.dirs().of_domain("default_web");
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_the_guest_wrote_survives_a_repeated_prepare_but_not_another_uid() {
    let mut node = Node::new();
    node.image("i", Packing::Plain, &[("disk/d.img", &disk_of(1 << 20))]);
    let volumes = json!([root("i"), { "name": "extra", "emptyDisk": { "capacity": "1Mi" } }]);
    let files = node.prepare(&vmi("u1", volumes.clone())).await.unwrap();
    let mark = |path: &Path| {
        let mut file = fs::File::options().write(true).open(path).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"written by the guest").unwrap();
    };
    files.iter().for_each(|file| mark(&file.path));
    assert_eq!(node.prepare(&vmi("u1", volumes.clone())).await.unwrap(), files);
    assert!(files.iter().all(|file| holds(&file.path, "written by the guest")));
    assert_eq!(node.prepare(&vmi("u2", volumes)).await.unwrap(), files);
    assert!(!files.iter().any(|file| holds(&file.path, "written by the guest")));
}

#[tokio::test]
async fn vms_that_start_at_once_unpack_their_image_once() {
    let mut node = Node::new();
    node.image("i", Packing::Gzip, &[("disk/d.img", &disk_of(8 << 20))]);
    let instances = (0..8).map(|number| {
        let mut vmi = vmi("u1", json!([root("i")]));
        vmi.metadata.name = Some(format!("web-{number}"));
        vmi
    });
    let instances: Vec<_> = instances.collect();
    let prepared = futures::future::join_all(instances.iter().map(|vmi| node.prepare(vmi))).await;
    let bases: BTreeSet<_> =
        prepared.iter().map(|files| base(&files.as_ref().unwrap()[0])).collect();
    assert_eq!(bases.len(), 1);
    let unpacked = fs::read_dir(node.dirs().state.join("images")).unwrap();
    let names: Vec<_> = unpacked.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "one directory and its lock: {names:?}");
}

#[tokio::test]
async fn the_manifest_for_this_platform_is_taken_from_a_nested_index() {
    let mut node = Node::new();
    let ours = node.manifest(Packing::Plain, &[&[("disk/d.img", b"for amd64")]]);
    let theirs = node.manifest(Packing::Plain, &[&[("disk/d.img", b"for arm64")]]);
    let entry = |digest: &str, architecture: &str| {
        let platform = json!({ "os": "linux", "architecture": architecture });
        json!({ "mediaType": MANIFEST, "digest": digest, "platform": platform })
    };
    let index = json!({ "manifests": [entry(&theirs, "arm64"), entry(&ours, "amd64")] });
    let index = node.blob(index.to_string().as_bytes());
    node.publish("many", INDEX, &index);
    let files = node.prepare(&vmi("u1", json!([root("many")]))).await.unwrap();
    assert_eq!(fs::read(base(&files[0])).unwrap(), b"for amd64");
}

#[tokio::test]
async fn an_upper_layer_hides_the_disk_of_a_lower_one() {
    let mut node = Node::new();
    let layers: [&[(&str, &[u8])]; 3] = [
        &[("disk/old.img", b"old"), ("disk/older.img", b"older")],
        &[("disk/.wh.old.img", b"")],
        &[("disk/.wh..wh..opq", b""), ("disk/new.img", b"new"), ("etc/passwd", b"root")],
    ];
    let manifest = node.manifest(Packing::Plain, &layers);
    node.publish("layered", MANIFEST, &manifest);
    let files = node.prepare(&vmi("u1", json!([root("layered")]))).await.unwrap();
    assert_eq!(fs::read(base(&files[0])).unwrap(), b"new");
}

#[tokio::test]
async fn an_image_must_hold_exactly_one_disk_unless_a_path_chooses() {
    let mut node = Node::new();
    node.image("two", Packing::Plain, &[("disk/a.img", b"a"), ("disk/b.img", b"b")]);
    node.image("none", Packing::Plain, &[("etc/passwd", b"root")]);
    let two = node.refusal(root("two")).await;
    assert_eq!(
        two.to_string(),
        "image two cannot be used: it has more than one file in /disk: disk/a.img, disk/b.img"
    );
    assert!(!two.is_retryable() && two.is_about_the_image());
    let none = node.refusal(root("none")).await.to_string();
    assert_eq!(none, "image none cannot be used: it has no file in /disk");
    let chosen =
        json!({ "name": "root", "containerDisk": { "image": "two", "path": "/disk/b.img" } });
    let files = node.prepare(&vmi("u1", json!([chosen]))).await.unwrap();
    assert_eq!(fs::read(base(&files[0])).unwrap(), b"b");
}

#[tokio::test]
async fn an_image_that_is_not_there_yet_is_worth_another_try() {
    let mut node = Node::new();
    let error = node.refusal(root("later")).await;
    assert!(error.is_retryable() && error.is_about_the_image(), "{error}");
    node.image("later", Packing::Plain, &[("disk/d.img", b"disk")]);
    node.prepare(&vmi("u1", json!([root("later")]))).await.unwrap();
}

#[tokio::test]
async fn a_damaged_layer_is_refused_and_leaves_nothing_behind() {
    let mut node = Node::new();
    node.image("i", Packing::Plain, &[("disk/d.img", &disk_of(64 << 10))]);
    let blobs = node.dirs().images.join("blobs/sha256");
    let largest = fs::read_dir(blobs).unwrap().map(|blob| blob.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = fs::read(&largest).unwrap();
    content[1000] ^= 1;
    fs::write(&largest, &content).unwrap();
    let error = node.refusal(root("i")).await;
    assert!(error.to_string().contains("is damaged"), "{error}");
    let left: Vec<_> = fs::read_dir(node.dirs().state.join("images")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock file: {left:?}");
}

#[tokio::test]
async fn an_image_that_would_open_other_files_of_the_host_is_refused() {
    let mut node = Node::new();
    let mut disk = vec![0; 512];
    disk[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    disk[15] = 0x70;
    node.image("evil", Packing::Plain, &[("disk/d.qcow2", &disk)]);
    let error = node.refusal(root("evil")).await.to_string();
    assert_eq!(error, "image evil cannot be used: it is a qcow2 file on top of another file");
}

#[tokio::test]
async fn zeroes_of_a_disk_take_no_space() {
    use std::os::unix::fs::MetadataExt as _;
    let mut node = Node::new();
    node.image("i", Packing::Gzip, &[("disk/d.img", &disk_of(16 << 20))]);
    let files = node.prepare(&vmi("u1", json!([root("i")]))).await.unwrap();
    let metadata = fs::metadata(base(&files[0])).unwrap();
    assert_eq!(metadata.len(), 16 << 20);
    assert!(metadata.blocks() * 512 <= 1 << 20, "{} blocks", metadata.blocks());
}

#[tokio::test]
async fn cloud_init_gets_its_files_on_a_drive_with_the_label_it_looks_for() {
    let node = Node::new();
    let volumes = json!([
        { "name": "one", "cloudInitNoCloud": { "userData": "#!/bin/sh\necho one\n" } },
        { "name": "two", "cloudInitConfigDrive": { "userDataBase64": "ZWNobyB0d28=", "networkData": "version: 2" } },
    ]);
    let mut vmi = vmi("5e0f4b2e-0000-4000-8000-000000000001", volumes);
    vmi.spec.hostname = Some("front".into());
    let files = node.prepare(&vmi).await.unwrap();
    let volume_label = |path: &Path| {
        let mut file = fs::File::open(path).unwrap();
        let mut label = [0; 32];
        file.seek(SeekFrom::Start(0x8028)).unwrap();
        file.read_exact(&mut label).unwrap();
        String::from_utf8_lossy(&label).trim().to_owned()
    };
    assert_eq!(volume_label(&files[0].path), "cidata");
    assert!(holds(&files[0].path, "echo one"));
    assert!(holds(
        &files[0].path,
        r#"{"instance-id":"5e0f4b2e-0000-4000-8000-000000000001","local-hostname":"front"}"#
    ));
    assert_eq!(volume_label(&files[1].path), "config-2");
    assert!(holds(&files[1].path, "echo two"));
    assert!(holds(&files[1].path, r#""instance_id":"web.default""#));
    assert!(holds(&files[1].path, "version: 2"));
    let home = fs::read_dir(node.dirs().of_domain("default_web")).unwrap();
    assert_eq!(home.count(), 3, "two drives and the uid, no leftovers");
}

#[tokio::test]
async fn user_data_from_a_secret_reaches_the_drive_and_nothing_else() {
    let node = Node::new();
    let mut vmi = vmi(
        "u1",
        json!([{ "name": "init", "cloudInitNoCloud": { "secretRef": { "name": "s" } } }]),
    );
    assert_eq!(secret_names(&vmi), BTreeSet::from(["s".to_owned()]));
    let missing = node.prepare(&vmi).await.unwrap_err();
    assert_eq!(missing.to_string(), "spec.volumes[0].cloudInitNoCloud: secret s does not exist");
    assert!(missing.is_retryable());
    let mut secrets = Secrets::default();
    secrets.insert("s", BTreeMap::from([("userdata".into(), b"password: hunter2".to_vec())]));
    assert!(!format!("{secrets:?}").contains("hunter2"));
    let files = prepare(&vmi, &node.dirs(), &secrets).await.unwrap();
    assert!(holds(&files[0].path, "hunter2"));
    assert_eq!(files[0].path.metadata().unwrap().permissions().mode() & 0o077, 0);
    vmi.spec.volumes[0].cloud_init_no_cloud.as_mut().unwrap().user_data = Some("x".into());
    let both = prepare(&vmi, &node.dirs(), &secrets).await.unwrap_err();
    assert_eq!(
        both.to_string(),
        "spec.volumes[0].cloudInitNoCloud must have only one userdatasource set."
    );
}

#[tokio::test]
async fn a_secret_volume_shows_each_key_as_a_file() {
    let node = Node::new();
    let volume = json!({ "name": "files", "secret": { "secretName": "s", "volumeLabel": "keys" } });
    let vmi = vmi("u1", json!([volume]));
    let mut secrets = Secrets::default();
    secrets.insert("s", BTreeMap::from([("id_ed25519".into(), b"PRIVATE KEY".to_vec())]));
    let files = prepare(&vmi, &node.dirs(), &secrets).await.unwrap();
    assert!(holds(&files[0].path, "PRIVATE KEY"));
    secrets.insert("s", BTreeMap::from([("../../etc/shadow".into(), Vec::new())]));
    let refused = prepare(&vmi, &node.dirs(), &secrets).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be a file name"), "{refused}");
}

#[tokio::test]
async fn more_inline_user_data_than_kubevirt_takes_is_refused_in_its_words() {
    let node = Node::new();
    let data = "x".repeat(2049);
    let refused = node.refusal(json!({ "name": "init", "cloudInitNoCloud": { "userData": data } }));
    let refused = refused.await;
    assert_eq!(
        refused.to_string(),
        "spec.volumes[0].cloudInitNoCloud userdata exceeds 2048 byte limit. \
         Should use UserDataSecretRef for larger data."
    );
    assert!(!refused.is_retryable());
}

#[tokio::test]
async fn a_volume_of_another_kind_is_refused_with_what_is_possible() {
    let node = Node::new();
    let claim = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "c" } });
    let refused = node.refusal(claim).await;
    assert_eq!(
        refused.to_string(),
        "spec.volumes[0]: persistentVolumeClaim is not supported; supported are containerDisk, \
         cloudInitNoCloud, cloudInitConfigDrive, emptyDisk and secret"
    );
    let unknown = node.refusal(json!({ "name": "data", "sysprep": {} })).await;
    assert!(unknown.to_string().contains("sysprep is not supported"), "{unknown}");
    let none = node.refusal(json!({ "name": "data" })).await;
    assert_eq!(none.to_string(), "spec.volumes[0] must have exactly one source type set");
}

#[tokio::test]
async fn a_volume_name_cannot_lead_out_of_the_directory() {
    let node = Node::new();
    let volume = json!({ "name": "../../web", "emptyDisk": { "capacity": "1Mi" } });
    let refused = node.refusal(volume).await.to_string();
    assert!(refused.starts_with("spec.volumes[0].name must be a DNS label"), "{refused}");
}

#[tokio::test]
async fn removing_twice_is_as_good_as_once() {
    let node = Node::new();
    let volume = json!({ "name": "extra", "emptyDisk": { "capacity": "1Mi" } });
    node.prepare(&vmi("u1", json!([volume]))).await.unwrap();
    for _ in 0..2 {
        remove("default_web", &node.dirs()).await.unwrap();
        assert!(!node.dirs().of_domain("default_web").exists());
    }
}
