//! Numbers of addresses, which may exceed 64 bits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A number of addresses, a JSON number of any size (Kube-OVN's `BigInt`).
///
/// A /64 has more addresses than a `u64` can count. API servers keep such a
/// number as a double, so above 2^53 what is read may differ from what was
/// written in the last digits: these counts are for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count(pub u128);

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(u128::from(count))
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(small) => serializer.serialize_u64(small),
            // The precision of a double is what an API server keeps anyway.
            #[expect(clippy::cast_precision_loss, reason = "see the type's documentation")]
            Err(_) => serializer.serialize_f64(self.0 as f64),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number of addresses")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Count, E> {
                Ok(Count::from(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Count, E> {
                Ok(Count::from(u64::try_from(value).unwrap_or(0)))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast saturates, and a negative count means none"
            )]
            fn visit_f64<E>(self, value: f64) -> Result<Count, E> {
                Ok(Count(value as u128))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_64_bits_survives_as_closely_as_a_double_can() {
        let count = Count(u128::from(u64::MAX) * 4);
        let text = serde_json::to_string(&count).unwrap();
        let back: Count = serde_json::from_str(&text).unwrap();
        assert!(back.0.abs_diff(count.0) < 1 << 20);
        assert_eq!(serde_json::to_string(&Count(253)).unwrap(), "253");
    }
}
