//! `vnc/screenshot`: what is asked of it, and the picture as it is answered.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::body::Bytes;

use super::answer::Answer;
use super::refusal::Refusal;

/// Whether the pointer is to be moved before, which wakes a screen up: parameter `moveCursor`.
///
/// # Errors
/// It is neither true nor false.
pub(super) fn moves_cursor(query: &str) -> Result<bool, Refusal> {
    let said = query.split('&').filter_map(|part| part.split_once('='));
    match said.filter(|(name, _)| *name == "moveCursor").map(|(_, value)| value).next() {
        // What `strconv.ParseBool` takes, as upstream.
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => {
            let said = net::shown(other);
            Err(Refusal::bad_request(format!("moveCursor {said:?}: write true or false")))
        }
    }
}

/// The answer.
pub(super) fn reply(png: Bytes) -> Answer {
    let mut response = Response::new(Full::new(png));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointer_is_moved_if_that_is_said() {
        for (query, moves) in [
            ("", false),
            ("moveCursor=false", false),
            ("moveCursor=true", true),
            ("a=b&moveCursor=1", true),
            ("moveCursors=true", false),
        ] {
            assert_eq!(moves_cursor(query).ok(), Some(moves), "{query}");
        }
        assert_eq!(moves_cursor("moveCursor=perhaps").unwrap_err().code, 400);
    }
}
