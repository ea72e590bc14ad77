//! What every client goes through, and how one tells that it came through: by the address
//! on the guest's interface, by its lifetime, and by what was said on the wire.

use std::net::UdpSocket;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use dhcp::{Binding, Prefix, Ra, V4, V6};

use crate::lab::{Lab, Process};
use crate::wire::Wire;

pub(crate) const MAC: &str = "02:00:5e:10:00:05";
/// What DHCPv4 gives, and the conflict is about.
pub(crate) const V4_ADDRESS: &str = "10.66.0.5";
pub(crate) const V6_ADDRESS: &str = "fd66::5";
/// What is delegated with it.
pub(crate) const DELEGATED: &str = "fd67:0:0:500::/56";
/// What a guest makes up of the prefix and its MAC address.
const OWN_ADDRESS: &str = "fd66::5eff:fe10:5";
pub(crate) const SERVER: &str = "10.66.0.1";
const ROUTER_MAC: &str = "02:00:5e:00:00:01";
/// Seconds: more than what is first given, less than what is given later.
const BETWEEN: u64 = 3600;
/// Rebinding clients have waited before, and others run beside them.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
    /// Router advertisements, and addresses made up of them.
    Ra,
}

/// What a guest may do in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scenario {
    /// It asks and has its address.
    Lease,
    /// It asks for more time, whom it has it from.
    Renew,
    /// That one does not answer, and it asks everybody.
    Rebind,
    /// It comes up again, and remembers its address.
    Reboot,
    /// Somebody else has its address.
    Decline,
    /// It gives its address back.
    Release,
    /// It asks for a prefix, and lets nothing for it out again that is not further in.
    Prefix,
}

/// A client that stays.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// What it can do; the rest is not in it.
    pub(crate) has: &'static [Scenario],
    /// The shell command that becomes it.
    pub(crate) command: fn(&Lab, Scenario) -> String,
    pub(crate) release: fn(&Lab, &Process),
    /// The file that it remembers its lease in, and what is in there then; without one it
    /// goes by what is on the interface.
    pub(crate) memory: Option<(&'static str, &'static str)>,
}

/// A guest, its server and who listens to them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) wire: Wire,
    pub(crate) lab: Lab,
    family: Family,
    /// A router hears nothing at this port, and says nothing of that either.
    _deaf: UdpSocket,
}

impl Family {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "DHCPv4",
            Self::V6 => "DHCPv6",
            Self::Ra => "advertisements",
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::V4 => V4_ADDRESS,
            Self::V6 => V6_ADDRESS,
            Self::Ra => OWN_ADDRESS,
        }
    }
}

impl Scenario {
    pub(crate) const ALL: [Self; 7] = [
        Self::Lease,
        Self::Renew,
        Self::Rebind,
        Self::Reboot,
        Self::Decline,
        Self::Release,
        Self::Prefix,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Reboot => "reboot",
            Self::Decline => "decline",
            Self::Release => "release",
            Self::Prefix => "prefix",
        }
    }

    /// The message that makes it this one, and its answer.
    const fn message(self, family: Family) -> Option<(&'static str, &'static str)> {
        Some(match (family, self) {
            // Nothing but the address tells that an advertisement was heard, nor whether two
            // messages gave it or, with Rapid Commit, four.
            (Family::Ra, _) | (_, Self::Lease | Self::Prefix) => return None,
            (Family::V4, Self::Renew) => ("Renewing", "Ack"),
            (Family::V4, Self::Rebind) => ("Rebinding", "Ack"),
            (Family::V4, Self::Reboot) => ("Reboot", "Ack"),
            (Family::V4, Self::Decline) => ("Decline", ""),
            (Family::V4, Self::Release) => ("Release", ""),
            (Family::V6, Self::Renew) => ("Renew", "Reply"),
            (Family::V6, Self::Rebind) => ("Rebind", "Reply"),
            (Family::V6, Self::Reboot) => ("Confirm", "Reply Success"),
            (Family::V6, Self::Decline) => ("Decline", "Reply Success"),
            (Family::V6, Self::Release) => ("Release", "Reply Success"),
        })
    }
}

impl Program {
    /// Has it go through this, and panics where it does not come through.
    pub(crate) fn play(&self, scenario: Scenario) {
        let stage = Stage::set(self.family, scenario);
        let client = self.start(&stage, scenario);
        match scenario {
            Scenario::Lease => stage.is_leased(),
            Scenario::Renew | Scenario::Rebind => {
                stage.is_leased();
                stage.lab.set(longer(self.family, scenario));
                stage.until("a longer lease", || stage.lifetime() > Some(BETWEEN));
            }
            Scenario::Reboot => {
                stage.is_leased();
                if let Some((file, text)) = self.memory {
                    let remembers = |file: String| !file.is_empty() && file.contains(text);
                    stage.until("its memory", || remembers(stage.file(file)));
                }
                client.kill();
                stage.lab.kill_all_in_guest();
                if self.memory.is_some() {
                    stage.is_switched_off_and_on();
                }
                self.start(&stage, scenario);
                stage.is_said(scenario);
                stage.is_leased();
            }
            Scenario::Prefix => stage.until("the prefix", || {
                let said =
                    stage.lab.guest(&format!("ip -6 route show type unreachable {DELEGATED}"));
                said.output.contains(DELEGATED)
            }),
            Scenario::Decline => {
                stage.until("the conflict to be known", || stage.lab.report().conflict.is_some());
            }
            Scenario::Release => {
                stage.is_leased();
                (self.release)(&stage.lab, &client);
                stage.until("no address", || stage.lifetime().is_none());
            }
        }
        stage.is_said(scenario);
    }

