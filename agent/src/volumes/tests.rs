use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::registry::Digest;

/// An agent's directories, with an image layout that grows on request.
struct Node {
    dir: TempDir,
    images: Images,
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
        let layout = dir.path().join("images");
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let images = Images::new(&dir.path().join("state"), layout, Settings::default());
        Self { dir, images, index: Vec::new() }
    }

    fn layout(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn dirs(&self) -> Dirs {
        let path = |name: &str| self.dir.path().join(name);
        let (state, images) = (path("state"), self.images.clone());
        Dirs { state, images, host_disks: vec![path("disks")] }
    }

    fn blob(&self, content: &[u8]) -> String {
        let digest = Digest::of_bytes(content);
        fs::write(self.layout().join("blobs/sha256").join(digest.hex()), content).unwrap();
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
        fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
    }

    /// An image of one layer.
    fn image(&mut self, image: &str, packing: Packing, files: &[(&str, &[u8])]) {
        let manifest = self.manifest(packing, &[files]);
        self.publish(image, MANIFEST, &manifest);
    }

    async fn prepare(&self, vmi: &VirtualMachineInstance) -> Result<Vec<DiskFile>, VolumeError> {
        prepare(vmi, &self.dirs(), &Objects::default()).await
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
    assert_eq!(names.len(), 1, "one directory: {names:?}");
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
    assert!(!two.is_retryable() && two.reason() == "ErrImagePull");
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
    // A registry that nobody is.
    let later = "127.0.0.1:1/later:1";
    let error = node.refusal(root(later)).await;
    assert!(error.is_retryable() && error.reason() == "ErrImagePull", "{error}");
    node.image(later, Packing::Plain, &[("disk/d.img", b"disk")]);
    node.prepare(&vmi("u1", json!([root(later)]))).await.unwrap();
}

#[tokio::test]
async fn a_damaged_layer_is_refused_and_leaves_nothing_behind() {
    let mut node = Node::new();
    node.image("i", Packing::Plain, &[("disk/d.img", &disk_of(64 << 10))]);
    let blobs = node.layout().join("blobs/sha256");
    let largest = fs::read_dir(blobs).unwrap().map(|blob| blob.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = fs::read(&largest).unwrap();
    content[1000] ^= 1;
    fs::write(&largest, &content).unwrap();
    let error = node.refusal(root("i")).await;
    assert!(error.to_string().contains("is damaged"), "{error}");
    let left: Vec<_> = fs::read_dir(node.dirs().state.join("images")).unwrap().collect();
    assert_eq!(left.len(), 0, "{left:?}");
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

    let notes = [("kubevirt.io/cluster-instancetype-name".to_owned(), "u1.small".to_owned())];
    vmi.metadata.annotations.get_or_insert_default().extend(notes);
    let files = node.prepare(&vmi).await.unwrap();
    assert!(holds(&files[0].path, r#""instance-type":"u1.small""#));
    assert!(holds(&files[1].path, r#""instance_type":"u1.small""#));
}

#[tokio::test]
async fn user_data_from_a_secret_reaches_the_drive_and_nothing_else() {
    let node = Node::new();
    let mut vmi = vmi(
        "u1",
        json!([{ "name": "init", "cloudInitNoCloud": { "secretRef": { "name": "s" } } }]),
    );
    assert_eq!(References::of(&vmi).secrets, BTreeSet::from(["s".to_owned()]));
    let missing = node.prepare(&vmi).await.unwrap_err();
    assert_eq!(missing.to_string(), "spec.volumes[0].cloudInitNoCloud: secret s does not exist");
    assert!(missing.is_retryable());
    let mut secrets = Objects::default();
    secrets
        .insert_secret("s", BTreeMap::from([("userdata".into(), b"password: hunter2".to_vec())]));
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
    let mut secrets = Objects::default();
    secrets.insert_secret("s", BTreeMap::from([("id_ed25519".into(), b"PRIVATE KEY".to_vec())]));
    let files = prepare(&vmi, &node.dirs(), &secrets).await.unwrap();
    assert!(holds(&files[0].path, "PRIVATE KEY"));
    secrets.insert_secret("s", BTreeMap::from([("../../etc/shadow".into(), Vec::new())]));
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
    let dump = json!({ "name": "data", "memoryDump": { "claimName": "c" } });
    let refused = node.refusal(dump).await;
    assert_eq!(
        refused.to_string(),
        "spec.volumes[0]: memoryDump is not supported; supported are containerDisk, \
         cloudInitNoCloud, cloudInitConfigDrive, emptyDisk, hostDisk, persistentVolumeClaim, \
         dataVolume, ephemeral, configMap, secret, downwardAPI, serviceAccount and sysprep"
    );
    let unknown = node.refusal(json!({ "name": "data", "floppy": {} })).await;
    assert!(unknown.to_string().contains("floppy is not supported"), "{unknown}");
    let none = node.refusal(json!({ "name": "data" })).await;
    assert_eq!(none.to_string(), "spec.volumes[0] must have exactly one source type set");
}

#[tokio::test]
async fn a_volume_name_cannot_lead_out_of_the_directory() {
    let node = Node::new();
    let volume = json!({ "name": "../../web", "emptyDisk": { "capacity": "1Mi" } });
    let refused = node.refusal(volume).await.to_string();
    let words = "spec.volumes[0].name: a lowercase RFC 1123 label must consist of";
    assert!(refused.starts_with(words), "{refused}");
}

/// A ConfigMap, Secret or what else has named values.
fn entries(data: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}

async fn with_objects(
    node: &Node,
    volume: &Value,
    objects: &Objects,
) -> Result<DiskFile, VolumeError> {
    let mut files = prepare(&vmi("u1", json!([volume])), &node.dirs(), objects).await?;
    Ok(files.remove(0))
}

#[tokio::test]
async fn a_config_map_is_waited_for_in_the_kubelets_words_unless_it_is_optional() {
    let node = Node::new();
    let mut volume = json!({ "name": "app", "configMap": { "name": "settings" } });
    let mut objects = Objects::default();
    let missing = with_objects(&node, &volume, &objects).await.unwrap_err();
    assert_eq!(
        missing.to_string(),
        "MountVolume.SetUp failed for volume \"app\" : configmap \"settings\" not found"
    );
    assert_eq!((missing.reason(), missing.is_retryable()), ("FailedMount", true));
    objects.insert_config_map("settings", entries(&[("app.conf", "colour=blue")]));
    let disc = with_objects(&node, &volume, &objects).await.unwrap();
    assert!(holds(&disc.path, "colour=blue") && holds(&disc.path, "cfgdata"));
    volume["configMap"]["optional"] = json!(true);
    let disc = with_objects(&node, &volume, &Objects::default()).await.unwrap();
    assert!(!holds(&disc.path, "colour=blue"), "of an earlier call");
}

#[tokio::test]
async fn a_token_of_a_service_account_is_on_a_disc_that_only_root_reads() {
    let node = Node::new();
    let volume = json!({ "name": "login", "serviceAccount": { "serviceAccountName": "robot" } });
    let references = References::of(&vmi("u1", json!([volume])));
    assert_eq!(references.accounts, BTreeSet::from(["robot".to_owned()]));
    assert_eq!(references.config_maps, BTreeSet::from([API_AUTHORITY.to_owned()]));
    let mut objects = Objects::default();
    objects.insert_token("robot", "t0ken".to_owned());
    let missing = with_objects(&node, &volume, &objects).await.unwrap_err().to_string();
    assert!(missing.ends_with("configmap \"kube-root-ca.crt\" not found"), "{missing}");
    objects.insert_config_map(API_AUTHORITY, entries(&[("ca.crt", "PEM")]));
    assert!(!format!("{objects:?}").contains("t0ken"));
    let disc = with_objects(&node, &volume, &objects).await.unwrap();
    for words in ["t0ken", "default", "PEM"] {
        assert!(holds(&disc.path, words), "{words}");
    }
    assert_eq!(disc.path.metadata().unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn fields_of_the_instance_are_written_as_the_kubelet_writes_them() {
    let node = Node::new();
    let fields = json!([
        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
        { "path": "deep/uid", "fieldRef": { "fieldPath": "metadata.uid" } },
        { "path": "one", "fieldRef": { "fieldPath": "metadata.annotations['a/b']" } },
    ]);
    let volume = json!({ "name": "self", "downwardAPI": { "fields": fields } });
    let mut vmi = vmi("u1", json!([volume]));
    vmi.metadata.labels = Some(BTreeMap::from([
        ("tier".to_owned(), "gold".to_owned()),
        ("app".to_owned(), "w\"e\nb".to_owned()),
    ]));
    vmi.metadata.annotations = Some(BTreeMap::from([("a/b".to_owned(), "noted".to_owned())]));
    let files = prepare(&vmi, &node.dirs(), &Objects::default()).await.unwrap();
    assert!(holds(&files[0].path, "app=\"w\\\"e\\nb\"\ntier=\"gold\""));
    assert!(holds(&files[0].path, "u1") && holds(&files[0].path, "noted"));
}

#[tokio::test]
async fn a_drive_for_windows_setup_has_an_answer_file() {
    let node = Node::new();
    let volume = json!({ "name": "answers", "sysprep": { "secret": { "name": "answers" } } });
    let mut objects = Objects::default();
    objects.insert_secret("answers", entries(&[("note", "x")]));
    let refused = with_objects(&node, &volume, &objects).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "MountVolume.SetUp failed for volume \"answers\" : Sysprep drive should contain \
         autounattend.xml or unattend.xml but neither were found."
    );
    objects.insert_secret("answers", entries(&[("Autounattend.xml", "<unattend/>")]));
    let disc = with_objects(&node, &volume, &objects).await.unwrap();
    assert!(holds(&disc.path, "<unattend/>") && holds(&disc.path, "unattendCD"));
}

fn host_disk(node: &Node, kind: &str) -> Value {
    let path = node.dir.path().join("disks/deep/disk.img");
    json!({ "name": "data", "hostDisk": { "path": path, "type": kind } })
}

#[tokio::test]
async fn a_disk_of_the_host_is_made_once_and_outlives_its_vm() {
    let node = Node::new();
    fs::create_dir(node.dir.path().join("disks")).unwrap();
    let missing = node.refusal(host_disk(&node, "Disk")).await;
    assert!(missing.to_string().ends_with("disk.img is not a file"), "{missing}");
    assert!(missing.is_retryable());
    let mut volume = host_disk(&node, "DiskOrCreate");
    volume["hostDisk"]["capacity"] = json!("3Mi");
    let disk = with_objects(&node, &volume, &Objects::default()).await.unwrap();
    assert_eq!(disk.path.metadata().unwrap().len(), 3 << 20);
    assert_eq!(disk.format, Format::Raw);
    assert!(matches!(disk.medium, Medium::File { .. }));
    // What looks like an image with another one beneath it is a raw disk all the same.
    let mut file = fs::File::options().write(true).open(&disk.path).unwrap();
    file.write_all(b"QFI\xfb kept").unwrap();
    remove("default_web", &node.dirs()).await.unwrap();
    volume["hostDisk"]["capacity"] = json!("9Mi");
    let again = with_objects(&node, &volume, &Objects::default()).await.unwrap();
    assert_eq!(again, disk);
    assert_eq!(disk.path.metadata().unwrap().len(), 3 << 20);
    assert!(holds(&disk.path, "kept"));
    // Its maker was killed before it had a size.
    fs::File::create(&disk.path).unwrap();
    with_objects(&node, &volume, &Objects::default()).await.unwrap();
    assert_eq!(disk.path.metadata().unwrap().len(), 9 << 20);
}

#[tokio::test]
async fn a_disk_of_the_host_is_nowhere_but_where_it_may_be() {
    let node = Node::new();
    let disks = node.dir.path().join("disks");
    fs::create_dir(&disks).unwrap();
    fs::write(node.dir.path().join("secret.img"), "x").unwrap();
    std::os::unix::fs::symlink(node.dir.path().join("secret.img"), disks.join("link")).unwrap();
    for path in ["secret.img", "disks/link", "disks/../secret.img"] {
        let path = node.dir.path().join(path);
        let volume = json!({ "name": "data", "hostDisk": { "path": path, "type": "Disk" } });
        let refused = node.refusal(volume).await;
        assert!(!refused.is_retryable(), "{refused}");
        assert!(refused.to_string().starts_with("spec.volumes[0].hostDisk.path "), "{refused}");
    }
    let dirs = Dirs { host_disks: Vec::new(), ..node.dirs() };
    let vmi = vmi("u1", json!([host_disk(&node, "Disk")]));
    let refused = prepare(&vmi, &dirs, &Objects::default()).await.unwrap_err().to_string();
    assert!(refused.contains("HostDisk feature gate is not enabled"), "{refused}");
}

/// Objects with the claim `data`, bound to a volume on this directory.
fn claimed(directory: &Path) -> Objects {
    let object = |value: Value| serde_json::from_value(value).unwrap();
    let claim = json!({ "metadata": { "name": "data", "uid": "c1" }, "spec": { "volumeName": "pv" },
        "status": { "phase": "Bound" } });
    let volume = json!({ "metadata": { "name": "pv" }, "spec": {
        "claimRef": { "uid": "c1" },
        "capacity": { "storage": "4Mi" }, "local": { "path": directory } } });
    let mut objects = Objects::default();
    objects.insert_claim("data", object(claim), Some(serde_json::from_value(volume).unwrap()));
    objects
}

#[tokio::test]
async fn a_claim_holds_a_disk_of_its_size_that_stays_and_a_layer_over_it_does_not() {
    let node = Node::new();
    let directory = node.dir.path().join("pv");
    fs::create_dir(&directory).unwrap();
    let objects = claimed(&directory);
    let layer = json!({ "name": "data",
        "ephemeral": { "persistentVolumeClaim": { "claimName": "data" } } });
    let missing = with_objects(&node, &layer, &objects).await.unwrap_err();
    assert!(missing.to_string().ends_with("disk.img is not a file"), "{missing}");

    let volume = json!({ "name": "data",
        "persistentVolumeClaim": { "claimName": "data", "readOnly": true } });
    let absent = with_objects(&node, &volume, &Objects::default()).await.unwrap_err();
    assert_eq!(absent.to_string(), "failed to render launch manifest: didn't find PVC data");
    assert_eq!(absent.reason(), "FailedPvcNotFound");
    let disk = with_objects(&node, &volume, &objects).await.unwrap();
    assert_eq!(disk.path, directory.join("disk.img"));
    assert_eq!(disk.path.metadata().unwrap().len(), 4 << 20);
    assert!(disk.read_only);

    remove("default_web", &node.dirs()).await.unwrap();
    let over = with_objects(&node, &layer, &objects).await.unwrap();
    assert_eq!((over.format, over.medium), (Format::Qcow2, Medium::Own));
    let images = images("default_web", &node.dirs()).await.unwrap();
    assert_eq!(images, BTreeMap::new(), "it lies on no image");
    remove("default_web", &node.dirs()).await.unwrap();
    assert!(disk.path.exists() && !over.path.exists());

    fs::remove_file(&disk.path).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", &disk.path).unwrap();
    let refused = with_objects(&node, &volume, &objects).await.unwrap_err().to_string();
    assert!(refused.ends_with("disk.img is not a file"), "{refused}");
}

#[tokio::test]
async fn for_a_guest_that_comes_from_another_node_no_disk_is_made_that_is_not_there() {
    let node = Node::new();
    let disks = node.dir.path().join("disks");
    fs::create_dir_all(&disks).unwrap();
    let objects = claimed(&disks);
    let claim = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } });
    let mut made = host_disk(&node, "DiskOrCreate");
    made["hostDisk"]["capacity"] = json!("4Mi");
    for (volume, file) in [(made, None), (claim, Some(disks.join("disk.img")))] {
        let mut vmi = vmi("u1", json!([volume]));
        let state = json!({ "migrationUid": "m1", "targetNode": "n2" });
        vmi.status.get_or_insert_default().migration_state = serde_json::from_value(state).unwrap();
        assert!(vmi.migration().is_some());
        let refused = prepare(&vmi, &node.dirs(), &objects).await.unwrap_err().to_string();
        assert!(refused.contains("is not a file"), "{refused}");
        let path = file
            .unwrap_or_else(|| vmi.spec.volumes[0].host_disk.as_ref().unwrap().path.clone().into());
        assert!(!path.exists(), "{}", path.display());
        vmi.status = None;
        prepare(&vmi, &node.dirs(), &objects).await.unwrap();
        assert!(path.exists());
    }
}

#[tokio::test]
async fn a_kernel_comes_out_of_an_image() {
    let mut node = Node::new();
    node.image("boot:1", Packing::Gzip, &[("boot/vmlinuz", b"kernel"), ("boot/initrd", b"disk")]);
    let mut vmi = vmi("u1", json!([]));
    let mut start = 0;
    let mut boots = async |boot: Value| {
        let firmware = json!({ "kernelBoot": boot });
        vmi.spec.domain.firmware = serde_json::from_value(firmware).unwrap();
        start += 1;
        vmi.metadata.uid = Some(format!("u{start}"));
        node.prepare(&vmi).await?;
        kernel(&vmi, &node.dirs()).await
    };
    let container = json!({ "image": "boot:1", "kernelPath": "/boot/vmlinuz",
        "initrdPath": "/boot/initrd" });
    let found = boots(json!({ "container": container })).await.unwrap();
    assert_eq!(fs::read(found.kernel.unwrap()).unwrap(), b"kernel");
    assert_eq!(fs::read(found.initrd.unwrap()).unwrap(), b"disk");
    let none = boots(json!({ "container": { "image": "boot:1" } })).await.unwrap_err();
    assert!(none.to_string().contains("at least one of the following"), "{none}");
    let absent = json!({ "container": { "image": "boot:1", "kernelPath": "/boot/other" } });
    assert_eq!(boots(absent).await.unwrap_err().reason(), "ErrImagePull");
    let alone = boots(json!({ "kernelArgs": "quiet" })).await.unwrap_err();
    assert!(alone.to_string().contains("without an external kernel"), "{alone}");
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
