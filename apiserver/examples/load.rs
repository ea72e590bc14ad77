//! Creates objects of 2.5 KB with many callers at once, patches each, and says how fast it went.
//!
//! `load <kubeconfig> <count> <callers> <patches>`

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or_else(|| anyhow::anyhow!("an argument is missing"));
    let path = next()?;
    let (count, callers, patches) =
        (next()?.parse::<u32>()?, next()?.parse::<usize>()?, next()?.parse::<u32>()?);
    let config = Kubeconfig::read_from(path)?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await?;
    let api: Api<ConfigMap> = Api::default_namespaced(kube::Client::try_from(config)?);
    let prefix = uuid::Uuid::new_v4().simple().to_string();
    let name = |index: u32| format!("load-{}-{index}", &prefix[..6]);

    let start = Instant::now();
    let creates = (0..count).map(|index| {
        let (api, name) = (&api, name(index));
        async move {
            let body = json!({"metadata": {"name": name}, "data": {"text": "x".repeat(2500)}});
            api.create(&PostParams::default(), &serde_json::from_value(body)?).await?;
            anyhow::Ok(())
        }
    });
    futures::stream::iter(creates).buffer_unordered(callers).try_collect::<()>().await?;
    report("creates", count, start);

    let start = Instant::now();
    let changes = (0..patches).flat_map(|round| (0..count).map(move |index| (round, index)));
    let changes = changes.map(|(round, index)| {
        let (api, name) = (&api, name(index));
        async move {
            let patch = Patch::Merge(json!({"data": {"round": round.to_string()}}));
            api.patch(&name, &PatchParams::default(), &patch).await?;
            anyhow::Ok(())
        }
    });
    futures::stream::iter(changes).buffer_unordered(callers).try_collect::<()>().await?;
    report("patches", count * patches, start);
    Ok(())
}

fn report(what: &str, count: u32, start: Instant) {
    println!("{what}: {:.0} per second", f64::from(count) / start.elapsed().as_secs_f64());
}
