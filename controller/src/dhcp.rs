//! What guests are to be told, as users write it: what of it cannot be.
//!
//! The agents serve it ([`net::options`] is what both read it with); here it is only
//! judged, so that whoever wrote it learns of it before a guest does. An option that
//! cannot be stops nobody: the others are served.

use crds::kubeovn::SubnetSpec;
use net::options::{Fault, V4};

use crate::flaw::Flaw;

/// The options of a Subnet that cannot be.
#[must_use]
pub fn flaws(spec: &SubnetSpec) -> Vec<Flaw> {
    let flaw = |field: &'static str| {
        move |Fault { pair, advice }: Fault| Flaw::new(field.to_owned(), pair, advice)
    };
    let (_, v4) = V4::parse(&spec.dhcp_v4_options);
    v4.into_iter().map(flaw("dhcpV4Options")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_cannot_be_is_named_with_its_field_and_what_to_write() {
        let dhcp_v4_options = "lease_time=600,mtu=big,dns=10.0.0.53".to_owned();
        let spec = SubnetSpec { dhcp_v4_options, ..SubnetSpec::default() };
        let told: Vec<String> = flaws(&spec).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with(r#"spec.dhcpV4Options is "mtu=big": write a number"#));
        assert!(told[1].starts_with(r#"spec.dhcpV4Options is "dns=10.0.0.53": there is no"#));
    }
}
