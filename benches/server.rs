//! The DHCP servers that are measured, ours and others, and how each is started.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::exchange::{CLIENTS, Family};
use crate::responder::{SERVER, binding};

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Server {
    /// `berth dhcp`.
    Berth,
    /// ISC's, with its leases in memory and appended to a file.
    Kea,
    /// The small one, whose leases are a file that it rewrites.
    Dnsmasq,
}

impl Server {
    /// As in names of figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Kea => "kea",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    const fn program(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Berth, _) => "berth",
            (Self::Kea, Family::V4) => "kea-dhcp4",
            (Self::Kea, Family::V6) => "kea-dhcp6",
            (Self::Dnsmasq, _) => "dnsmasq",
        }
    }

    /// Whether it is installed.
    #[must_use]
    pub fn is_there(self, family: Family) -> bool {
        let program = self.program(family);
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        self == Self::Berth || found.is_ok_and(|found| found.status.success())
    }

    /// The words that start it on `eth0`, its files in `dir`.
    ///
    /// # Errors
    /// When a file of it cannot be written, or ours was not built.
    pub fn words(self, family: Family, dir: &Path) -> anyhow::Result<Vec<String>> {
        let file = |name: &str| dir.join(name).display().to_string();
        Ok(match self {
            Self::Berth => {
                let bindings: Vec<_> = (0..CLIENTS).map(|client| binding(family, client)).collect();
                std::fs::write(dir.join("bindings"), serde_json::to_string(&bindings)?)?;
                let berth = tests::berth_binary()?.display().to_string();
                let fixed = ["dhcp", "--interface=eth0"].map(str::to_owned);
                [vec![berth], fixed.into(), vec![format!("--bindings={}", file("bindings"))]]
                    .concat()
            }
            Self::Kea => {
                let config = match family {
                    Family::V4 => json!({"Dhcp4": kea4(&file("leases"))}),
                    Family::V6 => json!({"Dhcp6": kea6(&file("leases"))}),
                };
                std::fs::write(dir.join("kea"), config.to_string())?;
                let dirs = ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"];
                let dirs = dirs.map(|name| format!("{name}={}", dir.display()));
                let program = [self.program(family).to_owned(), "-c".to_owned(), file("kea")];
                [vec!["env".to_owned()], dirs.into(), program.into()].concat()
            }
            // Measured in IPv4 only.
            Self::Dnsmasq => [
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
                "--no-ping",
                "--interface=eth0",
                "--dhcp-range=10.1.8.0,10.1.250.250,255.255.0.0,1h",
                "--dhcp-lease-max=100000",
                "--dhcp-authoritative",
                "--domain=cluster.local",
                "--dhcp-option=6,10.1.0.2",
                "--quiet-dhcp",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("--dhcp-leasefile={}", file("dnsmasq"))])
            .chain([format!("--pid-file={}", file("dnsmasq.pid"))])
            .collect(),
        })
    }
}

fn kea4(leases: &str) -> Value {
    json!({
        "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
        "lease-database": {"type": "memfile", "name": leases},
        "valid-lifetime": 3600,
        "subnet4": [{
            "id": 1, "subnet": "10.1.0.0/16",
            "pools": [{"pool": "10.1.8.0-10.1.250.250"}],
            "option-data": [
                {"name": "routers", "data": SERVER.to_string()},
                {"name": "domain-name-servers", "data": "10.1.0.2"},
                {"name": "domain-name", "data": "cluster.local"},
            ],
        }],
        "loggers": loggers("kea-dhcp4"),
    })
}

fn kea6(leases: &str) -> Value {
    json!({
        "interfaces-config": {"interfaces": ["eth0"]},
        // Else it has a file of the host's for it.
        "server-id": {"type": "LL", "persist": false},
        "lease-database": {"type": "memfile", "name": leases},
        "valid-lifetime": 3600,
        "preferred-lifetime": 2250,
        "subnet6": [{
            "id": 1, "subnet": "fd10::/64", "interface": "eth0",
            "pools": [{"pool": "fd10::1:0-fd10::1:ffff"}],
            "option-data": [
                {"name": "dns-servers", "data": "fd10::2"},
                {"name": "domain-search", "data": "cluster.local"},
            ],
        }],
        "loggers": loggers("kea-dhcp6"),
    })
}

fn loggers(name: &str) -> Value {
    json!([{
        "name": name, "severity": "ERROR", "output_options": [{"output": "stderr"}],
    }])
}
