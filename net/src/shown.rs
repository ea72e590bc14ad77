//! What somebody wrote, as a message quotes it.

/// How much of a text is quoted, in characters: more than the longest pair of networks.
const MOST: usize = 120;

/// As much of `text` as a message shows: one that quotes a mistake is no longer for the
/// length of the mistake.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shown("10.0.0.0/24"), "10.0.0.0/24");
        let long = shown(&"ä".repeat(1_000_000));
        assert_eq!(long.chars().count(), MOST + 1);
        assert!(long.ends_with("ä…"));
    }
}
