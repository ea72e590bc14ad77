//! Bodies in protobuf, read only.
//!
//! kubectl and other Go clients send built-in kinds in protobuf where JSON would do, for example in
//! `kubectl create namespace`. They take JSON back, so nothing here writes. The messages that are
//! understood are a table in [`messages`]; anything else is refused with 415 rather than guessed.
//!
//! A body is the magic `k8s\0` and an envelope: the object's apiVersion and kind, and its bytes. Go
//! writes fields that are empty, so empty ones are left out unless the table says they mean
//! something.

mod messages;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::messages::{Kind, Message};

const MAGIC: &[u8] = b"k8s\0";

/// Why a body was not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreadable {
    /// Not protobuf, or cut off.
    Broken,
    /// A kind that is not in the table.
    Unknown,
}

/// The object in a body.
pub(crate) fn object(body: &[u8]) -> Result<Value, Unreadable> {
    let envelope = body.strip_prefix(MAGIC).ok_or(Unreadable::Broken)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = string(text)?,
                        (2, Wire::Bytes(text)) => kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let group = crate::object::group_of(&api_version);
    let message = messages::of(group, &kind).ok_or(Unreadable::Unknown)?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    object.append(&mut read(message, raw)?);
    Ok(Value::Object(object))
}

fn read(message: Message, bytes: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let known = message.iter().find(|(known, ..)| *known == number);
        let Some((_, name, kind)) = known else { continue };
        if let Kind::List(of) = kind {
            if let Some(value) = value(of, wire, Empty::Kept)? {
                let list = object.entry(*name).or_insert_with(|| Value::Array(vec![]));
                list.as_array_mut().ok_or(Unreadable::Broken)?.push(value);
            }
        } else if let Kind::TextMap | Kind::BytesMap = kind {
            let Wire::Bytes(entry) = wire else { return Err(Unreadable::Broken) };
            let (key, value) = entry_of(entry, matches!(kind, Kind::BytesMap))?;
            let map = object.entry(*name).or_insert_with(|| Value::Object(Map::new()));
            map.as_object_mut().ok_or(Unreadable::Broken)?.insert(key, value);
        } else if let Some(value) = value(kind, wire, Empty::Dropped)? {
            object.insert((*name).to_owned(), value);
        }
    }
    Ok(object)
}

/// Whether an empty value says something.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Empty {
    Kept,
    Dropped,
}

fn value(kind: &Kind, wire: Wire<'_>, empty: Empty) -> Result<Option<Value>, Unreadable> {
    let keep = empty == Empty::Kept;
    Ok(match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => {
            let text = string(bytes)?;
            (keep || !text.is_empty()).then(|| text.into())
        }
        (Kind::Int, Wire::Number(number)) => (keep || number != 0).then(|| signed(number).into()),
        (Kind::OptionalInt, Wire::Number(number)) => Some(signed(number).into()),
        (Kind::Bool, Wire::Number(number)) => (number != 0).then(|| true.into()),
        (Kind::OptionalBool, Wire::Number(number)) => Some((number != 0).into()),
        (Kind::Time | Kind::MicroTime, Wire::Bytes(bytes)) => {
            time(bytes, matches!(kind, Kind::MicroTime))?
        }
        (Kind::IntOrText, Wire::Bytes(bytes)) => Some(int_or_text(bytes)?),
        (Kind::Of(message), Wire::Bytes(bytes)) => {
            let object = read(message, bytes)?;
            (keep || !object.is_empty()).then_some(Value::Object(object))
        }
        _ => return Err(Unreadable::Broken),
    })
}

/// Numbers are two's complement in 64 bits.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn string(bytes: &[u8]) -> Result<String, Unreadable> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Unreadable::Broken)
}

fn entry_of(bytes: &[u8], is_binary: bool) -> Result<(String, Value), Unreadable> {
    let (mut key, mut value) = (String::new(), Value::from(""));
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = string(bytes)?,
            (2, Wire::Bytes(bytes)) if is_binary => value = STANDARD.encode(bytes).into(),
            (2, Wire::Bytes(bytes)) => value = string(bytes)?.into(),
            _ => {}
        }
    }
    Ok((key, value))
}

fn time(bytes: &[u8], with_micros: bool) -> Result<Option<Value>, Unreadable> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = signed(number),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).unwrap_or(0),
            _ => {}
        }
    }
    // Go's zero time.
    if seconds <= 0 && nanos == 0 {
        return Ok(None);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| Unreadable::Broken)?;
    let format = if with_micros { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(format).to_string().into()))
}

fn int_or_text(bytes: &[u8]) -> Result<Value, Unreadable> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = signed(value),
            (3, Wire::Bytes(bytes)) => text = string(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// One value on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Unreadable::Broken);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map_is_read_without_what_is_empty() {
        let entry = [bytes(1, b"x"), bytes(2, b"y")].concat();
        let metadata = [bytes(1, b"a"), bytes(2, b""), bytes(8, &[8, 0, 16, 0])].concat();
        let raw = [bytes(1, &metadata), bytes(2, &entry)].concat();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a"}, "data": {"x": "y"}});
        assert_eq!(object(&body("ConfigMap", &raw)), Ok(expected));
    }

    #[test]
    fn what_is_broken_or_unknown_is_refused() {
        assert_eq!(object(b"{}"), Err(Unreadable::Broken));
        assert_eq!(object(&body("Nonsense", b"")), Err(Unreadable::Unknown));
        assert_eq!(object(&body("ConfigMap", &[10, 200, 1])), Err(Unreadable::Broken));
    }
}
