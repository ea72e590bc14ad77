//! Takes the guest's questions to a terminal out of what it prints.
//!
//! busybox asks for the cursor (`ESC [ 6 n`) before each prompt. A terminal answers
//! by typing, and the answer to the last prompt comes when nobody reads for the
//! guest any more: the shell of the host would get it. A pipe answers nothing.
//! Neither is needed: a guest that hears no answer goes on. What asks this way for
//! the size of the terminal (`resize`) has to be told with `stty rows R cols C`.

/// Device status report 6, the position of the cursor (ECMA-48, 8.3.35).
const QUERY: &[u8] = b"\x1b[6n";

/// The filter, with what may be the begin of a question held back.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    held: usize,
}

impl Unasked {
    /// What of the next bytes is to be shown.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte == QUERY[self.held] {
                self.held += 1;
                if self.held == QUERY.len() {
                    self.held = 0;
                }
                continue;
            }
            shown.extend(self.rest());
            // Only its first byte can begin a question: no other byte of it is ESC.
            if *byte == QUERY[0] {
                self.held = 1;
            } else {
                shown.push(*byte);
            }
        }
        shown
    }

    /// What was held back and is no question after all.
    pub(super) fn rest(&mut self) -> &'static [u8] {
        &QUERY[..std::mem::take(&mut self.held)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(chunks: &[&[u8]]) -> Vec<u8> {
        let mut filter = Unasked::default();
        let mut all: Vec<u8> = chunks.iter().flat_map(|chunk| filter.pass(chunk)).collect();
        all.extend(filter.rest());
        all
    }

    #[test]
    fn a_question_for_the_cursor_is_not_passed_on_however_it_is_cut() {
        let text = b"a\r\nguest# \x1b[6n\x1b[6nb";
        for cut in 0..text.len() {
            assert_eq!(shown(&[&text[..cut], &text[cut..]]), b"a\r\nguest# b");
        }
        assert_eq!(shown(&[b"\x1b", b"[", b"6", b"n"]), b"");
    }

    #[test]
    fn other_sequences_pass_as_they_are() {
        for text in [&b"\x1b[1;31mred\x1b[0m"[..], b"\x1b\x1b[6", b"\x1b[6;1H", b"[6n", b"\x1b"] {
            assert_eq!(shown(&[text]), text);
        }
        assert_eq!(shown(&[b"\x1b[6\x1b[6n!"]), b"\x1b[6!");
    }
}
