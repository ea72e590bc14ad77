use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::registry::tests::{Door, Fake, Trick, keyring};

static ANONYMOUS: LazyLock<Keyring> = LazyLock::new(Keyring::default);

/// A node whose agent may be started anew.
struct Node {
    dir: tempfile::TempDir,
    settings: Settings,
}

impl Node {
    fn beside(fake: &Fake) -> Self {
        let settings = Settings { plain: vec![fake.host.clone()], ..Settings::default() };
        Self { dir: tempfile::tempdir().unwrap(), settings }
    }

    fn images(&self) -> Images {
        let state = self.dir.path().join("state");
        Images::new(&state, self.dir.path().join("layout"), self.settings.clone())
    }

    /// The files that are left of what did not come to an end.
    fn partial(&self) -> Vec<u64> {
        let listed = fs::read_dir(self.dir.path().join("state/pulled/partial"));
        listed.into_iter().flatten().map(|file| file.unwrap().metadata().unwrap().len()).collect()
    }
}

/// A layer with these files, packed.
fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

/// Bytes that no packing makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Pushes an image of these layers.
fn push(fake: &Fake, tag: &str, layers: &[Vec<u8>]) {
    let layer = |content: &Vec<u8>| {
        let (digest, size) = fake.blob(content.clone());
        json!({ "digest": digest, "size": size })
    };
    let layers: Vec<_> = layers.iter().map(layer).collect();
    fake.manifest(tag, &json!({ "schemaVersion": 2, "layers": layers }));
}

fn push_disk(fake: &Fake, tag: &str, content: &[u8]) {
    push(fake, tag, &[layer(&[("disk/d.img", content)])]);
}

fn of<'a>(image: &'a str, keyring: &'a Keyring) -> Wanted<'a> {
    Wanted { image, path: None, policy: Policy::ByName, keyring, holder: "u1", way: None }
}

async fn reads(images: &Images, wanted: Wanted<'_>) -> Vec<u8> {
    fs::read(images.disk(&wanted).await.unwrap().path).unwrap()
}

#[tokio::test]
async fn an_image_is_pulled_once_and_asked_for_as_its_policy_says() {
    let fake = Fake::start().await;
    push_disk(&fake, "latest", b"newest");
    push_disk(&fake, "1", b"first");
    let node = Node::beside(&fake);
    let (newest, first) = (format!("{}/a", fake.host), format!("{}/a:1", fake.host));
    assert_eq!(reads(&node.images(), of(&newest, &ANONYMOUS)).await, b"newest");
    assert_eq!(reads(&node.images(), of(&first, &ANONYMOUS)).await, b"first");
    let asked = fake.held.lock().asked.len();
    // Another agent of the node, with nothing but what is on the disk.
    let images = node.images();
    assert_eq!(reads(&images, of(&first, &ANONYMOUS)).await, b"first");
    let never = Wanted { policy: Policy::Never, ..of(&first, &ANONYMOUS) };
    assert_eq!(reads(&images, never).await, b"first");
    assert_eq!(fake.held.lock().asked.len(), asked, "nobody was asked");
    assert_eq!(reads(&images, of(&newest, &ANONYMOUS)).await, b"newest");
    let always = Wanted { policy: Policy::Always, ..of(&first, &ANONYMOUS) };
    assert_eq!(reads(&images, always).await, b"first");
    assert_eq!(fake.held.lock().asked.len(), asked + 2, "for two manifests");
    assert_eq!(fake.blobs_asked().len(), 2);

    push_disk(&fake, "1", b"second");
    assert_eq!(reads(&images, of(&first, &ANONYMOUS)).await, b"first");
    let always = Wanted { policy: Policy::Always, ..of(&first, &ANONYMOUS) };
    assert_eq!(reads(&images, always).await, b"second");
    let absent = format!("{}/b:1", fake.host);
    let never = Wanted { policy: Policy::Never, ..of(&absent, &ANONYMOUS) };
    let error = images.disk(&never).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImageNeverPull");
    assert!(error.to_string().ends_with("is not present with pull policy of Never"), "{error}");
}

