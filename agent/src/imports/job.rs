//! One claim from its first byte to `Succeeded`, begun anew until it is.

use std::sync::Arc;
use std::time::Duration;

use crds::cdi::leave;
use crds::cdi::notes::IMPORTER;
use crds::kubevirt::VirtualMachineInstance;
use http::HeaderMap;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Semaphore;

use super::cut::{Cut, blocking};
use super::fault::Fault;
use super::given::Given;
use super::order::{self, Http, Origin, Source};
use super::pipe::{Progress, pipe};
use super::place::Place;
use super::sign::Keys;
use super::told::Told;
use super::{Bench, OVERHEAD, decoded, fetch, image, pulled, uploaded};

/// Before the second attempt; doubles up to the next.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Fills a claim. Dropping it leaves nothing that would be taken for finished.
pub(super) async fn run(bench: Bench, claim: PersistentVolumeClaim, places: Arc<Semaphore>) {
    let name = format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
    let told = Told::of(&bench.client, &claim);
    let mut restarts = order::restarts(&claim);
    let mut pause = FIRST_PAUSE;
    loop {
        let now = match current(&bench, &claim).await {
            Ok(now) => now,
            Err(Fault::Over) => return,
            // It may be done: nothing is said of it.
            Err(_) => {
                tokio::time::sleep(FIRST_PAUSE).await;
                continue;
            }
        };
        let said = match attempt(&bench, &now, &told, &places).await {
            Ok(()) => {
                tracing::info!(claim = name, "A claim is filled");
                return;
            }
            Err(Fault::Over) => return,
            Err(Fault::Final(why)) => {
                tracing::warn!(claim = name, why, "A claim cannot be filled");
                let _ = told.failed(&why).await;
                return;
            }
            Err(Fault::Waits(why)) => {
                pause = FIRST_PAUSE;
                told.waits(&why).await
            }
            Err(Fault::Passing(why)) => {
                tracing::info!(claim = name, why, "A claim is not filled yet");
                restarts = restarts.saturating_add(1);
                // Who sends it tries again soon, and not for long.
                if matches!(order::source(&now), Ok(Source::Upload)) {
                    pause = FIRST_PAUSE;
                }
                told.hindered(&why, restarts).await
            }
        };
        if said.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(
    bench: &Bench,
    claim: &PersistentVolumeClaim,
    told: &Told,
    places: &Semaphore,
) -> Result<(), Fault> {
    let place = place(bench, claim).await?;
    let source = order::source(claim)?;
    if source == Source::Upload {
        return uploaded::take(bench, claim, place, told, places).await;
    }
    // One is taken for as long as something is done: who waits or rests has none.
    let _place = places.acquire().await.map_err(Fault::passing("it is shut down"))?;
    // What somebody uses is not copied, and the claim does not say that it is.
    if let Source::Clone(of) = &source {
        may_copy(bench, claim, of).await?;
        idle(bench, of).await?;
    }
    told.begun().await?;
    let mut place = place;
    let place = blocking(move |_| place.begin().map(|()| place)).await?;
    let progress = Progress::default();
    let filled = async {
        match &source {
            Source::Blank => blank(place).await,
            Source::Upload => Err(Fault::Over),
            Source::Http(http) => {
                let wanted = of_server(bench, claim, http).await?;
                download(&wanted, http.checksum.clone(), place, &progress).await
            }
            Source::S3(object) => {
                let wanted = of_store(bench, claim, object).await?;
                download(&wanted, None, place, &progress).await
            }
            Source::Registry(image) => {
                pulled::pull(bench, claim, image, &place, &progress).await?;
                settle(place).await
            }
            Source::Clone(of) => copy(bench, of, place, &progress).await,
        }
    };
    tokio::select! {
        filled = filled => filled?,
        () = told.keep_saying(&progress) => {}
    }
    told.succeeded().await
}

/// The claim as it is now, if it is still this node's to fill.
async fn current(
    bench: &Bench,
    claim: &PersistentVolumeClaim,
) -> Result<PersistentVolumeClaim, Fault> {
    let namespace = claim.namespace().unwrap_or_default();
    let now = find(&bench.client, &namespace, &claim.name_any()).await?.ok_or(Fault::Over)?;
    let is_ours = now.labels().get(IMPORTER) == Some(&bench.node);
    if now.uid() != claim.uid() || !is_ours || !order::is_open(&now) {
        return Err(Fault::Over);
    }
    Ok(now)
}

async fn find(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<PersistentVolumeClaim>, Fault> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(Fault::passing(format!("claim {name} cannot be read")))
}

async fn place(bench: &Bench, claim: &PersistentVolumeClaim) -> Result<Place, Fault> {
    let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
    let api: Api<PersistentVolume> = Api::all(bench.client.clone());
    let volume = api.get_opt(&bound).await.map_err(Fault::passing("the volume cannot be read"))?;
    let (claim, state) = (claim.clone(), bench.state.clone());
    blocking(move |_| {
        let uid = claim.uid().unwrap_or_default();
        Place::of(&claim, volume.as_ref(), &state, &uid)
    })
    .await
}

async fn blank(place: Place) -> Result<(), Fault> {
    blocking(move |cut| place.finish_blank(cut)).await
}

async fn download(
    wanted: &fetch::Wanted,
    checksum: Option<String>,
    place: Place,
    progress: &Progress,
) -> Result<(), Fault> {
    let (sender, received) = pipe();
    let (to, limit) = (place.source(), place.room.saturating_add(OVERHEAD));
    let writing = blocking(move |_| decoded::write(received, &to, limit, checksum.as_deref()));
    let fetching = async {
        let fetched = fetch::fetch(wanted, &sender, progress).await;
        // Whoever reads waits for the end, or for this.
        drop(sender);
        fetched
    };
    let (written, fetched) = tokio::join!(writing, fetching);
    fetched?;
    written?;
    settle(place).await
}

/// Makes of what came from elsewhere the disk.
pub(super) async fn settle(place: Place) -> Result<(), Fault> {
    image::convert(&place.source(), &place.unfinished(), place.room).await?;
    blocking(move |cut| place.finish(cut)).await
}

/// What a store is asked for, signed if a Secret says by whom.
async fn of_store(
    bench: &Bench,
    claim: &PersistentVolumeClaim,
    object: &Http,
) -> Result<fetch::Wanted, Fault> {
    let given = Given::to(&bench.client, claim);
    let mut keys = None;
    if let Some(name) = &object.secret {
        let held = given.secret(name).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (id, secret) = held.needed_login()?;
        keys = Some(Keys { id: text(id), secret: text(secret) });
    }
    let certificates = given.certificates(object.certificates.as_deref()).await?;
    Ok(fetch::Wanted { url: object.url.clone(), headers: HeaderMap::new(), certificates, keys })
}

/// What a server is asked for, with what Secrets and ConfigMaps say of it.
async fn of_server(
    bench: &Bench,
    claim: &PersistentVolumeClaim,
    http: &Http,
) -> Result<fetch::Wanted, Fault> {
    let given = Given::to(&bench.client, claim);
    let mut lines = http.headers.clone();
    for name in &http.secret_headers {
        let values = given.secret(name).await?.data.into_values();
        lines.extend(values.map(|value| String::from_utf8_lossy(&value).into_owned()));
    }
    let mut headers = fetch::headers(lines.iter().map(String::as_str))?;
    if let Some(name) = &http.secret {
        let held = given.secret(name).await?;
        let (user, password) = held.needed_login()?;
        fetch::log_in(&mut headers, user, password);
    }
    let certificates = given.certificates(http.certificates.as_deref()).await?;
    Ok(fetch::Wanted { url: http.url.clone(), headers, certificates, keys: None })
}

async fn copy(bench: &Bench, of: &Origin, place: Place, progress: &Progress) -> Result<(), Fault> {
    let missing = || Fault::Passing(format!("Source PVC {of} not found"));
    let source = find(&bench.client, &of.namespace, &of.name).await?.ok_or_else(missing)?;
    let from = self::place(bench, &source).await?;
    let (to, room, progress) = (place.unfinished(), place.room, progress.clone());
    blocking(move |cut| copied(from.read()?, &to, room, &progress, cut)).await?;
    // Nobody has written to it meanwhile.
    idle(bench, of).await?;
    blocking(move |cut| place.finish(cut)).await
}

/// Copies a raw disk, with its holes. Blocks.
fn copied(
    mut source: std::fs::File,
    to: &std::path::Path,
    room: u64,
    progress: &Progress,
    cut: &Cut,
) -> Result<(), Fault> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    use std::os::unix::fs::FileExt as _;
    let size = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(0))?;
    if size > room {
        return Err(decoded::too_large(size, room));
    }
    progress.expect(size);
    let disk = std::fs::File::create_new(to)?;
    disk.set_len(size)?;
    let mut chunk = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        cut.check()?;
        let read = source.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        if chunk[..read].iter().any(|byte| *byte != 0) {
            disk.write_all_at(&chunk[..read], at)?;
        }
        at += u64::try_from(read).unwrap_or(0);
        progress.add(read);
    }
}

