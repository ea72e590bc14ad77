//! A shell in a guest, and what the guest reports by itself.

use std::path::Path;
use std::time::Duration;

use berth::console;

/// How long a command may take; emulated guests are slow, and TCP may retry.
const COMMAND: Duration = Duration::from_secs(60);

/// How long the prompt may take to come, counted from the connection.
const PROMPT: Duration = Duration::from_secs(30);

/// Has udhcpc ask the server of its lease for more time.
pub const RENEW_V4: &str = "kill -USR1 $(cat /run/udhcpc.eth0.pid)";

/// Has dhclient ask the server of its lease for more time. It takes no such order, so that
/// another one comes up with its lease, asks whether that is still good on this link
/// (Confirm), and finds that the time to renew it is over.
pub const RENEW_V6: &str = "kill -9 $(cat /run/dhclient6.eth0.pid); rm -f /run/dhclient6.eth0.pid; \
     sed -i 's/ renew [0-9]*;/ renew 1;/' /run/dhclient6.eth0.leases; \
     dhclient -6 -q -sf /etc/berth/dhcp6 -lf /run/dhclient6.eth0.leases \
     -pf /run/dhclient6.eth0.pid eth0";

/// An open console. QEMU serves one client at a time, so let go of it soon.
#[derive(Debug)]
pub struct Guest(console::Guest);

impl Guest {
    /// Connects to a serial socket and waits for the prompt.
    ///
    /// # Errors
    /// When nobody listens or no prompt comes.
    pub async fn open(socket: &Path) -> anyhow::Result<Self> {
        let mut console = console::Guest::connect(socket, PROMPT).await?;
        console.wait_for_prompt(PROMPT).await?;
        Ok(Self(console))
    }

    /// Runs a command and returns what it printed, without the line end.
    ///
    /// # Errors
    /// When it fails (with what it printed) or does not end in a minute.
    pub async fn run(&mut self, command: &str) -> anyhow::Result<String> {
        let printed = self.0.check(&format!("{{ {command}; }} 2>&1"), COMMAND).await?;
        Ok(printed.trim_end().to_owned())
    }

    /// Starts a command that takes the console away with it, such as `reboot`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn leave_with(mut self, command: &str) -> anyhow::Result<()> {
        self.run(&format!("({command} -d 1 &)")).await.map(drop)
    }
}

/// The line that the test guest prints when its addresses are there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Its host name.
    pub hostname: String,
    /// Its IPv4 address with its prefix length.
    pub v4: String,
    /// Its IPv6 address with its prefix length.
    pub v6: String,
}

impl Report {
    /// All reports in a console's log, oldest first: one per boot or change.
    #[must_use]
    pub fn all_in(log: &str) -> Vec<Self> {
        let reports = log.lines().filter_map(|line| {
            let (_, facts) = line.split_once("berth-guest: ready ")?;
            let fact = |name: &str| {
                let mut words = facts.split_whitespace();
                words.find_map(|word| word.strip_prefix(name)).map(str::to_owned)
            };
            Some(Self { hostname: fact("hostname=")?, v4: fact("v4=")?, v6: fact("v6=")? })
        });
        reports.collect()
    }
}