    fn start(&self, stage: &Stage, scenario: Scenario) -> Process {
        stage.lab.start_in_guest("client.log", &(self.command)(&stage.lab, scenario))
    }
}

impl Stage {
    pub(crate) fn set(family: Family, scenario: Scenario) -> Self {
        // Whether the kernel hears advertisements is the client's affair.
        let conflicts = u8::from(scenario == Scenario::Decline);
        let lab = Lab::start_with(
            binding(family, scenario),
            &format!(
                "sysctl -qw net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth0.accept_dad={conflicts}"
            ),
        );
        let wire = Wire::of(&lab);
        let deaf = lab.as_host(|| UdpSocket::bind(("0.0.0.0", 67)).unwrap()).join().unwrap();
        match (family, scenario) {
            // Whoever asks the server alone does not even find it.
            (Family::V4, Scenario::Rebind) => {}
            (Family::V4, Scenario::Decline) => {
                lab.host(&format!("ip address add {V4_ADDRESS}/32 dev tap0"));
            }
            (Family::V4, _) => lab.host(&format!("ip address add {SERVER}/24 dev tap0")),
            (Family::V6, Scenario::Decline) => lab.host(&format!(
                "sysctl -qw net.ipv6.conf.tap0.disable_ipv6=0 \
                 && ip address add {V6_ADDRESS}/128 dev tap0 nodad"
            )),
            _ => {}
        }
        let stage = Self { wire, lab, family, _deaf: deaf };
        stage.has_link_local();
        stage
    }

    /// Waits until the guest has its address.
    fn is_leased(&self) {
        self.until("an address", || self.lifetime().is_some());
    }

    /// Waits until the message that the scenario is about is answered.
    pub(crate) fn is_said(&self, scenario: Scenario) {
        if let Some((asked, answer)) = scenario.message(self.family) {
            self.until(asked, || self.wire.had(asked, answer));
        }
    }

    /// As a boot leaves it: some clients make up the link-local address themselves.
    fn is_switched_off_and_on(&self) {
        let done = self.lab.guest(
            "ip link set eth0 down addrgenmode eui64; ip address flush dev eth0; ip link set eth0 up",
        );
        assert!(done.ok, "{}", done.output);
        self.has_link_local();
    }

    /// Waits until the guest can send from its link-local address.
    fn has_link_local(&self) {
        self.until("a link-local address", || {
            let said = self.lab.guest("ip -6 address show dev eth0 scope link").output;
            said.contains("fe80::") && !said.contains("tentative")
        });
    }

    fn file(&self, name: &str) -> String {
        let octets = std::fs::read(self.lab.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// How long the guest's address is valid, in seconds, if it has it.
    fn lifetime(&self) -> Option<u64> {
        let said = self.lab.guest("ip -j address show dev eth0").output;
        let links: serde_json::Value = serde_json::from_str(&said).ok()?;
        let all = links[0]["addr_info"].as_array()?;
        let mut own = all.iter().filter(|one| one["local"] == self.family.address());
        own.next()?["valid_life_time"].as_u64()
    }

    /// Waits until it holds, and shows everything where it does not.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} in vain for {what}\n{}\n{}\n{}",
                self.wire.told(),
                self.file("client.log"),
                self.lab.state()
            );
            // To look takes two processes.
            park_timeout(Duration::from_millis(100));
        }
    }
}

/// One address for a short time. Between T1 and T2 there is little to wait for where the
/// client is to come to T2, else enough for one that sleeps through some seconds.
fn binding(family: Family, scenario: Scenario) -> Binding {
    let renews = scenario == Scenario::Renew;
    let router = ROUTER_MAC.parse().unwrap();
    let prefix = Prefix {
        network: "fd66::/64".parse().unwrap(),
        on_link: true,
        autonomous: family == Family::Ra,
    };
    let v4 = V4 {
        gateway: Some(SERVER.parse().unwrap()),
        t1: Some(2),
        t2: Some(if renews { 18 } else { 4 }),
        ..V4::new(V4_ADDRESS.parse().unwrap(), 24, SERVER.parse().unwrap(), 20)
    };
    // T1 and T2 are 0.5 and 0.8 of it.
    let preferred = Some(if renews { 15 } else { 5 });
    let server = Some(router);
    let delegated = (scenario == Scenario::Prefix).then(|| DELEGATED.parse().unwrap());
    let v6 = V6 { preferred, server, delegated, ..V6::new(V6_ADDRESS.parse().unwrap(), 20) };
    let ra = Ra {
        prefixes: vec![prefix],
        managed: family == Family::V6,
        other: false,
        valid: 100,
        preferred: 100,
        min_interval: 3,
        max_interval: 4,
        ..Ra::new(router)
    };
    Binding {
        mac: MAC.parse().unwrap(),
        hostname: None,
        v4: (family == Family::V4).then_some(v4),
        v6: (family == Family::V6).then_some(v6),
        ra: (family != Family::V4).then_some(ra),
    }
}

/// The same for a long time, from a server that goes by another name if nobody is to be
/// heard under the old one.
fn longer(family: Family, scenario: Scenario) -> Binding {
    let lease = u32::try_from(2 * BETWEEN).unwrap();
    let mut binding = binding(family, scenario);
    if let Some(v4) = &mut binding.v4 {
        (v4.lease, v4.t1, v4.t2) = (lease, None, None);
    }
    if let Some(v6) = &mut binding.v6 {
        (v6.lease, v6.preferred) = (lease, None);
        if scenario == Scenario::Rebind {
            v6.server = Some(MAC.parse().unwrap());
        }
    }
    if let Some(ra) = &mut binding.ra {
        (ra.valid, ra.preferred) = (lease, lease);
    }
    binding
}
