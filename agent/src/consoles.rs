//! What guests said on their serial consoles: of the start that runs, and of the one before.
//!
//! ```text
//! <state-dir>/vms/<domain>/console.log     libvirt opens it, QEMU appends
//!                         /console.log.1   what was said before that, once it grew too long
//! <state-dir>/consoles/<domain>.<uid of the VM>.log   the end of its last start
//! ```
//!
//! A guest may say as much as it likes, and the disk is everybody's: no file is longer than
//! [`LONGEST`] but for what is said within [`PERIOD`], and those of guests that have ended
//! are given up when they are old, or many. They are known by the uid of the VM, so that
//! none is ever shown to whoever has its name next; and by its name, since whose an instance
//! is its maker says.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crds::kubevirt::VirtualMachineInstance;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use crate::volumes::Dirs;

/// Bytes of a log after which another one is begun.
const LONGEST: u64 = 1 << 20;
/// How often logs are looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the log of a guest that has ended is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many bytes of them altogether.
const ROOM: u64 = 256 << 20;

const LOG: &str = "console.log";
const EARLIER: &str = "console.log.1";

/// The log of a domain's console.
pub(crate) fn log(dirs: &Dirs, domain: &str) -> PathBuf {
    dirs.of_domain(domain).join(LOG)
}

/// Keeps the logs of guests that run from growing, until told to stop.
pub(crate) async fn tend(dirs: Dirs, stop: CancellationToken) {
    let mut next = tokio::time::interval(PERIOD);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(next.tick()).await.is_some() {
        let homes = dirs.state.join("vms");
        let turned = tokio::task::spawn_blocking(move || turn_all(&homes)).await;
        if let Err(error) = turned.map_err(io::Error::from).flatten() {
            tracing::warn!(%error, "Logs of consoles cannot be kept short");
        }
    }
}

fn turn_all(homes: &Path) -> io::Result<()> {
    let homes = match fs::read_dir(homes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        homes => homes?,
    };
    let mut outcome = Ok(());
    for home in homes {
        match home.and_then(|home| turn(&home.path())) {
            // Its guest has just ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The others are turned all the same.
            Err(error) => outcome = Err(error),
            Ok(()) => {}
        }
    }
    outcome
}

/// Begins a log anew that is too long. QEMU goes on with the file that it has, so what is in
/// it is copied; what it appends between the two steps is lost.
fn turn(home: &Path) -> io::Result<()> {
    let log = home.join(LOG);
    if fs::metadata(&log)?.len() <= LONGEST {
        return Ok(());
    }
    let kept = end_of(&log, LONGEST).and_then(|end| write(&home.join(EARLIER), &end));
    // Above all on a disk that is full.
    File::options().write(true).open(&log)?.set_len(0)?;
    kept
}

/// What the guest of a domain has said last, at most so many bytes.
///
/// # Errors
/// There is no log, or no disk.
pub(crate) fn said(dirs: &Dirs, domain: &str, most: u64) -> io::Result<Vec<u8>> {
    let home = dirs.of_domain(domain);
    let now = end_of(&home.join(LOG), most)?;
    let room = most.saturating_sub(now.len() as u64);
    let mut said = match end_of(&home.join(EARLIER), room) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        earlier => earlier?,
    };
    said.extend(now);
    Ok(said)
}

/// Keeps what the guest of a domain has said, whose files are about to be removed.
///
/// # Errors
/// The disk.
pub(crate) fn keep(dirs: &Dirs, domain: &str, vmi: &VirtualMachineInstance) -> io::Result<()> {
    let Some(uid) = uid(vmi) else { return Ok(()) };
    let said = match said(dirs, domain, LONGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        said => said?,
    };
    if said.is_empty() {
        return Ok(());
    }
    let kept = kept(dirs);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&kept)?;
    write(&kept.join(name(domain, &uid)), &said)
}

/// What the guest of this VM said at its last start here.
///
/// # Errors
/// There was none, or no disk.
pub(crate) fn said_before(dirs: &Dirs, domain: &str, owner: &str) -> io::Result<Vec<u8>> {
    if !is_plain(owner) {
        return Err(io::ErrorKind::NotFound.into());
    }
    end_of(&kept(dirs).join(name(domain, owner)), LONGEST)
}

/// Removes logs of guests that ended long ago, and the oldest where there are too many.
///
/// # Errors
/// The disk. May be repeated.
pub(crate) fn sweep(dirs: &Dirs) -> io::Result<()> {
    let logs = match fs::read_dir(kept(dirs)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        logs => logs?,
    };
    let facts = |log: fs::DirEntry| log.metadata().and_then(|of| Log::of(log.path(), &of));
    let logs = logs.map(|log| log.and_then(facts)).collect::<io::Result<Vec<_>>>()?;
    surplus(logs, SystemTime::now()).iter().try_for_each(fs::remove_file)
}

/// The log of a guest that has ended.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    written: SystemTime,
    bytes: u64,
}

