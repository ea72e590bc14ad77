//! Addresses and networks as IP objects and annotations list them: with commas between.

use std::net::IpAddr;

/// The addresses in `text`; what is none is left out.
///
/// For what we, or Kube-OVN, have written. What people write is refused where it
/// cannot be read.
pub fn addresses(text: &str) -> impl Iterator<Item = IpAddr> {
    text.split(',').filter_map(|part| part.trim().parse().ok())
}

/// The text that lists these.
#[must_use]
pub fn text<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_listed_is_read_and_what_is_no_address_is_left_out() {
        let both: Vec<_> = addresses("10.0.0.5, fd00::5").collect();
        assert_eq!(text(&both), "10.0.0.5,fd00::5");
        assert_eq!(addresses("").chain(addresses("ten,10.0.0")).count(), 0);
    }
}
