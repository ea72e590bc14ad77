//! VMs without a disk, which boot over the network from what their options name: by the
//! firmware's iPXE, from a server outside of their VPC.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::eventually;
use tests::kinds::{SUBNET, VM, VMI};
use tests::namespace::inside;
use tests::objects::{Subnet, Vm};
use tests::world::World;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::admission::says;

const SOON: Duration = Duration::from_secs(40);
/// Three emulated firmwares, each of which fetches a kernel of 14 MB.
const BOOT: Duration = Duration::from_secs(180);

const NET: &str = "slipway";
/// In the namespace between the nodes.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(100, 127, 0, 1);
const HTTP: u16 = 7012;
const TFTP: u16 = 69;
const MENU: &str = "menu.ipxe";
/// What is for others than iPXE.
const OTHERS: &str = "undionly.kpxe";

/// A server of both protocols, until it is dropped.
struct BootServer {
    fetched: Arc<Fetched>,
    tasks: [JoinHandle<()>; 2],
}

/// What was asked for, as `tftp menu.ipxe`.
type Fetched = Mutex<Vec<String>>;

impl BootServer {
    fn start(world: &World) -> anyhow::Result<Self> {
        let (listener, socket) = inside(&world.lab().layout().fabric(), || {
            let listener = std::net::TcpListener::bind((OUTSIDE, HTTP))?;
            listener.set_nonblocking(true)?;
            let socket = UdpSocket::bind((OUTSIDE, TFTP))?;
            socket.set_nonblocking(true)?;
            Ok((listener, socket))
        })?;
        let kernel = std::fs::read(kernel()?)?.into();
        let fetched = Arc::<Fetched>::default();
        let http = serve_http(TcpListener::from_std(listener)?, kernel, Arc::clone(&fetched));
        let tftp = serve_tftp(tokio::net::UdpSocket::from_std(socket)?, Arc::clone(&fetched));
        Ok(Self { fetched, tasks: [tokio::spawn(http), tokio::spawn(tftp)] })
    }

    fn fetched(&self) -> Vec<String> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for BootServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn note(fetched: &Fetched, what: String) {
    fetched.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

/// The newest kernel that guests can have.
fn kernel() -> anyhow::Result<String> {
    let kernels = ["/usr/local/lib/berth/guest/boot", "/boot"].into_iter().flat_map(|dir| {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        files.map(|file| file.path().display().to_string())
    });
    let cloud = kernels.filter(|path| path.contains("/vmlinuz-") && path.contains("-cloud-"));
    cloud.max().context("no cloud kernel: run berth/host/install.sh tests")
}

/// What iPXE is to do, and what the kernel then says of it on its console.
fn menu(by: &str) -> String {
    format!(
        "#!ipxe\nkernel http://{OUTSIDE}:{HTTP}/vmlinuz console=ttyS0 by={by} at=${{ip}} \
         named=${{hostname}} && boot\n"
    )
}

async fn serve_http(listener: TcpListener, kernel: Arc<[u8]>, fetched: Arc<Fetched>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (kernel, fetched) = (Arc::clone(&kernel), Arc::clone(&fetched));
        tokio::spawn(async move {
            // One that hangs up asks again.
            let _ = answer_http(stream, &kernel, &fetched).await;
        });
    }
}

async fn answer_http(stream: TcpStream, kernel: &[u8], fetched: &Fetched) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).await?;
    let mut header = String::from(".");
    while !header.trim_end().is_empty() {
        header.clear();
        stream.read_line(&mut header).await?;
    }
    let path = asked.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    note(fetched, format!("http {path}"));
    let menu = menu("http");
    let (status, body) = match path {
        MENU => ("200 OK", menu.as_bytes()),
        "vmlinuz" => ("200 OK", kernel),
        _ => ("404 Not Found", &[][..]),
    };
    let length = body.len();
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    stream.shutdown().await
}

/// TFTP (RFC 1350) of files that take one block. It answers from the port that it is asked
/// at, as what translates addresses on the way wants it.
async fn serve_tftp(socket: tokio::net::UdpSocket, fetched: Arc<Fetched>) {
    const READ: &[u8] = &[0, 1];
    const FIRST_BLOCK: &[u8] = &[0, 3, 0, 1];
    const NOT_FOUND: &[u8] = &[0, 5, 0, 1, 0];
    let mut packet = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        let Some(asked) = packet[..length].strip_prefix(READ) else { continue };
        let name = asked.split(|octet| *octet == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let answer = match name.as_str() {
            MENU => [FIRST_BLOCK, menu("tftp").as_bytes()].concat(),
            _ => NOT_FOUND.to_vec(),
        };
        note(&fetched, format!("tftp {name}"));
        // What is lost it asks for again.
        let _ = socket.send_to(&answer, from).await;
    }
}

