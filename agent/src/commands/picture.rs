//! A picture of a screen, as PNG. QEMU writes that since 7.1, and before it PPM, which is made
//! into PNG here: a picture without a palette, of which `flate2` does all that is not framing. (The
//! crate `png` would bring a second deflate into the program.)

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// How every PNG begins (PNG, third edition, section 5.2).
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Eight bits of red, green and blue each, nothing interlaced (section 11.2.1).
const TRUE_COLOUR: [u8; 5] = [8, 2, 0, 0, 0];

/// The picture as PNG.
///
/// # Errors
/// What it is instead of PNG or PPM, for people.
pub(super) fn png(picture: Vec<u8>) -> Result<Vec<u8>, String> {
    if picture.starts_with(PNG) {
        return Ok(picture);
    }
    let Ppm { width, height, pixels } = Ppm::read(&picture)?;
    let mut lines = ZlibEncoder::new(Vec::new(), Compression::fast());
    let written = pixels.chunks_exact(width as usize * 3).try_for_each(|line| {
        // No filter.
        lines.write_all(&[0])?;
        lines.write_all(line)
    });
    let data = written.and_then(|()| lines.finish()).map_err(|error| error.to_string())?;
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &TRUE_COLOUR].concat();
    let mut png = PNG.to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", data), (b"IEND", Vec::new())] {
        chunk(&mut png, kind, &data)?;
    }
    Ok(png)
}

/// One chunk (section 5.3).
fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) -> Result<(), String> {
    let length = u32::try_from(data.len()).map_err(|_| "it is too large".to_owned())?;
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    png.extend(length.to_be_bytes());
    png.extend(kind);
    png.extend(data);
    png.extend(crc.sum().to_be_bytes());
    Ok(())
}

/// A picture of QEMU's before 7.1: `P6`, width, height, 255, and then three bytes a pixel.
struct Ppm<'a> {
    width: u32,
    height: u32,
    pixels: &'a [u8],
}

impl<'a> Ppm<'a> {
    fn read(picture: &'a [u8]) -> Result<Self, String> {
        let unknown = || "it is neither PNG nor PPM".to_owned();
        let mut rest = picture;
        let mut words = [""; 4];
        for word in &mut words {
            let end = rest.iter().take(16).position(u8::is_ascii_whitespace).ok_or_else(unknown)?;
            *word = std::str::from_utf8(&rest[..end]).map_err(|_| unknown())?;
            rest = &rest[end + 1..];
        }
        let ["P6", width, height, "255"] = words else { return Err(unknown()) };
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side > 0);
        let (width, height) = side(width).zip(side(height)).ok_or_else(unknown)?;
        let bytes = u128::from(width) * u128::from(height) * 3;
        if bytes != rest.len() as u128 {
            return Err(format!("it has {} bytes for {width} x {height} pixels", rest.len()));
        }
        Ok(Self { width, height, pixels: rest })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::ZlibDecoder;

    use super::*;

    #[test]
    fn what_is_png_stays_as_it_is() {
        let picture = [PNG, b"and more"].concat();
        assert_eq!(png(picture.clone()), Ok(picture));
    }

    #[test]
    fn a_ppm_becomes_a_png_with_the_same_pixels() {
        let made = png(b"P6\n2 2\n255\nrgbRGB123456".to_vec()).unwrap();
        assert!(made.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x02\x08\x02"));
        let at = made.windows(4).position(|window| window == b"IDAT").unwrap();
        let length = u32::from_be_bytes(made[at - 4..at].try_into().unwrap()) as usize;
        let mut lines = Vec::new();
        ZlibDecoder::new(&made[at + 4..at + 4 + length]).read_to_end(&mut lines).unwrap();
        assert_eq!(lines, b"\0rgbRGB\x00123456");
        // The end is the same in every PNG.
        assert!(made.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for junk in [
            &b""[..],
            b"GIF89a",
            b"P6 2 2 255",
            b"P6 2 2 255 rgb",
            b"P6 0 2 255 ",
            b"P6 4294967295 4294967295 255 x",
            b"P6 2 1 65535 rgbRGB",
            b"P3 1 1 255 rgb",
        ] {
            let why = png(junk.to_vec()).unwrap_err();
            assert!(why.starts_with("it "), "{junk:?}: {why}");
        }
    }
}
