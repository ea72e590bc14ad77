//! Amounts of memory, storage and CPU as users write them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Kubernetes quantity exactly as written: `1Gi`, `128M`, `500m` or a plain number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A number without a suffix, unquoted in YAML.
    Number(serde_json::Number),
    /// Text, most often with a suffix.
    Text(String),
}

/// The text is not a quantity.
#[derive(Debug, Clone, Eq, PartialEq)]
pub struct ParseQuantityError(String);

impl fmt::Display for ParseQuantityError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?} is not a quantity: write a number and a suffix, such as 256Mi or 2Gi",
            self.0
        )
    }
}

impl std::error::Error for ParseQuantityError {}

/// Suffixes and what one of each is worth in thousandths.
const SUFFIXES: [(&str, u128); 15] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("e", 0),
    ("", 1000),
];

impl Quantity {
    /// The amount in whole units (bytes, CPUs), rounded up as Kubernetes does.
    pub fn units(&self) -> Result<u64, ParseQuantityError> {
        let milli = self.milli()?;
        u64::try_from(milli.div_ceil(1000)).map_err(|_| self.invalid())
    }

    /// The amount in thousandths: what CPU time is counted in.
    pub fn milli(&self) -> Result<u128, ParseQuantityError> {
        let text = self.to_string();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let scale = if let Some(exponent) =
            suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty() && *rest != "i")
        {
            let exponent: u32 = exponent.parse().map_err(|_| self.invalid())?;
            10_u128.checked_pow(exponent).and_then(|scale| scale.checked_mul(1000))
        } else {
            SUFFIXES
                .iter()
                .find(|(name, scale)| *name == suffix && *scale > 0)
                .map(|(_, scale)| *scale)
        };
        scale.and_then(|scale| scaled(number, scale)).ok_or_else(|| self.invalid())
    }

    fn invalid(&self) -> ParseQuantityError {
        ParseQuantityError(self.to_string())
    }
}

/// `number` (digits with at most one point) times `scale`, rounded up.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.checked_mul(scale)?.div_ceil(divisor))
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let quantity = Self::from(text);
        quantity.milli().map(|_| quantity)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(out),
            Self::Text(text) => out.write_str(text.trim()),
        }
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_mean_what_kubernetes_says() {
        for (text, units) in [
            ("1Gi", 1 << 30),
            ("128Mi", 128 << 20),
            ("1.5Ki", 1536),
            ("64M", 64_000_000),
            ("1e3", 1000),
            ("2E", 2_000_000_000_000_000_000),
            ("500m", 1),
            ("42", 42),
        ] {
            assert_eq!(Quantity::from(text).units(), Ok(units), "{text}");
        }
        assert_eq!(Quantity::from("1500m").milli(), Ok(1500));
    }

    #[test]
    fn a_bare_number_is_kept_as_a_number() {
        let quantity: Quantity = serde_json::from_str("4294967296").unwrap();
        assert_eq!(quantity.units(), Ok(4 << 30));
        assert_eq!(serde_json::to_string(&quantity).unwrap(), "4294967296");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "Mi", "1Zi", "-1", "1.2.3", "one", "1e", "1 Gi"] {
            assert!(Quantity::from(text).units().is_err(), "{text}");
        }
    }
}
