//! Two network namespaces, one for the host's end of a cable and the server, one
//! for the guest's end and its clients.
//!
//! ```text
//! berth-dhcp-<id>-host: tap0 ── veth ── eth0 :berth-dhcp-<id>-guest
//! ```

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dhcp::{Binding, PortReport, Server};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::bind;
use nix::unistd::Pid;
use prometheus::Registry;
use socket2::{Domain, Type};

use crate::decoder::Decoder;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: &str = "web.default";
/// It has no place in anybody's path.
pub(crate) const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// A server with one port, and the guest behind it.
#[derive(Debug)]
pub(crate) struct Lab {
    id: String,
    mac: String,
    dir: PathBuf,
    server: Option<Server>,
    registry: Registry,
    thread: Option<(tokio::sync::oneshot::Sender<()>, JoinHandle<()>)>,
    decoder: Option<Decoder>,
}

/// What a command in the guest said and whether it was content.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ok: bool,
    pub(crate) output: String,
}

/// What goes on in the guest until it is killed, or the lab ends.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// Waits until `holds` is true.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

impl Lab {
    /// A guest with its cable plugged in, and the server serving its port.
    pub(crate) fn start(binding: Binding) -> Self {
        Self::start_with(binding, "true")
    }

    /// The same, where `prepare` runs in the guest before its interface comes up.
    pub(crate) fn start_with(binding: Binding, prepare: &str) -> Self {
        let lab = Self::namespaces(&binding);
        lab.plug(prepare);
        let lab = lab.serve(binding);
        eventually("the port to be open", || lab.report().open);
        lab
    }

    /// A guest without a cable.
    pub(crate) fn without_interface(binding: Binding) -> Self {
        Self::namespaces(&binding).serve(binding)
    }