impl Log {
    fn of(path: PathBuf, metadata: &Metadata) -> io::Result<Self> {
        Ok(Self { path, written: metadata.modified()?, bytes: metadata.len() })
    }
}

/// Which logs are to go: old ones, and of the others the oldest until the rest has room.
fn surplus(mut logs: Vec<Log>, now: SystemTime) -> Vec<PathBuf> {
    logs.sort_by_key(|log| std::cmp::Reverse(log.written));
    let mut taken = 0;
    let is_surplus = |log: &Log| {
        taken += log.bytes;
        let age = now.duration_since(log.written).unwrap_or_default();
        taken > ROOM || age > KEPT
    };
    let mut is_surplus = is_surplus;
    logs.into_iter().filter(|log| is_surplus(log)).map(|log| log.path).collect()
}

/// Whose log it is: the VM's, of which an instance is one start, or that of an instance
/// without one.
fn uid(vmi: &VirtualMachineInstance) -> Option<String> {
    let owners = vmi.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    let uid = controllers.next().map(|owner| owner.uid.clone()).or_else(|| vmi.uid())?;
    is_plain(&uid).then_some(uid)
}

/// Whether it may become a file's name: an owner is written by users.
fn is_plain(uid: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&uid.len()) && uid.bytes().all(plain)
}

fn name(domain: &str, owner: &str) -> String {
    format!("{domain}.{owner}.log")
}

fn kept(dirs: &Dirs) -> PathBuf {
    dirs.state.join("consoles")
}

/// The last bytes of a file.
fn end_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    // It may grow while it is read.
    file.take(most).read_to_end(&mut end)?;
    Ok(end)
}

/// Writes a file that is there whole, or as it was before.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volumes::{Images, Settings};

    fn dirs(scratch: &tempfile::TempDir) -> Dirs {
        let state = scratch.path().to_owned();
        let images = Images::new(&state, state.clone(), Settings::default());
        Dirs { state, images, host_disks: vec![] }
    }

    fn vmi(owner: Option<&str>) -> VirtualMachineInstance {
        let owners = owner.map(|uid| {
            json!([{ "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web",
                     "uid": uid, "controller": true }])
        });
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "start-1",
                          "ownerReferences": owners },
            "spec": { "domain": { "devices": {} } },
        }))
        .unwrap()
    }

    #[test]
    fn a_log_that_grows_too_long_is_begun_anew_and_its_writer_goes_on() {
        let scratch = tempfile::tempdir().unwrap();
        let dirs = dirs(&scratch);
        let home = dirs.of_domain("default_web");
        fs::create_dir_all(&home).unwrap();
        let mut qemu = File::options().create(true).append(true).open(home.join(LOG)).unwrap();
        let long = usize::try_from(LONGEST).unwrap();
        qemu.write_all(&vec![b'a'; long]).unwrap();
        turn_all(&scratch.path().join("vms")).unwrap();
        assert!(!home.join(EARLIER).exists(), "it is just as long as it may be");

        qemu.write_all(b"end").unwrap();
        turn_all(&scratch.path().join("vms")).unwrap();
        qemu.write_all(b"begin").unwrap();
        assert_eq!(fs::read(home.join(LOG)).unwrap(), b"begin");
        let earlier = fs::read(home.join(EARLIER)).unwrap();
        assert_eq!(earlier.len(), long);
        assert!(earlier.ends_with(b"aend"));
        assert_eq!(said(&dirs, "default_web", 9).unwrap(), b"aendbegin");
        assert_eq!(said(&dirs, "default_web", 3).unwrap(), b"gin");
    }

    #[test]
    fn what_a_guest_said_outlives_its_start_in_the_name_of_its_vm() {
        let scratch = tempfile::tempdir().unwrap();
        let dirs = dirs(&scratch);
        let home = dirs.of_domain("default_web");
        keep(&dirs, "default_web", &vmi(Some("vm-1"))).unwrap();
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join(LOG), "panic").unwrap();
        keep(&dirs, "default_web", &vmi(Some("vm-1"))).unwrap();
        keep(&dirs, "default_web", &vmi(Some("../vm-2"))).unwrap();
        let kept: Vec<_> =
            fs::read_dir(kept(&dirs)).unwrap().map(|log| log.unwrap().path()).collect();
        assert_eq!(kept, [scratch.path().join("consoles/default_web.vm-1.log")]);
        assert_eq!(fs::read(&kept[0]).unwrap(), b"panic");
    }

    #[test]
    fn old_logs_go_and_of_too_many_the_oldest() {
        let now = SystemTime::UNIX_EPOCH + KEPT * 3;
        let log =
            |name: &str, age: Duration, bytes| Log { path: name.into(), written: now - age, bytes };
        let hour = Duration::from_secs(3600);
        let logs = vec![
            log("old", KEPT + hour, 1),
            log("second", hour * 2, ROOM / 2),
            log("third", hour * 3, 1),
            log("first", hour, ROOM / 2),
            log("tomorrow's", Duration::ZERO, 0),
        ];
        assert_eq!(surplus(logs, now), [PathBuf::from("third"), PathBuf::from("old")]);
    }
}
