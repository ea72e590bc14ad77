//! `key=value` options as Kube-OVN and OVN write them.

use std::str::FromStr;

/// Options in the order written: `lease_time=3600,dns_server=8.8.8.8;1.1.1.1`.
///
/// Pairs are split by commas. A value that is a list is written with `;`
/// between, as Kube-OVN has it, or in braces with commas, as OVN has it.
#[derive(Debug, Default)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    /// Reads what can be read; what is not `key=value` is left out, since the
    /// Subnet's own conditions are where its user looks for that.
    pub(super) fn parse(text: &str) -> Self {
        let mut pairs = Vec::new();
        let mut depth = 0_usize;
        let parts = text.split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        for part in parts {
            if let Some((key, value)) = part.split_once('=') {
                let value = value.trim().trim_start_matches('{').trim_end_matches('}');
                pairs.push((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
            }
        }
        Self(pairs)
    }

    /// The value of a key, if it is there and of that type.
    pub(super) fn one<T: FromStr>(&self, key: &str) -> Option<T> {
        self.raw(key)?.parse().ok()
    }

    /// The parts of a list that are of that type.
    pub(super) fn list<T: FromStr>(&self, key: &str) -> Vec<T> {
        self.parts(key).filter_map(|part| part.parse().ok()).collect()
    }

    fn raw(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn parts(&self, key: &str) -> impl Iterator<Item = &str> {
        let parts = self.raw(key).into_iter().flat_map(|value| value.split([';', ',']));
        parts.map(str::trim).filter(|part| !part.is_empty())
    }
}
