//! JSON-RPC 1.0 as OVSDB speaks it (RFC 7047, section 4): objects on a stream,
//! one after the other, with nothing between them.

use serde::Serialize;
use serde_json::Value as Json;

/// Cuts a stream of bytes into JSON objects, however the bytes arrive.
///
/// It tracks strings and escapes, so that a brace in a name is no brace; the
/// contents of an object are left to the parser.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    buffer: Vec<u8>,
    /// Where the next object begins: what is before has been taken.
    start: usize,
    /// How far we have looked.
    at: usize,
    depth: usize,
    place: Place,
}

/// How large an empty buffer stays: loads are far larger than what comes after them.
const KEPT: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Outside,
    InString,
    AfterBackslash,
}

/// The peer sends what is not a stream of JSON-RPC messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// Something other than an object, or white space, between objects.
    #[error("byte {0:#04x} where a message should begin")]
    NotAnObject(u8),
    /// An object, but no JSON.
    #[error("a message is not JSON")]
    Json(#[from] serde_json::Error),
    /// JSON, but neither request, notification nor reply.
    #[error("a message is neither request nor reply: {0}")]
    NotAMessage(String),
}

impl Scanner {
    /// The buffer to append what was read to, with room for so many bytes.
    pub(crate) fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        self.compact();
        self.buffer.reserve(bytes);
        &mut self.buffer
    }

    /// The next complete object, if it has arrived.
    pub(crate) fn next(&mut self) -> Option<Result<&[u8], RpcError>> {
        while let Some(&byte) = self.buffer.get(self.at) {
            self.at += 1;
            match (self.place, byte) {
                (Place::AfterBackslash, _) => self.place = Place::InString,
                (Place::InString, b'\\') => self.place = Place::AfterBackslash,
                (Place::InString, b'"') => self.place = Place::Outside,
                (Place::InString, _) => {}
                (Place::Outside, b'{' | b'[') if self.depth > 0 || byte == b'{' => self.depth += 1,
                (Place::Outside, b' ' | b'\t' | b'\r' | b'\n') if self.depth == 0 => {
                    self.start = self.at;
                }
                (Place::Outside, _) if self.depth == 0 => {
                    return Some(Err(RpcError::NotAnObject(byte)));
                }
                (Place::Outside, b'"') => self.place = Place::InString,
                (Place::Outside, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let object = self.start..self.at;
                        self.start = self.at;
                        return Some(Ok(&self.buffer[object]));
                    }
                }
                (Place::Outside, _) => {}
            }
        }
        None
    }

    /// Forgets what was taken, once that is at least half of the buffer, and gives
    /// back the memory that one large message needed.
    fn compact(&mut self) {
        if self.start > 0 && self.start * 2 >= self.buffer.len() {
            self.buffer.drain(..self.start);
            self.at -= self.start;
            self.start = 0;
            self.buffer.shrink_to(KEPT);
        }
    }
}

/// What a peer sends.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// Asks for an answer, or, with a null id, for none.
    Request { method: String, params: Json, id: Json },
    /// The answer to our request `id`.
    Reply { id: u64, outcome: Result<Json, Json> },
}

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RpcError> {
        let mut json: Json = serde_json::from_slice(bytes)?;
        let mut take = |field: &str| json.get_mut(field).map(Json::take).unwrap_or_default();
        let (method, id) = (take("method"), take("id"));
        if let Json::String(method) = method {
            return Ok(Self::Request { method, params: take("params"), id });
        }
        let (result, error) = (take("result"), take("error"));
        let id = id.as_u64().ok_or_else(|| RpcError::NotAMessage(json.to_string()))?;
        let outcome = if error.is_null() { Ok(result) } else { Err(error) };
        Ok(Self::Reply { id, outcome })
    }
}

/// Appends a request to `out`.
pub(crate) fn write_request(out: &mut Vec<u8>, method: &str, params: &impl Serialize, id: u64) {
    #[derive(Serialize)]
    struct Request<'a, P> {
        method: &'a str,
        params: &'a P,
        id: u64,
    }
    serde_json::to_writer(out, &Request { method, params, id })
        .expect("a request has text keys and goes to memory");
}

/// Appends the answer to a peer's request to `out`.
pub(crate) fn write_reply(out: &mut Vec<u8>, result: &Json, id: &Json) {
    let reply = serde_json::json!({"result": result, "error": null, "id": id});
    serde_json::to_writer(out, &reply).expect("a reply goes to memory");
}

#[cfg(test)]
mod tests;
