//! KubeVirt's `dhcpOptions` of one interface: what the VM itself wants said.

use std::net::{IpAddr, Ipv4Addr};

use super::v4::{BOOT_FILE, BOOT_SERVER};
use super::value::{self, Value};
use super::{Clients, Coded, Fault, V4};
use crate::shown;

/// The fields as they are written.
#[derive(Clone, Debug, Default)]
pub struct Guest<'a> {
    /// `bootFileName`: option 67.
    pub boot_file: Option<&'a str>,
    /// `tftpServerName`: option 66, and where it is an address the next server.
    pub tftp_server: Option<&'a str>,
    /// `ntpServers`, IPv4: option 42.
    pub ntp_servers: Vec<&'a str>,
    /// `privateOptions`, numbers from 224 to 254: text.
    pub private: Vec<(i64, &'a str)>,
}

const NTP_SERVERS: u16 = 42;

impl Guest<'_> {
    /// Puts what the VM wants in place of what `options` have under the same numbers, and
    /// says what of it cannot be.
    pub fn put_into(&self, options: &mut V4) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut put = |code: u16, value: Value| {
            options.options.retain(|option| option.code != code);
            options.options.push(Coded { code, value, only: Clients::default() });
        };
        let fault = |field: String, written: &str, advice: String| Fault {
            pair: format!("{field}: {}", shown(written)),
            advice,
        };
        let texts = [
            ("bootFileName", BOOT_FILE, self.boot_file),
            ("tftpServerName", BOOT_SERVER, self.tftp_server),
        ];
        for (field, code, text) in texts {
            match text.map(value::texts) {
                None => {}
                Some(Ok(text)) => put(code, Value::Text(text)),
                Some(Err(advice)) => {
                    let written = text.unwrap_or_default();
                    faults.push(fault(field.to_owned(), written, advice.to_string()));
                }
            }
        }
        let mut servers: Vec<IpAddr> = Vec::new();
        for (at, text) in self.ntp_servers.iter().enumerate() {
            match text.trim().parse::<Ipv4Addr>() {
                Ok(server) => servers.push(server.into()),
                Err(_) => {
                    let advice = "write an IPv4 address such as 10.0.0.2".to_owned();
                    faults.push(fault(format!("ntpServers[{at}]"), text, advice));
                }
            }
        }
        if !servers.is_empty() {
            put(NTP_SERVERS, Value::Addresses(servers));
        }
        let mut seen = Vec::new();
        for (at, (number, text)) in self.private.iter().enumerate() {
            let field = format!("privateOptions[{at}]");
            let code = u16::try_from(*number).ok().filter(|code| (224..=254).contains(code));
            let advice = match (code, value::texts(text)) {
                (None, _) => "write an option from 224 to 254".to_owned(),
                (Some(code), _) if seen.contains(&code) => {
                    "this option is there twice, and the first counts: write it once".to_owned()
                }
                (Some(code), Ok(text)) => {
                    seen.push(code);
                    put(code, Value::Text(text));
                    continue;
                }
                (Some(_), Err(advice)) => advice.to_string(),
            };
            faults.push(fault(field, &format!("{number} {text:?}"), advice));
        }
        if let Some(server) = self.tftp_server.and_then(|text| text.parse().ok()) {
            options.next_server = Some(server);
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vm_wants_takes_the_place_of_the_subnets() {
        let (mut options, _) = V4::parse(
            "bootfile_name=a,bootfile_name_efi64=b,ntp_server=10.0.0.9,option_224=x,tcp_ttl=9",
        );
        let guest = Guest {
            boot_file: Some("menu"),
            tftp_server: Some("10.0.0.2"),
            ntp_servers: vec!["10.0.0.3", "10.0.0.4"],
            private: vec![(224, "y"), (254, "z:1")],
        };
        assert!(guest.put_into(&mut options).is_empty());
        let list: Vec<String> =
            options.options.iter().map(|one| format!("{} {}", one.code, one.value)).collect();
        assert_eq!(
            list,
            [
                "37 u8:9",
                "67 text:menu",
                "66 text:10.0.0.2",
                "42 ip:10.0.0.3;10.0.0.4",
                "224 text:y",
                "254 text:z:1"
            ]
        );
        assert_eq!(options.next_server, Some(Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn a_field_that_cannot_be_is_named_and_the_others_count() {
        let guest = Guest {
            boot_file: Some(""),
            tftp_server: None,
            ntp_servers: vec!["ntp.example", "10.0.0.4"],
            private: vec![(223, "x"), (224, "y"), (224, "z"), (225, "")],
        };
        let mut options = V4::default();
        let told: Vec<String> =
            guest.put_into(&mut options).iter().map(ToString::to_string).collect();
        for (told, wanted) in told.iter().zip([
            "\"bootFileName: \": write a text",
            "\"ntpServers[0]: ntp.example\": write an IPv4 address",
            "\"privateOptions[0]: 223 \\\"x\\\"\": write an option from 224 to 254",
            "\"privateOptions[2]: 224 \\\"z\\\"\": this option is there twice",
            "\"privateOptions[3]: 225 \\\"\\\"\": write a text",
        ]) {
            assert!(told.starts_with(wanted), "{told}");
        }
        assert_eq!((told.len(), options.options.len()), (5, 2));
    }
}
