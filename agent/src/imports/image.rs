//! From a file of any form to a raw disk.
//!
//! An image may be made to mislead who reads it. So what it lies on is read here, and refused;
//! and it is converted by a process that is nobody, may gain nothing, has one file to read and
//! one to write, both open already, and no room to write more than the disk. Blocks.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cut::Cut;
use super::decoded::too_large;
use super::fault::Fault;
use super::place::open_file;
use super::zeroes;

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
/// What such a process may have of memory, in bytes.
const MEMORY: u64 = 2 << 30;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

const QCOW2: [u8; 4] = *b"QFI\xfb";
/// Bit of qcow2's incompatible features: the data lies in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// How a file holds a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// As it is; a CD-ROM, too.
    Raw,
    Qcow2 {
        size: u64,
    },
}

/// A program that gets what users send: it is nobody, may gain nothing, and `file_size` is the
/// longest file that it can write.
pub(crate) fn confined(program: &str, file_size: Option<u64>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "prlimit", "--core=0"]);
    command.arg(format!("--as={MEMORY}"));
    command.args(file_size.map(|bytes| format!("--fsize={bytes}")));
    command.args(["--", program]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.current_dir("/");
    // Whoever gives up root gives up all further groups, too.
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// That a file holds a disk which fits. Blocks.
pub(super) fn check(file: &Path, room: u64) -> Result<(), Fault> {
    look(file, room).map(drop)
}

/// How a file holds a disk, which fits. Blocks.
fn look(file: &Path, room: u64) -> Result<Form, Fault> {
    let file = open_file(file)?;
    let form = form(&file)?;
    let size = match form {
        Form::Raw => file.metadata()?.len(),
        Form::Qcow2 { size } => size,
    };
    if size > room { Err(too_large(size, room)) } else { Ok(form) }
}

/// Makes of the file `from` the raw disk `to`, of at most `room` bytes. `from` may become it.
pub(super) async fn convert(from: &Path, to: &Path, room: u64) -> Result<(), Fault> {
    let (source, destination) = (from.to_owned(), to.to_owned());
    let look = tokio::task::spawn_blocking(move || {
        let form = look(&source, room)?;
        if form == Form::Raw {
            std::fs::rename(&source, &destination)?;
        }
        Ok::<_, Fault>(form)
    });
    match look.await.map_err(Fault::passing("an image was not looked at"))?? {
        Form::Raw => Ok(()),
        Form::Qcow2 { size } => {
            convert_qcow2(from, to, size).await?;
            tokio::fs::remove_file(from).await?;
            Ok(())
        }
    }
}

async fn convert_qcow2(from: &Path, to: &Path, size: u64) -> Result<(), Fault> {
    let source = open_file(from)?;
    let mut options = File::options();
    let disk = options.read(true).write(true).create_new(true).mode(0o600).open(to)?;
    disk.set_len(size)?;
    if nix::unistd::geteuid().is_root() {
        fchown(&source, Some(NOBODY), Some(NOBODY))?;
        fchown(&disk, Some(NOBODY), Some(NOBODY))?;
    }
    let kept = disk.try_clone()?;
    let mut command = confined("qemu-img", Some(size));
    // A file that is full of holes already; both are opened anew, by what they are.
    command.args([
        "convert",
        "-n",
        "--target-is-zero",
        "-t",
        "writeback",
        "-f",
        "qcow2",
        "-O",
        "raw",
    ]);
    command.args(["/dev/stdin", "/dev/stdout"]);
    command.stdin(source).stdout(disk).stderr(std::process::Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let running = command.spawn().map_err(Fault::passing("cannot run qemu-img"))?;
    let ended = tokio::time::timeout(LIMIT, running.wait_with_output()).await;
    let slow = |_| Fault::Final(format!("the image was not converted in {} s", LIMIT.as_secs()));
    let ended = ended.map_err(slow)?.map_err(Fault::passing("qemu-img"))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        let said: String = said.trim().chars().take(500).collect();
        return Err(Fault::Final(format!(
            "Unable to process data: qemu-img: {}: {said}",
            ended.status
        )));
    }
    if nix::unistd::geteuid().is_root() {
        fchown(&kept, Some(0), Some(0))?;
    }
    Ok(())
}

/// How a file holds a disk.
fn form(file: &File) -> Result<Form, Fault> {
    let mut head = Vec::new();
    file.take(512).read_to_end(&mut head)?;
    if !head.starts_with(&QCOW2) {
        return other(&head).map_or(Ok(Form::Raw), |name| {
            Err(Fault::Final(format!(
                "Unable to process data: format {name} is not served without CDI: convert it to qcow2 or raw"
            )))
        });
    }
    let refuse = |why: &str| Fault::Final(format!("Unable to process data: the image {why}"));
    let at = |offset: usize| -> Result<u64, Fault> {
        let bytes = head.get(offset..offset + 8).ok_or_else(|| refuse("is cut short"))?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("there are eight")))
    };
    if at(8)? != 0 {
        return Err(refuse("lies on another file"));
    }
    let version = at(0)? & u64::from(u32::MAX);
    if version >= 3 && at(72)? & EXTERNAL_DATA_FILE != 0 {
        return Err(refuse("has its data in another file"));
    }
    Ok(Form::Qcow2 { size: at(24)? })
}