    fn namespaces(binding: &Binding) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and need root: run them with sudo, or leave \
             them out with `cargo test -p dhcp --lib`"
        );
        let tools = ["ip", "busybox", "dhclient", "rdisc6", "sysctl", "dhcpcd", "dhcp_release"];
        let more = ["dhcp_release6", "tshark", "NetworkManager", "dbus-daemon", NETWORKD];
        for tool in tools.into_iter().chain(more) {
            assert!(sh(&format!("command -v {tool}")).ok, "these tests need {tool}");
        }
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("berth-dhcp-{id}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut lab = Self {
            id,
            mac: binding.mac.to_string(),
            dir,
            server: None,
            registry: Registry::new(),
            thread: None,
            decoder: None,
        };
        for side in ["host", "guest"] {
            let name = lab.namespace(side);
            let made = sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
            assert!(made.ok, "{}", made.output);
        }
        lab.decoder = Some(Decoder::listening(&lab));
        lab
    }

    fn serve(mut self, binding: Binding) -> Self {
        let namespace = File::open(format!("/run/netns/{}", self.namespace("host"))).unwrap();
        let registry = self.registry.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (started, server) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // For this thread alone, and it runs everything the server does.
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                started.send(Server::start(&registry).unwrap()).unwrap();
                let _ = stopped.await;
            });
        });
        self.server = Some(server.recv_timeout(PATIENCE).expect("the server started"));
        self.thread = Some((stop, thread));
        self.set(binding);
        self
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the lab serves")
    }

    pub(crate) fn set(&self, binding: Binding) {
        self.server().set_port(PORT, "tap0", binding);
    }

    /// Another guest behind the same interface.
    pub(crate) fn set_other(&self, name: &str, binding: Binding) {
        self.server().set_port(name, "tap0", binding);
    }

    /// Takes it away.
    pub(crate) fn remove_other(&self, name: &str) {
        self.server().remove_port(name);
    }

    pub(crate) fn remove(&self) {
        self.server().remove_port(PORT);
    }

    pub(crate) fn report(&self) -> PortReport {
        let [report] = <[_; 1]>::try_from(self.server().ports()).expect("one port");
        assert_eq!((report.name.as_str(), report.ifname.as_str()), (PORT, "tap0"));
        report
    }

    /// Waits for the server to say that it hears the guest.
    pub(crate) fn opened(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let opened = async { tokio::time::timeout(PATIENCE, self.server().opened(PORT)).await };
        runtime.block_on(opened).expect("the port is open");
        assert!(self.report().open);
    }

    /// The value of a counter, for one value of its label, or the one it has.
    pub(crate) fn counter(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.expect("a registered counter").get_metric();
        let mut found = metrics.iter().filter(|metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        found.next().expect("a known label").get_counter().get_value()
    }

    /// Connects the guest; `prepare` runs in it before its interface comes up.
    pub(crate) fn plug(&self, prepare: &str) {
        let (host, guest) = (self.namespace("host"), self.namespace("guest"));
        let made = sh(&format!(
            "set -e
             ip -n {host} link add tap0 type veth peer name eth0 netns {guest} address {mac}
             ip netns exec {host} sysctl -qw net.ipv6.conf.tap0.disable_ipv6=1
             ip netns exec {guest} sysctl -qw net.ipv6.conf.eth0.accept_dad=0
             ip netns exec {guest} sh -c '{prepare}'
             ip -n {host} link set tap0 up
             ip -n {guest} link set eth0 up",
            mac = self.mac,
        ));
        assert!(made.ok, "{}", made.output);
        eventually("a link-local address", || {
            self.guest("ip -6 address show dev eth0 scope link").output.contains("fe80::")
        });
    }

    pub(crate) fn unplug(&self) {
        assert!(sh(&format!("ip -n {} link del tap0", self.namespace("host"))).ok);
    }

    /// Runs a shell command where the guest is.
    pub(crate) fn guest(&self, command: &str) -> Run {
        let guest = self.namespace("guest");
        let limit = PATIENCE.as_secs();
        let mut shell = Command::new("timeout");
        shell.args([&limit.to_string(), "ip", "netns", "exec", &guest, "sh", "-c", command]);
        run(&mut shell)
    }

    /// Starts a shell command where the guest is, and leaves it running. What it says is in
    /// the file `log` of the lab.
    pub(crate) fn start_in_guest(&self, log: &str, command: &str) -> Process {
        let log = File::options().create(true).append(true).open(self.path(log)).unwrap();
        let guest = self.namespace("guest");
        // Each of these becomes the next one.
        let mut shell = Command::new("ip");
        shell.args(["netns", "exec", &guest, "sh", "-c", command]).stdin(Stdio::null());
        shell.stdout(log.try_clone().unwrap()).stderr(log);
        Process(shell.spawn().expect("a shell runs"))
    }

    /// Ends what goes on in the guest, and what that has left behind.
    pub(crate) fn kill_all_in_guest(&self) {
        sh(&format!("kill -9 $(ip netns pids {})", self.namespace("guest")));
    }

    /// Runs a shell command at the server's end of the cable.
    pub(crate) fn host(&self, command: &str) {
        let host = self.namespace("host");
        let done = run(Command::new("ip").args(["netns", "exec", &host, "sh", "-c", command]));
        assert!(done.ok, "{command}: {}", done.output);
    }

    /// Does something at the server's end of the cable.
    pub(crate) fn as_host<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        as_one_in(&self.namespace("host"), act)
    }

    /// Has the guest send so many DHCPv6 messages that mean nothing, without a pause.
    pub(crate) fn flood(&self, messages: u32) {
        self.as_guest(move || {
            let (socket, to) = to_dhcpv6_servers();
            for _ in 0..messages {
                socket.send_to(&[1, 0, 0, 0], to).unwrap();
            }
        });
    }

    /// Has the guest send a datagram of either family to all servers that takes three frames.
    pub(crate) fn fragments(&self) {
        self.as_guest(|| {
            let large = [0; 4000];
            let (socket, to) = to_dhcpv6_servers();
            socket.send_to(&large, to).unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.send_to(&large, (Ipv4Addr::BROADCAST, 67)).unwrap();
        });
    }

    /// Has the guest send a DHCPv4 message of no sense under VLAN tags of these kinds, to a
    /// port of servers or another one.
    pub(crate) fn tagged(&self, tags: &[u16], port: u8) {
        let mac: net::MacAddr = self.mac.parse().unwrap();
        let tags: Vec<u8> =
            tags.iter().flat_map(|tag| [&tag.to_be_bytes()[..], &[0, 5]].concat()).collect();
        self.as_guest(move || {
            let mut frame = [&[0xff; 6][..], &mac.octets(), &tags, &[8, 0]].concat();
            frame
                .extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
            frame.extend([0, 68, 0, port, 0, 8, 0, 0]);
            let socket = socket2::Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            let mut links = nix::ifaddrs::getifaddrs().unwrap();
            let eth0 = links.find(|one| one.interface_name == "eth0").unwrap().address.unwrap();
            bind(socket.as_raw_fd(), eth0.as_link_addr().unwrap()).unwrap();
            socket.send(&frame).unwrap();
        });
    }

    /// Does something where the guest is.
    fn as_guest(&self, act: impl FnOnce() + Send + 'static) {
        as_one_in(&self.namespace("guest"), act).join().unwrap();
    }

    /// A path in the lab's own directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// An executable file with this text.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What to show when a test fails.
    pub(crate) fn state(&self) -> String {
        let host = sh(&format!("ip -n {} -s link", self.namespace("host")));
        let guest = self.guest("ip address; ip route; ip -6 route");
        format!("{:?}\n{}\n{}", self.server().ports(), host.output, guest.output)
    }

    fn namespace(&self, side: &str) -> String {
        format!("berth-dhcp-{}-{side}", self.id)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server = None;
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join();
        }
        self.kill_all_in_guest();
        let faults = self.decoder.take().map(|decoder| decoder.faults(&self.path("said.pcap")));
        for side in ["host", "guest"] {
            sh(&format!("ip netns del {}", self.namespace(side)));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        // One that fails already has something else to say.
        if !std::thread::panicking() {
            assert_eq!(faults.unwrap_or_default(), "", "tshark on what the server said");
        }
    }
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap());
        kill(pid, signal).expect("what was started is there");
    }

    /// Ends it without its having a say.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Does something on a thread that lives in a network namespace.
fn as_one_in<T: Send + 'static>(
    namespace: &str,
    act: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::spawn(move || {
        // For this thread alone, which ends with it.
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        act()
    })
}

fn to_dhcpv6_servers() -> (UdpSocket, SocketAddrV6) {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 546)).unwrap();
    let eth0 = nix::net::if_::if_nametoindex("eth0").unwrap();
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    (socket, SocketAddrV6::new(servers, 547, 0, eth0))
}

fn sh(command: &str) -> Run {
    run(Command::new("sh").args(["-c", command]))
}

fn run(command: &mut Command) -> Run {
    let done = command.stdin(Stdio::null()).output().expect("a shell runs");
    let output = [done.stdout, done.stderr].concat();
    Run { ok: done.status.success(), output: String::from_utf8_lossy(&output).into_owned() }
}
