//! How fast is DHCP answered, and beside whom?
//!
//! | figure | what |
//! |---|---|
//! | `dhcp_responder` | from a frame to its answer's frame, a DISCOVER and a REQUEST each half of the time; nothing but the computation |
//! | `dhcp4_dora_kea`, `dhcp4_dora_dnsmasq` | the most exchanges (DISCOVER to ACK) a second of which none is lost, ours; the peer's in the same run on the same wire |
//! | `dhcp4_p50`, `dhcp4_p99` | from a question to its answer at half of what the better peer can: ours; the peer is that peer |
//! | `rss_dhcp_10000` | memory of the server when it has 10,000 guests; the peer is Kea with as many leases |
//!
//! Everything is in two network namespaces with a cable between them, which the run makes
//! and removes: `berth dhcp` (or a peer) at one end, 10,000 clients at the other. A rate is
//! tried for a second and a half, doubled until something is lost, then narrowed down.
//! Peers that are not installed are left out.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use benches::exchange::{CLIENTS, Clients, Outcome};
use benches::responder::{self, SERVER, binding};
use benches::{Effort, Figure};
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use tests::process::{Process, resident_kib};
use tests::scratch::Scratch;

/// How long a rate is tried.
const TRIAL: Duration = Duration::from_millis(1500);
/// The highest rate that is tried, exchanges a second.
const CEILING: u32 = 64_000;

