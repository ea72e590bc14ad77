//! What benchmarks of the whole system have in common: a subnet, a burst of objects,
//! and a watch that counts.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::LocalBoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tests::cluster::Cluster;
use tests::kinds::{Kind, SUBNET, VPC};
use tests::objects::{Subnet, vpc};
use tests::process::resident_kib;
use tests::world::World;

/// Objects on their way to the API at a time.
pub const AT_ONCE: usize = 32;
/// How long anything may take before the measurement is given up.
pub const LIMIT: Duration = Duration::from_secs(900);

/// `bench`, dual-stack, in `bench-vpc`, and in force.
///
/// # Errors
/// When it does not get ready.
pub async fn make_subnet(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.create(VPC, vpc("bench-vpc")).await?;
    let subnet = Subnet::named("bench").in_vpc("bench-vpc").of("10.90.0.0/16,fd90::/64");
    cluster.create(SUBNET, subnet.object()).await?;
    cluster.kubectl_ok(&["wait", "subnet/bench", "--for=condition=Ready", "--timeout=30s"]).await?;
    Ok(())
}

/// Creates so many objects, as fast as the API takes them; says when each was sent.
///
/// # Errors
/// When one is refused.
pub async fn create(
    cluster: &Cluster,
    kind: Kind,
    count: usize,
    object: impl Fn(usize) -> Value,
) -> anyhow::Result<Vec<Instant>> {
    let api = cluster.api(kind);
    let objects: Result<Vec<DynamicObject>, _> =
        (0..count).map(|n| serde_json::from_value(object(n))).collect();
    let params = PostParams::default();
    stream::iter(objects?)
        .map(|object| {
            let (api, params) = (&api, &params);
            async move {
                let sent = Instant::now();
                api.create(params, &object).await.map(|_| sent)
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .context("an object was refused")
}

/// What a watch saw come or change.
pub type Objects = BoxStream<'static, Result<DynamicObject, watcher::Error>>;

/// Each object of a kind that comes or changes from now on. One whose watch a busy
/// server ended is seen again with the next list.
///
/// # Errors
/// When the watch does not begin.
pub async fn watch(cluster: &Cluster, kind: Kind) -> anyhow::Result<Objects> {
    from_now(cluster, kind, watcher::Config::default()).await
}

/// The same of the one object of this name: nobody has to list the others for it.
///
/// # Errors
/// When the watch does not begin.
pub async fn watch_one(cluster: &Cluster, kind: Kind, name: &str) -> anyhow::Result<Objects> {
    let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
    from_now(cluster, kind, named).await
}

/// Each object of a kind that is there, and then each that comes or changes.
#[must_use]
pub fn all(cluster: &Cluster, kind: Kind) -> Objects {
    objects(watcher(cluster.api(kind), watcher::Config::default()).default_backoff().boxed())
}

type Events = BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>>;

async fn from_now(
    cluster: &Cluster,
    kind: Kind,
    which: watcher::Config,
) -> anyhow::Result<Objects> {
    let mut events = watcher(cluster.api(kind), which).default_backoff().boxed();
    while !matches!(events.try_next().await?.context("a watch goes on")?, Event::InitDone) {}
    Ok(objects(events))
}

fn objects(events: Events) -> Objects {
    let objects = events.try_filter_map(async |event| {
        Ok(match event {
            Event::Apply(object) | Event::InitApply(object) => Some(object),
            Event::Delete(_) | Event::Init | Event::InitDone => None,
        })
    });
    objects.boxed()
}

/// Reads until objects of `count` names have been `wanted`; says when each was, first.
///
/// # Errors
/// When they do not come in time.
pub async fn count(
    mut objects: Objects,
    count: usize,
    wanted: impl Fn(&DynamicObject) -> bool,
) -> anyhow::Result<HashMap<String, Instant>> {
    let reading = async {
        let mut seen = HashMap::new();
        while seen.len() < count {
            let object = match objects.next().await.context("a watch goes on")? {
                Ok(object) => object,
                // It begins anew by itself.
                Err(_) => continue,
            };
            if wanted(&object) {
                seen.entry(object.name_any()).or_insert_with(Instant::now);
            }
        }
        anyhow::Ok(seen)
    };
    tokio::time::timeout(LIMIT, reading).await.context("not all objects came")?
}

/// Resident memory of a process of the lab, in MiB.
///
/// # Errors
/// When it does not run.
pub fn mib(world: &World, process: &str) -> anyhow::Result<f64> {
    let pid = world.lab().pid_of(process).with_context(|| format!("{process} does not run"))?;
    let kib = u32::try_from(resident_kib(u32::try_from(pid)?)?)?;
    Ok(f64::from(kib) / 1024.0)
}

/// The CPU time that a process of the lab has used, in user and kernel mode.
///
/// # Errors
/// When it does not run.
pub fn cpu_seconds(world: &World, process: &str) -> anyhow::Result<f64> {
    /// `USER_HZ`, the same on every Linux that we run on.
    const TICKS: f64 = 100.0;
    let pid = world.lab().pid_of(process).with_context(|| format!("{process} does not run"))?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may have spaces; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks: u32 = ticks.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    Ok(f64::from(ticks) / TICKS)
}

/// Carries out all measurements, or the one of the name that the variable has; one that fails
/// is told, and the others go on.
pub async fn each(
    variable: &str,
    measurements: impl IntoIterator<Item = (&str, LocalBoxFuture<'_, anyhow::Result<()>>)>,
) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    let only = std::env::var(variable).ok();
    for (name, measuring) in measurements {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        if let Err(error) = measuring.await {
            eprintln!("{name}: {error:#}");
            status = ExitCode::FAILURE;
        }
    }
    status
}
