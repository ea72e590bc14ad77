//! From what a server sends to a file: checked, unpacked, with holes for zeroes. Blocks.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use ring::digest;

use super::fault::Fault;
use crate::sparse;

/// What unpacking xz may use of memory.
const XZ_MEMORY: &str = "--memlimit-decompress=268435456";

/// Writes what comes from `from` to `to`, at most `limit` bytes, and compares its checksum as
/// it comes with `checksum`.
pub(super) fn write(
    from: impl Read + Send + 'static,
    to: &Path,
    limit: u64,
    checksum: Option<&str>,
) -> Result<(), Fault> {
    let sum = checksum.map(Sum::parse).transpose()?;
    let mut hashed = Hashed { from, sum };
    let written = unpacked(&mut hashed, to, limit);
    if let Err(Fault::Passing(_)) = written {
        return written;
    }
    // What is damaged is the better explanation of whatever went wrong in it.
    if hashed.sum.is_some() {
        io::copy(&mut hashed, &mut io::sink())?;
    }
    match hashed.sum.map(Sum::differs) {
        Some(Some(found)) => Err(Fault::Final(format!(
            "Unable to process data: checksum mismatch: expected {}, got {found}",
            checksum.unwrap_or_default()
        ))),
        _ => written,
    }
}

fn unpacked<R: Read + Send>(hashed: &mut Hashed<R>, to: &Path, limit: u64) -> Result<(), Fault> {
    let mut buffered = BufReader::with_capacity(sparse::CHUNK, hashed);
    let head = buffered.fill_buf()?;
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::StorageFull => Fault::from(error),
        _ => Fault::Final(format!("Unable to process data: it cannot be unpacked: {error}")),
    };
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut decoder = flate2::bufread::MultiGzDecoder::new(buffered);
        copied(&mut decoder, to, limit, wrong)
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(buffered);
        let mut decoder = decoder.map_err(|error| wrong(io::Error::other(error)))?;
        copied(&mut decoder, to, limit, wrong)
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        std::thread::scope(|scope| {
            let mut xz = Xz::start()?;
            let input = xz.child.stdin.take();
            let mut output = xz.child.stdout.take().ok_or_else(|| io::Error::other("xz"))?;
            let feeding = scope.spawn(move || {
                let mut input = input.ok_or_else(|| io::Error::other("xz"))?;
                io::copy(&mut buffered, &mut input)
            });
            let copied = copied(&mut output, to, limit, wrong);
            drop(output);
            let fed = feeding.join().unwrap_or_else(|_| Err(io::Error::other("xz")));
            copied?;
            // What broke off is no fault of the file.
            if let Err(error) = fed
                && error.kind() == io::ErrorKind::ConnectionAborted
            {
                return Err(error.into());
            }
            xz.ended()
        })
    } else {
        copied(&mut buffered, to, limit, wrong)
    }
}

/// `xz`, in which a hostile file may use no more memory than it is given.
struct Xz {
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Xz {
    fn start() -> Result<Self, Fault> {
        let mut command = super::image::confined("xz", None);
        command.args(["--decompress", "--stdout", "--no-warn", XZ_MEMORY]);
        let mut command: Command = command;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Fault::passing("cannot run xz"))?;
        let said = child.stderr.take().map(|from| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let _ = from.take(500).read_to_end(&mut said);
                String::from_utf8_lossy(&said).trim().to_owned()
            })
        });
        Ok(Self { child, said })
    }

    fn ended(&mut self) -> Result<(), Fault> {
        let status = self.child.wait()?;
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        Err(Fault::Final(format!("Unable to process data: it cannot be unpacked: {said}")))
    }
}

impl Drop for Xz {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies all of it to a new file.
fn copied(
    from: &mut impl Read,
    to: &Path,
    limit: u64,
    wrong: impl Fn(io::Error) -> Fault,
) -> Result<(), Fault> {
    let file = File::options().write(true).create_new(true).open(to)?;
    sparse::copy(from, file, wrong, |piece| {
        if piece.end > limit { Err(too_large(piece.end, limit)) } else { Ok(()) }
    })
}

/// In CDI's words (`pkg/image/validate.go`).
pub(super) fn too_large(size: u64, room: u64) -> Fault {
    Fault::Final(format!(
        "Virtual image size {size} is larger than the reported available storage {room}. \
         A larger PVC is required."
    ))
}

/// What is hashed as it is read.
struct Hashed<R> {
    from: R,
    sum: Option<Sum>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if let Some(sum) = &mut self.sum {
            sum.update(&buffer[..read]);
        }
        Ok(read)
    }
}

/// A checksum, and what it should be.
struct Sum {
    wanted: String,
    state: State,
}

enum State {
    Md5(Box<md5::Context>),
    Ring(Box<digest::Context>),
}