/// A VM that has nothing but its NIC, and boots from it; its firmware speaks on the console.
fn diskless(name: &str, dhcp_options: Value) -> Value {
    let mut vm = Vm::named(name).on(NET).without_grace().object();
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["volumes"] = json!([]);
    spec["domain"]["devices"]["disks"] = json!([]);
    spec["domain"]["firmware"] = json!({ "bootloader": { "bios": { "useSerial": true } } });
    let mut interface = json!({ "name": "default", "bridge": {}, "bootOrder": 1 });
    if !dhcp_options.is_null() {
        interface["dhcpOptions"] = dhcp_options;
    }
    spec["domain"]["devices"]["interfaces"] = json!([interface]);
    vm
}

/// Waits until each node is a way out.
async fn there_is_a_way_out(world: &World) -> anyhow::Result<()> {
    says(&world.cluster, SUBNET, "join", ("Ready", "True"), "").await?;
    for node in world.lab().nodes() {
        eventually(&format!("{} to be a way out", node.name), SOON, async || {
            let links = world.links(&node).await?;
            ensure!(links.contains("ovn0"), "{links:?}");
            let tables = world.lab().exec(node.number, &["nft", "list", "tables"]).await?;
            ensure!(tables.contains("berth"), "{tables}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(super) async fn a_vm_without_a_disk_boots_from_what_its_options_name(
    world: &mut World,
) -> anyhow::Result<()> {
    let server = BootServer::start(world)?;
    let cluster = &world.cluster;
    let menu = format!("http://{OUTSIDE}:{HTTP}/{MENU}");
    let options = format!("bootfile_name={menu},bootfile_name_alt={OTHERS}");
    let subnet = Subnet::named(NET).of("10.224.0.0/24").with("natOutgoing", json!(true));
    cluster.create(SUBNET, subnet.with("dhcpV4Options", json!(options)).object()).await?;
    there_is_a_way_out(world).await?;

    let key = "ovn.kubernetes.io/dhcp-v4-options";
    let options = format!("next_server={OUTSIDE},bootfile_name={MENU},bootfile_name_alt={OTHERS}");
    let mut of_the_port = diskless("of-the-port", Value::Null);
    of_the_port["spec"]["template"]["metadata"]["annotations"][key] = json!(options);
    let of_kubevirt = json!({ "bootFileName": MENU, "tftpServerName": OUTSIDE.to_string() });
    let vms = [
        ("of-the-subnet", "http", diskless("of-the-subnet", Value::Null)),
        ("of-the-port", "tftp", of_the_port),
        ("of-kubevirt", "tftp", diskless("of-kubevirt", of_kubevirt)),
    ];
    for (_, _, vm) in &vms {
        cluster.create(VM, vm.clone()).await?;
    }
    for (name, by, _) in &vms {
        world.running(name).await?;
        let place = world.place(name).await?;
        let line = format!("by={by} at={} named={name}", place.v4);
        eventually(&format!("the kernel of {name} to say {line:?}"), BOOT, async || {
            let said = world.console_log(name).await?;
            let is_it = |said: &str| said.contains("Command line: ") && said.contains(&line);
            ensure!(said.lines().any(is_it), "{:?} fetched; {said}", server.fetched());
            Ok(())
        })
        .await?;
    }
    let fetched = server.fetched();
    let times = |what: &str| fetched.iter().filter(|one| *one == what).count();
    ensure!(times(&format!("http {MENU}")) == 1, "{fetched:?}");
    ensure!(times("http vmlinuz") == 3, "{fetched:?}");
    // Asked for again where a packet was lost, and never what is for others.
    ensure!(times(&format!("tftp {MENU}")) >= 2, "{fetched:?}");
    ensure!(!fetched.iter().any(|one| one.contains(OTHERS)), "{fetched:?}");

    for (name, _, _) in &vms {
        cluster.delete(VM, name).await?;
    }
    for (name, _, _) in &vms {
        cluster.gone(VMI, name, SOON).await?;
    }
    cluster.delete(SUBNET, NET).await?;
    cluster.gone(SUBNET, NET, SOON).await
}
