//! Copies of disks that leave holes where there are zeroes.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

/// How much is copied at a time, in bytes; as much of zeroes becomes a hole.
pub(crate) const CHUNK: usize = 64 << 10;

static ZEROES: [u8; CHUNK] = [0; CHUNK];

/// What is about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Bytes of it.
    pub(crate) bytes: u64,
    /// Bytes of the copy with it.
    pub(crate) end: u64,
    /// It takes no room.
    pub(crate) is_hole: bool,
}

/// Copies all of `from` to a new file, which has its length then. `may`: asked before each
/// piece. `unread`: what it means that there is no more to read than there should be. Blocks.
///
/// # Errors
/// Those of the two, and the file's.
pub(crate) fn copy<E: From<io::Error>>(
    from: &mut impl Read,
    mut to: File,
    unread: impl Fn(io::Error) -> E,
    mut may: impl FnMut(Piece) -> Result<(), E>,
) -> Result<(), E> {
    let mut chunk = vec![0; CHUNK];
    let mut length = 0_u64;
    loop {
        let filled = fill(from, &mut chunk).map_err(&unread)?;
        if filled == 0 {
            return Ok(to.set_len(length)?);
        }
        let bytes = u64::try_from(filled).expect("a chunk is small");
        let end = length.saturating_add(bytes);
        let is_hole = chunk[..filled] == ZEROES[..filled];
        may(Piece { bytes, end, is_hole })?;
        if is_hole {
            to.seek(SeekFrom::Start(end))?;
        } else {
            to.write_all(&chunk[..filled])?;
        }
        length = end;
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_copy_is_equal_and_its_zeroes_are_holes_also_at_its_end() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("disk");
        let mut disk = vec![0; CHUNK * 8 + 5];
        disk[CHUNK * 3] = 7;
        let mut asked = Vec::new();
        let may = |piece: Piece| {
            asked.push((piece.end, piece.is_hole));
            io::Result::Ok(())
        };
        copy(&mut disk.as_slice(), File::create(&path).unwrap(), |error| error, may).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), disk);
        let taken = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!(taken <= 2 * CHUNK as u64, "{taken} bytes on the disk");
        assert_eq!(asked.iter().filter(|(_, is_hole)| !is_hole).count(), 1);
        assert_eq!(asked.last(), Some(&(disk.len() as u64, true)));
    }
}