#[tokio::test]
async fn those_who_want_an_image_at_once_have_it_pulled_once() {
    let fake = Fake::start().await;
    push_disk(&fake, "1", &noise(1 << 20));
    let node = Node::beside(&fake);
    let (images, image) = (node.images(), format!("{}/a:1", fake.host));
    let all = (0..8).map(|_| reads(&images, of(&image, &ANONYMOUS)));
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(|one| *one == noise(1 << 20)));
    assert_eq!(fake.blobs_asked().len(), 1);
    // And another disk of it needs no more.
    let error = images.disk(&Wanted { path: Some("/boot/k"), ..of(&image, &ANONYMOUS) }).await;
    assert!(error.unwrap_err().to_string().contains("it has no file boot/k"));
    assert_eq!(fake.blobs_asked().len(), 1);
}

#[tokio::test]
async fn what_has_come_of_a_layer_need_not_come_again() {
    let fake = Fake::start().await;
    let disk = noise(1 << 20);
    push_disk(&fake, "1", &disk);
    let node = Node::beside(&fake);
    let image = format!("{}/a:1", fake.host);
    // Nobody waits for it any more, or the agent is killed: what is there stays.
    fake.held.lock().trick = Trick::Stall(300_000);
    let stuck = tokio::spawn({
        let (images, image) = (node.images(), image.clone());
        async move { images.disk(&of(&image, &ANONYMOUS)).await.map(drop) }
    });
    let has_come = async {
        while node.partial() != [300_000] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), has_come).await.unwrap();
    stuck.abort();
    let _ = stuck.await;
    fake.held.lock().trick = Trick::None;
    let images = node.images();
    assert_eq!(reads(&images, of(&image, &ANONYMOUS)).await, disk);
    let asked = fake.blobs_asked();
    assert!(asked.last().unwrap().ends_with(" bytes=300000-"), "{asked:?}");
    assert!(node.partial().is_empty());
}

#[tokio::test]
async fn a_registry_that_cannot_begin_in_the_middle_begins_anew() {
    let fake = Fake::start().await;
    let disk = noise(1 << 20);
    push_disk(&fake, "1", &disk);
    let node = Node::beside(&fake);
    let image = format!("{}/a:1", fake.host);
    fake.held.lock().trick = Trick::Cut(200_000);
    let cut = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err();
    assert!(cut.is_retryable() && cut.reason() == "ErrImagePull", "{cut}");
    fake.held.lock().trick = Trick::WithoutRanges;
    assert_eq!(reads(&node.images(), of(&image, &ANONYMOUS)).await, disk);
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_kept_by_nobody() {
    let fake = Fake::start().await;
    push_disk(&fake, "1", &noise(1 << 20));
    let node = Node::beside(&fake);
    let image = format!("{}/a:1", fake.host);
    for (trick, words) in
        [(Trick::Other, "is not what its digest says"), (Trick::More(1), "it has more than its")]
    {
        fake.held.lock().trick = trick;
        let error = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err();
        assert!(error.to_string().contains(words) && error.is_retryable(), "{error}");
    }
    fake.held.lock().trick = Trick::None;
    let images = node.images();
    assert_eq!(reads(&images, of(&image, &ANONYMOUS)).await, noise(1 << 20));
    // Damaged on the disk, and wanted for another file.
    let blobs = node.dir.path().join("state/pulled/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        let blob = blob.unwrap().path();
        if blob.metadata().unwrap().len() > 1 << 19 {
            fs::write(blob, noise(1 << 20)).unwrap();
        }
    }
    let error = images.disk(&Wanted { path: Some("x"), ..of(&image, &ANONYMOUS) }).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("is damaged on the node's disk"), "{error}");
    let again = node.images().disk(&Wanted { path: Some("x"), ..of(&image, &ANONYMOUS) }).await;
    assert!(again.unwrap_err().to_string().contains("it has no file x"));
}

#[tokio::test]
async fn an_image_that_took_a_login_is_not_given_to_those_without() {
    let fake = Fake::start().await;
    push_disk(&fake, "1", b"secret");
    fake.held.lock().door = Door::Bearer("u", "p");
    let node = Node::beside(&fake);
    let (images, image) = (node.images(), format!("{}/a:1", fake.host));
    let (mine, theirs) = (keyring(&fake.host, "u", "p", "1"), keyring(&fake.host, "u", "p", "2"));
    let stranger = Wanted { holder: "u0", ..of(&image, &ANONYMOUS) };
    let refused = images.disk(&stranger).await.unwrap_err().to_string();
    assert!(refused.contains("imagePullSecret"), "{refused}");
    assert_eq!(reads(&images, of(&image, &mine)).await, b"secret");
    let asked = fake.held.lock().asked.len();
    assert_eq!(reads(&images, of(&image, &mine)).await, b"secret");
    assert_eq!(fake.held.lock().asked.len(), asked, "it was given to this one before");
    let other = Wanted { holder: "u2", ..of(&image, &ANONYMOUS) };
    assert_eq!(images.disk(&other).await.unwrap_err().reason(), "ErrImagePull");
    let never = Wanted { policy: Policy::Never, ..other };
    let refused = node.images().disk(&never).await.unwrap_err();
    assert_eq!(refused.reason(), "ErrImageNeverPull");
    assert_eq!(reads(&images, of(&image, &theirs)).await, b"secret");
    assert!(fake.held.lock().asked.len() > asked, "the registry was asked");
    assert_eq!(fake.blobs_asked().len(), 1);
}

