//! Builds the parts, joins them, and ends them in order.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use crds::cdi::notes::LOCAL_VOLUMES;
use crds::commands::ENDPOINT;
use crds::kubevirt::MIGRATION_ADDRESS;
use dhcp::Server;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use prometheus::Registry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, HypervisorChoice};
use crate::bindings::Bindings;
use crate::commands::Listener;
use crate::control_groups::Lacking;
use crate::cpus::Cpus;
use crate::domain::Emulation;
use crate::fleet::Fleet;
use crate::host::Host;
use crate::hypervisor::{Fake, Hypervisor, Libvirt};
use crate::imports::{Bench, Uploads};
use crate::leases::Defaults;
use crate::metrics::Metrics;
use crate::node::{About, Capacity};
use crate::places::Places;
use crate::ports::{Ports, Wires};
use crate::tap::Taps;
use crate::telling::Teller;
use crate::volumes::{Dirs, Images, Settings};
use crate::watch::Watched;
use crate::{admin, consoles, egress, imports, node};

/// Runs the agent until `shutdown`; VMs run on afterwards.
///
/// DHCP is answered as soon as this node's own disk is read; the API is waited
/// for after that.
///
/// # Errors
/// What the agent cannot do without: its directories, its store, its sockets,
/// a kubeconfig. An API, libvirt or Open vSwitch that is away is no error.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        node,
        kubeconfig,
        libvirt_uri,
        ovsdb,
        bridge,
        state_dir,
        run_dir,
        image_dir,
        insecure_registry,
        registry_ca,
        image_cache_bytes,
        image_max_bytes,
        max_parallel_image_pulls,
        host_disk_dir,
        local_volume_dir,
        swtpm_dir,
        dedicated_cpus,
        emulation,
        hypervisor,
        commands_listen,
        metrics_listen,
        migration_address,
        migration_pki,
        dhcp_lease_time,
        cluster_domain,
    } = args;
    for dir in [&state_dir, &run_dir] {
        // QEMU is let in to these later (`confinement`), and stays so.
        if !dir.exists() {
            private_dir(dir)?;
        }
    }
    for dir in &host_disk_dir {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    }
    let volumes = local_volume_dir.as_deref().map(volume_dir).transpose()?;
    let images = Settings {
        plain: insecure_registry,
        authorities: authorities(&registry_ca)?,
        cache_bytes: image_cache_bytes,
        image_bytes: image_max_bytes,
        parallel: usize::from(max_parallel_image_pulls),
    };
    let images = Images::new(&state_dir, image_dir, images);
    let emulation = emulation.decide();
    tracing::info!(node, ?emulation, ?hypervisor, "Starting the agent");

    let metrics = Metrics::new(Registry::new()).context("cannot register metrics")?;
    let bindings = state_dir.join("bindings");
    private_dir(&bindings)?;
    let bindings = Bindings::open(&bindings)
        .context("cannot open the DHCP bindings: does another agent of this node run?")?;
    let cpus = Cpus::of_host(dedicated_cpus).map_err(anyhow::Error::msg);
    let cpus = cpus.context("--dedicated-cpus")?;
    let capacity = match hypervisor {
        HypervisorChoice::Fake => Capacity::boundless(),
        HypervisorChoice::Libvirt => Capacity::of_host(),
    };
    let capacity = capacity.setting_aside(cpus.dedicated());
    let tells = matches!(hypervisor, HypervisorChoice::Libvirt) && emulation == Emulation::Kvm;
    let processors = tells.then(|| libvirt_uri.clone());
    let (hypervisor, wires) = match hypervisor {
        HypervisorChoice::Fake => (Hypervisor::Fake(Fake::new()), None),
        HypervisorChoice::Libvirt => {
            let libvirt = Libvirt::spawn(&libvirt_uri).context("cannot start libvirt's threads")?;
            let dhcp = Server::start(metrics.registry()).context("cannot start the DHCP server")?;
            let taps = Taps::start(ovsdb, bridge).context("cannot open a netlink socket")?;
            (Hypervisor::Libvirt(libvirt), Some(Wires { dhcp, taps }))
        }
    };
    let dhcp = wires.as_ref().map(|wires| wires.dhcp.clone());
    let taps = wires.as_ref().map(|wires| wires.taps.clone());
    let ports = Ports::new(bindings, wires);
    let restored = ports.restore().context("cannot read the DHCP bindings")?;
    tracing::info!(ports = restored, "Serving the DHCP bindings kept on disk");

    let commands = match &commands_listen {
        Some(address) => Some(Listener::bind(address).await?),
        None => None,
    };
    let endpoint = commands.as_ref().map(|commands| serde_json::to_string(&commands.endpoint));
    let endpoint = endpoint.transpose()?;

    let lacking = Lacking::default();
    let stop = shutdown.child_token();
    let client = client(&kubeconfig).await?;
    let host = Host {
        node: node.clone(),
        client: client.clone(),
        hypervisor,
        ports: ports.clone(),
        metrics: metrics.clone(),
        dirs: Dirs { state: state_dir, images, host_disks: host_disk_dir },
        tpms: swtpm_dir,
        run_dir: run_dir.clone(),
        emulation,
        arrivals: migration_address.map(|address| address.to_string()),
        pki: migration_pki.map(|dir| dir.display().to_string()),
        defaults: Defaults { lease: dhcp_lease_time, domain: cluster_domain },
        look: Arc::default(),
        freezes: Places::of(1),
        teller: Teller::new(&client),
        cpus,
        lacking: lacking.clone(),
    };
    let consoles = consoles::tend(host.dirs.clone(), stop.clone());
    let bench = Bench {
        client: client.clone(),
        node: node.clone(),
        state: host.dirs.state.clone(),
        volumes: volumes.clone(),
        images: host.dirs.images.clone(),
        uploads: Uploads::default(),
    };
    let uploads = bench.uploads.clone();
    let watched = Watched::start(&client, &node);

    // Whichever of these ends first ends the agent, and says so.
    let socket = run_dir.join("admin.sock");
    let admin = admin::serve(&socket, metrics.clone(), ports, stop.clone());
    let listen = async {
        match metrics_listen {
            Some(address) => admin::serve_metrics(address, metrics, stop.clone()).await,
            None => {
                stop.cancelled().await;
                Ok(())
            }
        }
    };
    let answers = async {
        let Some(dhcp) = dhcp else { return Ok(()) };
        tokio::select! {
            () = dhcp.ended() => anyhow::bail!("the DHCP server has ended"),
            () = stop.cancelled() => Ok(()),
        }
    };
    let commands = {
        let (host, stop) = (host.clone(), stop.clone());
        async move {
            if let Some(commands) = commands {
                commands.serve(host, uploads, stop).await;
            }
        }
    };
    let fleet = async {
        Fleet::new(host, watched).run(stop.clone()).await;
        stop.cancel();
    };
    let egress = {
        let (client, node, stop) = (client.clone(), node.clone(), stop.clone());
        async move {
            if let Some(taps) = taps {
                egress::run(client, node, taps, stop).await;
            }
        }
    };
    let arrivals = migration_address.map(|address| address.to_string());
    let volumes = volumes.map(|dir| dir.display().to_string());
    let notes = [(MIGRATION_ADDRESS, arrivals), (ENDPOINT, endpoint), (LOCAL_VOLUMES, volumes)];
    let imports = imports::run(bench, stop.clone());
    let about = About { notes, capacity, processors, lacking };
    let alive = node::keep_alive(client, node, about, stop.clone());
    let serve = async {
        let outcome = tokio::try_join!(
            async { admin.await.context("cannot serve the admin socket") },
            async { listen.await.context("cannot serve metrics") },
            answers,
        );
        stop.cancel();
        outcome
    };
    let ((), (), (), (), (), (), outcome) =
        tokio::join!(fleet, alive, egress, commands, consoles, imports, serve);
    tracing::info!("The agent has ended; VMs run on");
    outcome.map(drop)
}

/// Makes the directory of volumes: the way to a disk leads through it, and it is nobody's to list.
fn volume_dir(path: &Path) -> anyhow::Result<PathBuf> {
    let text = || format!("cannot make the directory {}", path.display());
    let path = std::path::absolute(path).with_context(text)?;
    DirBuilder::new().recursive(true).mode(0o711).create(&path).with_context(text)?;
    Ok(path)
}

/// The certificates in these files.
fn authorities(files: &[PathBuf]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut all = Vec::new();
    for file in files {
        let of = || format!("cannot read certificates from {}", file.display());
        let found = CertificateDer::pem_file_iter(file).with_context(of)?;
        let found: Vec<_> = found.collect::<Result<_, _>>().with_context(of)?;
        anyhow::ensure!(!found.is_empty(), "there is no certificate in {}", file.display());
        all.extend(found);
    }
    Ok(all)
}

fn private_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

async fn client(path: &Path) -> anyhow::Result<Client> {
    let text = || format!("cannot read the kubeconfig {}", path.display());
    let kubeconfig = Kubeconfig::read_from(path).with_context(text)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(text)?;
    Client::try_from(config).context("cannot make a client for the API")
}
