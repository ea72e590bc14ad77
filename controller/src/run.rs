//! Builds the parts, joins them, and owns their end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use ovn::nb;
use ovn::ovsdb::{self, Remote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::Args;
use crate::data_volumes::Desk;
use crate::decide::Policy;
use crate::drain::Gate;
use crate::endpoints::Directory;
use crate::fencing::{Fencing, Sentry};
use crate::metrics::Metrics;
use crate::round::{Edge, Rounds};
use crate::world::World;
use crate::{data_volumes, defaults, drain, endpoints, fencing, subresources, watch, webhook};

/// How long events gather before a round, so that a burst is one round.
const GATHER: Duration = Duration::from_millis(3);

/// Runs the controller until `shutdown`.
///
/// # Errors
/// When the configuration cannot be used, or a part that everything relies on
/// ends.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        kubeconfig,
        ovn_nb,
        keep_vm_ip,
        migrations,
        drain,
        fencing,
        vm_rollout_strategy,
        default_cidr,
        ranges,
        ip_quarantine,
        dhcp_lease_time,
        resync,
        metrics_listen,
        webhook,
        subresources,
    } = args;
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(&path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => kube::Config::infer().await.context("found no way to reach a Kubernetes API")?,
    };
    let client = Client::try_from(config)?;
    let ovn = ovsdb::Client::spawn(ovsdb::Config {
        remotes: Remote::list(&ovn_nb).context("--ovn-nb")?,
        database: nb::DATABASE.to_owned(),
        tables: nb::tables(),
        leader_only: true,
    });
    let metrics = Metrics::new()?;
    let mut tasks = JoinSet::new();
    if let Some(address) = metrics_listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen for metrics on {address}"))?;
        tasks.spawn(serve_metrics(listener, metrics.clone()));
    }
    if let Some(cidrs) = default_cidr {
        // Beside everything else: nothing waits for it, and it ends when it is done.
        let stop = shutdown.clone();
        let made = defaults::make(client.clone(), cidrs);
        tokio::spawn(async move { stop.run_until_cancelled(made).await });
    }
    let secret = webhook.webhook_secret.clone();
    subresources::start(subresources, secret, &client, &mut tasks).await?;
    let facts = webhook::start(webhook, &ranges, &client, &mut tasks).await?;
    let desk = Arc::<Desk>::default();
    let directory = Arc::<Directory>::default();
    let (gate, sentry) = (Arc::<Gate>::default(), Arc::<Sentry>::default());
    let told = watch::Told {
        facts,
        desk: Arc::clone(&desk),
        directory: Arc::clone(&directory),
        gate: Arc::clone(&gate),
        sentry: Arc::clone(&sentry),
    };
    let mut events = watch::all(&client, &mut tasks, told);
    tasks.spawn(drain::run(client.clone(), drain, gate));
    let gives_up = fencing.fencing != Fencing::None;
    tasks.spawn(fencing::run(client.clone(), fencing, sentry));
    tasks.spawn(data_volumes::run(client.clone(), Arc::clone(&desk)));
    tasks.spawn(endpoints::run(client.clone(), directory));
    let policy = Policy { keep_vm_ip };
    let edge = Edge { client, ovn: ovn.clone(), metrics, policy, join: ranges.node_switch_cidr };
    let mut world = World::new(ip_quarantine);
    world.unended.lease = dhcp_lease_time;
    world.reserved = ranges.reserved();
    world.terms = migrations;
    world.gives_up = gives_up;
    world.rollout = vm_rollout_strategy;
    let mut rounds = Rounds::new(world, edge);
    rounds.resync();
    let every = Duration::from_secs(resync);
    let mut next_resync = Instant::now() + every;
    info!("Controller started");
    loop {
        let due = rounds.next_due().map_or(next_resync, |due| due.min(next_resync));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            event = events.recv() => {
                let event = event.context("every watch has ended")?;
                rounds.world.apply(event);
                gather(&mut rounds, &mut events).await;
            }
            answered = rounds.answered() => answered?,
            ended = tasks.join_next() => anyhow::bail!("a task that everything relies on ended: {ended:?}"),
            () = ovn.synced(), if !ovn.is_synced() => {}
            () = sleep_until(due) => {}
        }
        if Instant::now() >= next_resync {
            next_resync = Instant::now() + every;
            rounds.resync();
        }
        rounds.round().await;
        desk.select(rounds.world.storage.take_selections());
    }
    info!("Controller stopped");
    Ok(())
}

/// Takes in what else arrives in the next moments.
async fn gather(
    rounds: &mut Rounds,
    events: &mut tokio::sync::mpsc::Receiver<crate::world::Event>,
) {
    let deadline = Instant::now() + GATHER;
    while let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.recv()).await {
        rounds.world.apply(event);
    }
    while let Ok(event) = events.try_recv() {
        rounds.world.apply(event);
    }
}

/// Answers every request with the metrics: there is nothing else to ask for.
async fn serve_metrics(listener: TcpListener, metrics: Metrics) {
    while let Ok((mut connection, _)) = listener.accept().await {
        let body = metrics.text();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let exchange = async move {
            let mut request = [0; 1024];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), exchange).await;
    }
}
