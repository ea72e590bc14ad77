//! The words of QEMU's guest agent (`qga/qapi-schema.json`), and its answers cut to size. Pure.
//!
//! An answer is whatever the guest writes. So it is no longer than `LONGEST`, a list has as
//! many entries as there is room to show, a text is one line and short, an address is one,
//! and what is none of it is an error or is left out.

use std::net::IpAddr;
use std::time::Duration;

use crds::kubevirt::GuestOsInfo;
use net::MacAddr;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::hypervisor::GuestError;

pub const INTERFACES: &str = r#"{"execute":"guest-network-get-interfaces"}"#;
pub const OS: &str = r#"{"execute":"guest-get-osinfo"}"#;
pub const PING: &str = r#"{"execute":"guest-ping"}"#;
pub const INFO: &str = r#"{"execute":"guest-info"}"#;
pub const HOST_NAME: &str = r#"{"execute":"guest-get-host-name"}"#;
pub const TIME_ZONE: &str = r#"{"execute":"guest-get-timezone"}"#;
pub const USERS: &str = r#"{"execute":"guest-get-users"}"#;
pub const FILE_SYSTEMS: &str = r#"{"execute":"guest-get-fsinfo"}"#;
pub const FREEZE: &str = r#"{"execute":"guest-fsfreeze-freeze"}"#;
pub const THAW: &str = r#"{"execute":"guest-fsfreeze-thaw"}"#;
pub const FREEZE_STATUS: &str = r#"{"execute":"guest-fsfreeze-status"}"#;

/// How long an answer may take, beyond the five seconds that libvirt gives an agent to prove
/// that it listens.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// The longest text, in bytes.
const TEXT: usize = 256;
/// The most interfaces, and addresses of each.
const NICS: usize = 32;
const ADDRESSES: usize = 16;

/// An interface in the guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nic {
    pub name: String,
    pub mac: Option<MacAddr>,
    /// Those by which it may be reached from elsewhere, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// What an answer returns.
///
/// # Errors
/// It is too long, or is none.
pub fn returned<T: DeserializeOwned>(answer: &str) -> Result<T, GuestError> {
    #[derive(Deserialize)]
    struct Answer<T> {
        r#return: T,
    }
    if answer.len() > LONGEST {
        return Err(GuestError::Unfit(format!("it is longer than {LONGEST} bytes")));
    }
    let answer: Result<Answer<T>, _> = serde_json::from_str(answer);
    answer.map(|answer| answer.r#return).map_err(|error| GuestError::Unfit(error.to_string()))
}

/// A text of the guest's as it may be shown: one line, and short.
#[must_use]
pub fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT);
    text[..end].chars().filter(|one| !one.is_control()).collect()
}

/// The answer to [`OS`].
///
/// # Errors
/// It does not fit.
pub fn os(answer: &str) -> Result<GuestOsInfo, GuestError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "kebab-case", default)]
    struct Said {
        name: String,
        kernel_release: String,
        version: String,
        pretty_name: String,
        version_id: String,
        kernel_version: String,
        machine: String,
        id: String,
    }
    let said: Said = returned(answer)?;
    Ok(GuestOsInfo {
        name: shown(&said.name),
        kernel_release: shown(&said.kernel_release),
        version: shown(&said.version),
        pretty_name: shown(&said.pretty_name),
        version_id: shown(&said.version_id),
        kernel_version: shown(&said.kernel_version),
        machine: shown(&said.machine),
        id: shown(&said.id),
    })
}

/// The answer to [`INTERFACES`], without loopback.
///
/// # Errors
/// It does not fit.
pub fn nics(answer: &str) -> Result<Vec<Nic>, GuestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Said {
        name: String,
        hardware_address: Option<String>,
        #[serde(default)]
        ip_addresses: Vec<Address>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Address {
        ip_address: String,
    }
    let said: Vec<Said> = returned(answer)?;
    let said = said.into_iter().filter(|one| one.name != "lo").take(NICS);
    let nics = said.map(|one| {
        let addresses =
            one.ip_addresses.iter().filter_map(|address| address.ip_address.parse().ok());
        let mut addresses: Vec<IpAddr> = addresses.filter(is_elsewheres).take(ADDRESSES).collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.dedup();
        let mac = one.hardware_address.and_then(|text| text.parse().ok());
        Nic { name: shown(&one.name), mac, addresses }
    });
    Ok(nics.collect())
}

