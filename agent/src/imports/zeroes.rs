//! Zeroes on a device that had something else on it. Block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::off_t;

use super::cut::Cut;
use super::fault::Fault;

/// How much is zeroed at a time, in bytes: between two pieces it is asked whether to go on.
const PIECE: u64 = 64 << 20;
/// How much is written at a time where the kernel cannot zero by itself.
const CHUNK: u64 = 1 << 20;

/// How a device is zeroed, the cheapest first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// It gives the room back, where it reads as zeroes then.
    Discard,
    /// The kernel or the device writes them.
    Zero,
    /// They are written from here.
    Write,
}

/// Makes of the bytes from `start` up to `end` zeroes.
pub(super) fn zero(device: &File, start: u64, end: u64, cut: &Cut) -> Result<(), Fault> {
    let mut way = Way::Discard;
    let mut at = start;
    while at < end {
        cut.check()?;
        let length = PIECE.min(end - at);
        match piece(device, way, at, length, cut) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV) if way == Way::Discard => {
                way = Way::Zero;
            }
            // A piece that does not end with a sector of the device is written, too.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV | Errno::EINVAL)
                if way != Way::Write =>
            {
                way = Way::Write;
            }
            Err(errno) => return Err(io::Error::from(errno).into()),
            Ok(()) => at += length,
        }
    }
    Ok(())
}

fn piece(device: &File, way: Way, at: u64, length: u64, cut: &Cut) -> nix::Result<()> {
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let flags = match way {
        Way::Discard => keep | FallocateFlags::FALLOC_FL_PUNCH_HOLE,
        Way::Zero => keep | FallocateFlags::FALLOC_FL_ZERO_RANGE,
        Way::Write => return written(device, at, length, cut),
    };
    let number = |bytes: u64| off_t::try_from(bytes).map_err(|_| Errno::EFBIG);
    fallocate(device, flags, number(at)?, number(length)?)
}

fn written(device: &File, at: u64, length: u64, cut: &Cut) -> nix::Result<()> {
    let chunk = vec![0; usize::try_from(CHUNK).unwrap_or(0)];
    let end = at + length;
    let mut at = at;
    while at < end && cut.check().is_ok() {
        let part = usize::try_from(CHUNK.min(end - at)).unwrap_or(chunk.len());
        let wrote = device.write_all_at(&chunk[..part], at);
        wrote.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        at += u64::try_from(part).unwrap_or(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirty(bytes: usize) -> (tempfile::NamedTempFile, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; bytes]).unwrap();
        let device = File::options().read(true).write(true).open(file.path()).unwrap();
        (file, device)
    }

    #[test]
    fn what_is_behind_the_start_is_zero_and_what_is_before_it_stays() {
        let bytes = 3 << 20;
        let (file, device) = dirty(bytes);
        zero(&device, 1 << 20, bytes as u64, &Cut::default()).unwrap();
        let held = std::fs::read(file.path()).unwrap();
        assert_eq!(held.len(), bytes);
        assert!(held[..1 << 20].iter().all(|byte| *byte == 7));
        assert!(held[1 << 20..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn where_the_kernel_cannot_zero_it_is_written() {
        let (file, device) = dirty(100_000);
        piece(&device, Way::Write, 4096, 90_000, &Cut::default()).unwrap();
        let held = std::fs::read(file.path()).unwrap();
        assert!(held[4096..94_096].iter().all(|byte| *byte == 0));
        assert_eq!((held[4095], held[94_096]), (7, 7));
    }
}