#[tokio::test]
async fn who_has_failed_waits_before_it_asks_again() {
    let fake = Fake::start().await;
    let node = Node::beside(&fake);
    let (images, image) = (node.images(), format!("{}/a:1", fake.host));
    let first = images.disk(&of(&image, &ANONYMOUS)).await.unwrap_err();
    assert_eq!((first.reason(), first.is_retryable()), ("ErrImagePull", true));
    assert!(first.to_string().contains("push it, or mend the image's name"), "{first}");
    let asked = fake.held.lock().asked.len();
    let second = images.disk(&of(&image, &ANONYMOUS)).await.unwrap_err();
    assert_eq!(second.reason(), "ImagePullBackOff");
    let words = format!("Back-off pulling image \"{image}\": ");
    assert!(second.to_string().starts_with(&words), "{second}");
    assert!(second.again().is_some_and(|again| again.as_secs() >= 8), "{second:?}");
    assert_eq!(fake.held.lock().asked.len(), asked);
    push_disk(&fake, "1", b"disk");
    let other = Wanted { holder: "u2", ..of(&image, &ANONYMOUS) };
    assert_eq!(reads(&images, other).await, b"disk");
    // What somebody else has brought is there for all.
    assert_eq!(reads(&images, of(&image, &ANONYMOUS)).await, b"disk");
}

#[tokio::test]
async fn an_image_has_no_more_than_the_node_takes() {
    let fake = Fake::start().await;
    push_disk(&fake, "bomb", &vec![0; 64 << 20]);
    push_disk(&fake, "large", &noise(3 << 20));
    let mut node = Node::beside(&fake);
    node.settings.image_bytes = 32 << 20;
    node.settings.cache_bytes = 2 << 20;
    let image = format!("{}/a:bomb", fake.host);
    let bomb = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err().to_string();
    assert!(bomb.contains("it unpacks to more than the node takes"), "{bomb}");
    let image = format!("{}/a:large", fake.host);
    let large = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err();
    assert!(large.to_string().contains("--image-cache-bytes"), "{large}");
    assert!(large.is_retryable());
    node.settings.image_bytes = 1 << 20;
    let large = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err().to_string();
    assert!(large.contains("--image-max-bytes"), "{large}");
}

#[tokio::test]
async fn what_stands_between_files_is_not_read_without_end() {
    let fake = Fake::start().await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(8 << 20);
    header.set_cksum();
    tar.append(&header, &*vec![b'a'; 8 << 20]).unwrap();
    push(&fake, "1", &[tar.into_inner().unwrap()]);
    let node = Node::beside(&fake);
    let image = format!("{}/a:1", fake.host);
    let error = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err().to_string();
    assert!(error.contains("longer than 1 MiB"), "{error}");
    let many: Vec<_> = (0..20).map(|number| format!("disk/{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    push(&fake, "2", &[layer(&many)]);
    let image = format!("{}/a:2", fake.host);
    let error = node.images().disk(&of(&image, &ANONYMOUS)).await.unwrap_err().to_string();
    assert!(error.contains("more than 16 files in /disk"), "{error}");
}

#[tokio::test]
async fn a_name_that_is_none_is_told_as_the_kubelet_tells_it() {
    let fake = Fake::start().await;
    let images = Node::beside(&fake).images();
    let error = images.disk(&of("team/A", &ANONYMOUS)).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("InvalidImageName", false));
    assert!(error.to_string().contains("invalid reference format"), "{error}");
    assert_eq!(Policy::parse(Some("")), Ok(Policy::ByName));
    let rule = Policy::parse(Some("Sometimes")).unwrap_err();
    assert!(rule.contains("\"IfNotPresent\""), "{rule}");
}