/// That the claim may be a copy of that one. Whoever may write claims writes where one is copied
/// from, and may perhaps read nowhere but in its namespace.
async fn may_copy(bench: &Bench, claim: &PersistentVolumeClaim, of: &Origin) -> Result<(), Fault> {
    let to = claim.namespace().unwrap_or_default();
    if to == of.namespace {
        return Ok(());
    }
    let api: Api<SubjectAccessReview> = Api::all(bench.client.clone());
    let asked = api.create(&PostParams::default(), &leave::question(&of.namespace, &to)).await;
    let asked = asked.map_err(Fault::passing("whether it may be copied cannot be asked"))?;
    if leave::is_given(&asked) {
        return Ok(());
    }
    Err(Fault::Passing(leave::refusal(&of.namespace, &to)))
}

/// That no VM runs on that claim.
async fn idle(bench: &Bench, of: &Origin) -> Result<(), Fault> {
    match user(&bench.client, &of.namespace, &of.name).await? {
        Some(vm) => Err(Fault::Waits(format!("Source PVC {of} is in use by VM {vm}: stop it"))),
        None => Ok(()),
    }
}

/// A VM that has a disk on a claim, wherever it runs: nodes may share what is behind it.
pub(super) async fn user(
    client: &Client,
    namespace: &str,
    claim: &str,
) -> Result<Option<String>, Fault> {
    let api: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await;
    let all = all.map_err(Fault::passing("the VMs cannot be listed"))?;
    Ok(all.items.iter().find(|vm| uses(vm, claim)).map(ResourceExt::name_any))
}

