//! What the head of a disk image says; enough to tell formats apart and to
//! refuse images that would make QEMU open other files of the host.

use super::Format;

/// Bytes of a file that [`probe`] looks at.
pub(super) const HEAD: usize = 80;

const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Bit of the incompatible features: the data lies in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// The format of the image that begins with `head`.
///
/// # Errors
/// A text that says why the image must not be used.
pub(super) fn probe(head: &[u8]) -> Result<Format, &'static str> {
    if !head.starts_with(&MAGIC) {
        return Ok(Format::Raw);
    }
    let version = u32::from_be_bytes(at(head, 4)?);
    if u64::from_be_bytes(at(head, 8)?) != 0 {
        return Err("it is a qcow2 file on top of another file");
    }
    if version >= 3 && u64::from_be_bytes(at(head, 72)?) & EXTERNAL_DATA_FILE != 0 {
        return Err("it is a qcow2 file with its data in another file");
    }
    Ok(Format::Qcow2)
}

/// The file that the image beginning with `head` lies on, if it lies on one and that is
/// named within `head`. At offsets 8 and 16 of the header, QEMU's `docs/interop/qcow2.rst`.
pub(super) fn base(head: &[u8]) -> Option<&str> {
    if !head.starts_with(&MAGIC) {
        return None;
    }
    let offset = usize::try_from(u64::from_be_bytes(at(head, 8).ok()?)).ok()?;
    let length = usize::try_from(u32::from_be_bytes(at(head, 16).ok()?)).ok()?;
    let name = head.get(offset..offset.checked_add(length)?)?;
    std::str::from_utf8(name).ok().filter(|name| offset != 0 && !name.is_empty())
}

fn at<const N: usize>(head: &[u8], offset: usize) -> Result<[u8; N], &'static str> {
    let bytes = head.get(offset..offset + N).ok_or("it is a qcow2 file cut short")?;
    Ok(bytes.try_into().expect("the slice has this length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u32, backing: u64, incompatible: u64) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&version.to_be_bytes());
        head[8..16].copy_from_slice(&backing.to_be_bytes());
        head[72..80].copy_from_slice(&incompatible.to_be_bytes());
        head
    }

    #[test]
    fn anything_without_the_magic_is_raw() {
        assert_eq!(probe(b"\xeb\x58\x90mkfs.fat"), Ok(Format::Raw));
        assert_eq!(probe(b""), Ok(Format::Raw));
    }

    #[test]
    fn an_image_says_on_which_file_it_lies() {
        let mut on_another = head(3, 100, 0);
        on_another[16..20].copy_from_slice(&9_u32.to_be_bytes());
        on_another.resize(100, 0);
        on_another.extend(b"/a/b.img!and more");
        assert_eq!(base(&on_another), Some("/a/b.img!"));
        assert_eq!(base(&on_another[..105]), None, "cut short");
        assert_eq!(base(&head(3, 0, 0)), None);
        assert_eq!(base(b"no image"), None);
        let mut far = head(3, u64::MAX, 0);
        far[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(base(&far), None);
    }

    #[test]
    fn a_qcow2_file_that_points_to_other_files_is_refused() {
        assert_eq!(probe(&head(3, 0, 0)), Ok(Format::Qcow2));
        assert_eq!(probe(&head(3, 0x70, 0)), Err("it is a qcow2 file on top of another file"));
        let elsewhere = Err("it is a qcow2 file with its data in another file");
        assert_eq!(probe(&head(3, 0, EXTERNAL_DATA_FILE)), elsewhere);
        assert_eq!(probe(&head(2, 0, u64::MAX)), Ok(Format::Qcow2));
        assert_eq!(probe(&head(3, 0, 0)[..40]), Err("it is a qcow2 file cut short"));
    }
}