/// Whether an address may mean anything beyond the guest's own links.
fn is_elsewheres(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(one) => one.is_link_local() || one.is_broadcast(),
        IpAddr::V6(one) => one.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// The answer to [`FREEZE_STATUS`].
#[must_use]
pub fn is_frozen(answer: &str) -> bool {
    returned::<String>(answer).is_ok_and(|status| status == "frozen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_runs_is_what_it_says() {
        let answer = r#"{"return":{"name":"Debian GNU/Linux","kernel-release":"6.1.0-30-amd64",
            "version":"12 (bookworm)","pretty-name":"Debian GNU/Linux 12 (bookworm)",
            "version-id":"12","kernel-version":"1 SMP","machine":"x86_64","id":"debian"}}"#;
        let os = os(answer).unwrap();
        assert_eq!((os.name.as_str(), os.id.as_str()), ("Debian GNU/Linux", "debian"));
        assert_eq!((os.kernel_release.as_str(), os.version_id.as_str()), ("6.1.0-30-amd64", "12"));
        // Windows and small systems say less.
        assert_eq!(super::os(r#"{"return":{"id":"mswindows"}}"#).unwrap().id, "mswindows");
    }

    #[test]
    fn interfaces_have_the_addresses_that_mean_something_elsewhere() {
        let answer = r#"{"return":[
            {"name":"lo","ip-addresses":[{"ip-address-type":"ipv4","ip-address":"127.0.0.1","prefix":8}],
             "hardware-address":"00:00:00:00:00:00"},
            {"name":"eth0","hardware-address":"0a:58:0a:00:00:05","ip-addresses":[
                {"ip-address-type":"ipv6","ip-address":"fd00::5","prefix":64},
                {"ip-address-type":"ipv6","ip-address":"fe80::1","prefix":64},
                {"ip-address-type":"ipv4","ip-address":"10.0.0.5","prefix":24},
                {"ip-address-type":"ipv4","ip-address":"not one","prefix":24}]},
            {"name":"tun0"}]}"#;
        let found = nics(answer).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "eth0");
        assert_eq!(found[0].mac, "0a:58:0a:00:00:05".parse().ok());
        let addresses: Vec<IpAddr> = ["10.0.0.5", "fd00::5"].map(|one| one.parse().unwrap()).into();
        assert_eq!(found[0].addresses, addresses);
        assert_eq!((found[1].mac, found[1].addresses.len()), (None, 0));
    }

    #[test]
    fn a_guest_that_says_too_much_is_cut_short() {
        let address = r#"{"ip-address-type":"ipv4","ip-address":"10.0.0.5","prefix":24}"#;
        let many = vec![address; 1000].join(",");
        let nic = format!(r#"{{"name":"{}\n","ip-addresses":[{many}]}}"#, "ä".repeat(4000));
        let found = nics(&format!(r#"{{"return":[{}]}}"#, [nic.as_str(); 10].join(","))).unwrap();
        assert_eq!(found[0].addresses.len(), 1, "the same is told once");
        assert_eq!(found[0].name.len(), TEXT);
        let nics = nics(&format!(r#"{{"return":[{}]}}"#, vec![r#"{"name":"a"}"#; 5000].join(",")));
        assert_eq!(nics.unwrap().len(), NICS);
        let long = format!(r#"{{"return":"{}"}}"#, "x".repeat(LONGEST));
        assert!(matches!(returned::<String>(&long), Err(GuestError::Unfit(_))));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let nested = "[".repeat(100_000);
        for answer in ["", "null", "{}", r#"{"return":7}"#, r#"{"return":[{"name":7}]}"#, &nested] {
            assert!(matches!(nics(answer), Err(GuestError::Unfit(_))), "{answer:.40}");
        }
        assert!(!is_frozen("{}") && is_frozen(r#"{"return":"frozen"}"#));
        assert_eq!(shown("a\u{1b}[31m\r\nb"), "a[31mb");
    }
}