/// The name of a form that is not raw and that nobody here reads.
fn other(head: &[u8]) -> Option<&'static str> {
    let vdi = [0x7f, 0x10, 0xda, 0xbe];
    [
        (0, &b"KDMV"[..], "vmdk"),
        (0, b"vhdxfile", "vhdx"),
        (0, b"conectix", "vpc"),
        (64, &vdi, "vdi"),
    ]
    .into_iter()
    .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
    .map(|(.., name)| name)
}

/// Makes a disk `bytes` long if it is shorter, for people of its group to read and write, and
/// safe from a power failure.
pub(super) fn settle(disk: &Path, bytes: u64) -> io::Result<()> {
    let mut options = File::options();
    let file = options.read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW).open(disk)?;
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o660))?;
    file.sync_all()
}

/// Writes the disk onto a device, which must be as large. Behind it the device is zero: what was
/// there is none of its new owner's.
pub(super) fn onto_device(disk: &Path, device: &Path, cut: &Cut) -> Result<(), Fault> {
    use std::io::{Seek as _, SeekFrom};
    let from = open_file(disk)?;
    let mut to = File::options().write(true).open(device)?;
    let (size, room) = (from.metadata()?.len(), to.seek(SeekFrom::End(0))?);
    if size > room {
        return Err(too_large(size, room));
    }
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        cut.check()?;
        let read = from.read_at(&mut chunk, at)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&chunk[..read], at)?;
        at += u64::try_from(read).unwrap_or(0);
    }
    zeroes::zero(&to, at, room, cut)?;
    Ok(to.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu_img(args: &[&str], path: &Path) {
        let made = Command::new("qemu-img").args(args).arg(path).arg("4M").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    #[tokio::test]
    async fn a_qcow2_file_becomes_a_raw_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("source"), dir.path().join("disk"));
        qemu_img(&["create", "-q", "-f", "qcow2"], &from);
        let wrote = Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", "write -P 7 1M 64k"])
            .arg(&from)
            .output()
            .unwrap();
        assert!(wrote.status.success());
        convert(&from, &to, 4 << 20).await.unwrap();
        let disk = std::fs::read(&to).unwrap();
        assert_eq!(disk.len(), 4 << 20);
        assert!(disk[1 << 20..(1 << 20) + 65_536].iter().all(|byte| *byte == 7));
        assert_eq!(disk.iter().filter(|byte| **byte != 0).count(), 65_536);
        assert!(!from.exists());
    }

    #[tokio::test]
    async fn an_image_that_is_too_large_or_lies_on_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("source"), dir.path().join("disk"));
        qemu_img(&["create", "-q", "-f", "qcow2"], &from);
        let told = convert(&from, &to, 1 << 20).await.unwrap_err().to_string();
        assert!(told.contains("4194304 is larger than the reported available storage 1048576"));
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname"], &from);
        let told = convert(&from, &to, 1 << 30).await.unwrap_err().to_string();
        assert!(told.contains("lies on another file"), "{told}");
        std::fs::write(&from, b"KDMV and more").unwrap();
        let told = convert(&from, &to, 1 << 30).await.unwrap_err().to_string();
        assert!(told.contains("format vmdk is not served"), "{told}");
    }

    #[tokio::test]
    async fn what_is_no_image_is_a_raw_disk_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("source"), dir.path().join("disk"));
        std::fs::write(&from, b"boot").unwrap();
        convert(&from, &to, 100).await.unwrap();
        settle(&to, 1000).unwrap();
        let disk = std::fs::read(&to).unwrap();
        assert!(disk.starts_with(b"boot") && disk.len() == 1000);
    }

    #[test]
    fn a_device_has_the_disk_and_nothing_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, device) = (dir.path().join("disk"), dir.path().join("device"));
        std::fs::write(&disk, b"boot").unwrap();
        std::fs::write(&device, vec![7; 3 << 20]).unwrap();
        assert!(matches!(onto_device(&disk, &device, &Cut::dropped()), Err(Fault::Over)));
        onto_device(&disk, &device, &Cut::default()).unwrap();
        let held = std::fs::read(&device).unwrap();
        assert!(held.starts_with(b"boot") && held.len() == 3 << 20);
        assert!(held[4..].iter().all(|byte| *byte == 0));
    }
}