fn uses(vm: &VirtualMachineInstance, claim: &str) -> bool {
    let names = vm.spec.volumes.iter().filter_map(|volume| volume.claim());
    let names = names.map(|(name, _)| name.to_owned());
    // Also what a guest still holds that is to go.
    let held = vm.status.iter().flat_map(|status| &status.volume_status);
    let held = held.filter_map(|one| one.persistent_volume_claim_info.as_ref());
    let held = held.filter_map(|info| info.claim_name.clone());
    !vm.phase().is_final() && names.chain(held).any(|name| name == claim)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_is_used_by_a_guest_of_any_node_until_that_has_ended() {
        let vm = |node: &str, phase: &str, status: Value| -> VirtualMachineInstance {
            let volumes = json!([{"name": "a", "persistentVolumeClaim": {"claimName": "root"}}]);
            let volumes = if status.is_null() { volumes } else { json!([]) };
            serde_json::from_value(json!({
                "metadata": {"name": "web", "labels": {"kubevirt.io/nodeName": node}},
                "spec": {"domain": {"devices": {}}, "volumes": volumes},
                "status": {"phase": phase, "volumeStatus": status.as_array().cloned().unwrap_or_default()},
            }))
            .unwrap()
        };
        for node in ["n1", "n2", ""] {
            assert!(uses(&vm(node, "Running", Value::Null), "root"), "{node}");
        }
        assert!(uses(&vm("n1", "Pending", Value::Null), "root"));
        assert!(!uses(&vm("n1", "Succeeded", Value::Null), "root"));
        assert!(!uses(&vm("n1", "Running", Value::Null), "data"));
        let held = json!([{"name": "a", "target": "", "persistentVolumeClaimInfo": {"claimName": "root"}}]);
        assert!(uses(&vm("n1", "Running", held), "root"), "what is to go is still held");
    }

    #[test]
    fn a_copy_that_nobody_waits_for_ends() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::write(&from, vec![7; 1 << 20]).unwrap();
        let open = || std::fs::File::open(&from).unwrap();
        let (to, progress) = (dir.path().join("to"), Progress::default());
        let cut = copied(open(), &to, 1 << 20, &progress, &Cut::dropped());
        assert!(matches!(cut, Err(Fault::Over)));
        assert_eq!(progress.text().as_deref(), Some("0.00%"), "not one piece was copied");
        std::fs::remove_file(&to).unwrap();
        copied(open(), &to, 1 << 20, &progress, &Cut::default()).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&from).unwrap());
    }
}