impl Sum {
    fn parse(text: &str) -> Result<Self, Fault> {
        let (kind, wanted) = text.split_once(':').unwrap_or_default();
        let ring = |of| State::Ring(Box::new(digest::Context::new(of)));
        let state = match kind {
            "md5" => State::Md5(Box::new(md5::Context::new())),
            "sha1" => ring(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            "sha256" => ring(&digest::SHA256),
            "sha512" => ring(&digest::SHA512),
            _ => {
                let why = "the checksum must begin with md5:, sha1:, sha256: or sha512:";
                return Err(Fault::Final(why.to_owned()));
            }
        };
        Ok(Self { wanted: wanted.to_ascii_lowercase(), state })
    }

    fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Md5(context) => context.consume(bytes),
            State::Ring(context) => context.update(bytes),
        }
    }

    /// What it is, if it is not what it should be.
    fn differs(self) -> Option<String> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let found = match self.state {
            State::Md5(context) => hex(&context.finalize().0),
            State::Ring(context) => hex(context.finish().as_ref()),
        };
        (found != self.wanted).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use std::io::Cursor;

    use super::*;

    /// What becomes of these bytes.
    fn written(bytes: &[u8], limit: u64, checksum: Option<&str>) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("disk");
        let outcome = write(Cursor::new(bytes.to_vec()), &to, limit, checksum);
        outcome.map_err(|fault| fault.to_string())?;
        Ok(std::fs::read(&to).unwrap())
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What a program of the host makes of these bytes.
    fn by(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        std::fs::write(&path, bytes).unwrap();
        let made = Command::new(program).args(args).arg(&path).output().unwrap();
        assert!(made.status.success());
        made.stdout
    }

    #[test]
    fn what_is_packed_is_unpacked_whatever_it_is_called() {
        let mut plain = vec![7; 100_000];
        plain.extend(vec![0; 300_000]);
        plain.extend([1, 2, 3]);
        assert_eq!(written(&plain, 1 << 20, None).unwrap(), plain);
        assert_eq!(written(&gz(&plain), 1 << 20, None).unwrap(), plain);
        let xz = by("xz", &["--stdout", "-0"], &plain);
        assert_eq!(written(&xz, 1 << 20, None).unwrap(), plain);
        let zst = by("zstd", &["--stdout", "-q", "-1"], &plain);
        assert_eq!(written(&zst, 1 << 20, None).unwrap(), plain);
        assert_eq!(written(&[], 1 << 20, None).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn more_than_there_is_room_for_is_refused_packed_or_not() {
        let plain = vec![0; 1 << 20];
        let words = "larger than the reported available storage 65536";
        let xz = by("xz", &["--stdout", "-0"], &plain);
        for bytes in [plain.clone(), gz(&plain), xz] {
            let told = written(&bytes, 65_536, None).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn what_is_damaged_is_told_by_its_checksum_or_by_what_unpacks_it() {
        let mut damaged = gz(&[7; 100_000]);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        assert!(written(&damaged, 1 << 20, None).unwrap_err().contains("cannot be unpacked"));
        let wrong = Some("md5:00000000000000000000000000000000");
        assert!(written(&damaged, 1 << 20, wrong).unwrap_err().contains("checksum mismatch"));
        let mut cut = by("xz", &["--stdout", "-0"], &[7; 100_000]);
        cut.truncate(cut.len() - 8);
        assert!(written(&cut, 1 << 20, None).unwrap_err().contains("cannot be unpacked"));
    }

    #[test]
    fn checksums_are_of_what_is_sent() {
        let sums = [
            "md5:900150983cd24fb0d6963f7d28e17f72",
            "sha1:A9993E364706816ABA3E25717850C26C9CD0D89D",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ];
        for sum in sums {
            assert_eq!(written(b"abc", 10, Some(sum)).unwrap(), b"abc", "{sum}");
            let told = written(b"abd", 10, Some(sum)).unwrap_err();
            assert!(told.contains("checksum mismatch"), "{told}");
        }
        let told = written(b"abc", 10, Some("crc32:352441c2")).unwrap_err();
        assert!(told.contains("must begin with md5:"), "{told}");
    }

    #[test]
    fn what_breaks_off_is_tried_again() {
        let (sender, pipe) = super::super::pipe::pipe();
        let dir = tempfile::tempdir().unwrap();
        sender
            .blocking_send(Some(hyper::body::Bytes::from(gz(&[7; 100_000])).slice(..50)))
            .unwrap();
        drop(sender);
        let outcome = write(pipe, &dir.path().join("disk"), 1 << 20, Some("md5:00"));
        assert!(matches!(outcome, Err(Fault::Passing(_))), "{outcome:?}");
    }
}