fn main() -> ExitCode {
    responder::measure(Effort::Whole, &mut |figure: Figure<'_>| figure.print());
    match servers() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was found of a server.
struct Found {
    rate: u32,
    kib: u64,
}

fn servers() -> anyhow::Result<()> {
    let wire = Wire::lay()?;
    let mut peers = Vec::new();
    for peer in [Server::Kea, Server::Dnsmasq] {
        match peer.is_there() {
            true => peers.push((peer, wire.limit_of(peer)?)),
            false => println!("skipped: {} is not installed", peer.name()),
        }
    }
    let ours = wire.limit_of(Server::Berth)?;
    if ours.rate == CEILING {
        println!("note: no more than {CEILING} exchanges a second were tried");
    }
    for (peer, theirs) in &peers {
        let name = format!("dhcp4_dora_{}", peer.name());
        Figure::new(&name, f64::from(ours.rate), "per-s")
            .more_is_better()
            .against(peer.name(), f64::from(theirs.rate))
            .print();
    }
    let mib = |found: &Found| found.kib as f64 / 1024.0;
    let memory = Figure::new("rss_dhcp_10000", mib(&ours), "MiB");
    match peers.iter().find(|(peer, _)| *peer == Server::Kea) {
        Some((_, kea)) => memory.against("kea", mib(kea)).print(),
        None => memory.print(),
    }
    let Some((best, found)) = peers.iter().max_by_key(|(_, found)| found.rate) else {
        return Ok(());
    };
    let half = found.rate / 2;
    let [ours, theirs] = [Server::Berth, *best].map(|server| wire.waits_of(server, half));
    let (ours, theirs) = (ours?, theirs?);
    for percent in [50, 99] {
        let ms = |outcome: &Outcome| outcome.percentile(percent).as_secs_f64() * 1e3;
        let name = format!("dhcp4_p{percent}");
        Figure::new(&name, ms(&ours), "ms").against(best.name(), ms(&theirs)).print();
    }
    Ok(())
}

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Server {
    Berth,
    Kea,
    Dnsmasq,
}

impl Server {
    const fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Kea => "kea",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    fn is_there(self) -> bool {
        let program = match self {
            Self::Berth => return true,
            Self::Kea => "kea-dhcp4",
            Self::Dnsmasq => "dnsmasq",
        };
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        found.is_ok_and(|found| found.status.success())
    }

    /// The words that start it on `eth0`, its files in `dir`.
    fn words(self, dir: &Path) -> anyhow::Result<Vec<String>> {
        let file = |name: &str| dir.join(name).display().to_string();
        Ok(match self {
            Self::Berth => {
                let bindings: Vec<_> = (0..CLIENTS).map(binding).collect();
                std::fs::write(dir.join("bindings"), serde_json::to_string(&bindings)?)?;
                let berth = tests::berth_binary()?.display().to_string();
                let fixed = ["dhcp", "--interface=eth0"].map(str::to_owned);
                [vec![berth], fixed.into(), vec![format!("--bindings={}", file("bindings"))]]
                    .concat()
            }
            Self::Kea => {
                let config = json!({"Dhcp4": {
                    "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
                    "lease-database": {"type": "memfile", "name": file("leases")},
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
                    "loggers": [{
                        "name": "kea-dhcp4", "severity": "ERROR",
                        "output_options": [{"output": "stderr"}],
                    }],
                }});
                std::fs::write(dir.join("kea"), config.to_string())?;
                let dirs = ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"];
                let dirs = dirs.map(|name| format!("{name}={}", dir.display()));
                let program = ["kea-dhcp4".to_owned(), "-c".to_owned(), file("kea")];
                [vec!["env".to_owned()], dirs.into(), program.into()].concat()
            }
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

/// Two network namespaces and the cable between them. They go with it.
struct Wire {
    id: u32,
    scratch: Scratch,
}

impl Wire {
    fn lay() -> anyhow::Result<Self> {
        let wire = Self { id: std::process::id(), scratch: Scratch::new("dhcp")? };
        let [server, clients] = [wire.server(), wire.clients()];
        for line in [
            format!("netns add {server}"),
            format!("netns add {clients}"),
            format!("-n {server} link add eth0 type veth peer name eth0 netns {clients}"),
            format!("-n {server} addr add {SERVER}/16 dev eth0"),
            format!("-n {server} link set lo up"),
            format!("-n {server} link set eth0 up"),
            format!("-n {clients} link set eth0 up"),
        ] {
            ip(&line)?;
        }
        Ok(wire)
    }

    fn server(&self) -> String {
        format!("berth-bench-{}-s", self.id)
    }

    fn clients(&self) -> String {
        format!("berth-bench-{}-c", self.id)
    }

    /// Starts a server, and waits until it answers.
    fn start(&self, server: Server) -> anyhow::Result<Process> {
        let dir = self.scratch.path().join(server.name());
        std::fs::create_dir_all(&dir)?;
        let inside = ["netns", "exec", &self.server()].map(str::to_owned);
        let words = [inside.into(), server.words(&dir)?].concat();
        let mut process =
            Process::start(server.name(), &PathBuf::from("ip"), &words, &self.scratch.logs())?;
        self.among_clients(|clients| {
            for _ in 0..20 {
                process.check_running()?;
                if clients.load(1, Duration::from_millis(500))?.is_whole() {
                    return Ok(());
                }
            }
            Err(anyhow!("{} does not answer", server.name()))
        })?;
        Ok(process)
    }

    /// Runs something that needs the clients' namespace.
    fn among_clients<T: Send>(
        &self,
        work: impl FnOnce(&mut Clients) -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.clients()))?;
        // A thread of its own, which ends there: namespaces belong to threads.
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                work(&mut Clients::on("eth0")?)
            });
            thread.join().map_err(|_| anyhow!("a load ended early"))?
        })
    }

    /// The most that a server can do without loss.
    fn limit_of(&self, server: Server) -> anyhow::Result<Found> {
        let process = self.start(server)?;
        let rate = self.among_clients(|clients| {
            let mut can = |rate| {
                let outcome = clients.load(rate, TRIAL)?;
                anyhow::Ok(outcome.is_whole() && outcome.kept_pace)
            };
            let mut low = 250;
            ensure!(can(low)?, "{} loses some of {low} exchanges a second", server.name());
            while low < CEILING && can(low * 2)? {
                low *= 2;
            }
            if low >= CEILING {
                return Ok(CEILING);
            }
            let mut step = low / 2;
            while step > low / 16 {
                if can(low + step)? {
                    low += step;
                }
                step /= 2;
            }
            Ok(low)
        })?;
        Ok(Found { rate, kib: resident_kib(process.pid())? })
    }

    fn waits_of(&self, server: Server, rate: u32) -> anyhow::Result<Outcome> {
        let _process = self.start(server)?;
        self.among_clients(|clients| {
            clients.load(rate, TRIAL)?;
            clients.load(rate, TRIAL * 2)
        })
        .with_context(|| format!("the waits of {}", server.name()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [self.server(), self.clients()] {
            drop(ip(&format!("netns del {namespace}")));
        }
    }
}

fn ip(line: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output()?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
