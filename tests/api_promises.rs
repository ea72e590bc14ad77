//! What controllers lean on, against either API: concurrency, finalizers,
//! owners, status, and that an answered write is kept.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt as _;
use kube::api::{DeleteParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::eventually;
use tests::kinds::{CONFIG_MAP, VM, VMI, VPC};
use tests::objects::{Vm, vpc};

/// Garbage collection of new kinds' objects takes the real one up to 30 s.
const COLLECTED: Duration = Duration::from_secs(75);

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn status_of(error: kube::Error) -> anyhow::Result<(u16, String)> {
    match error {
        kube::Error::Api(status) => Ok((status.code, status.reason.clone())),
        other => Err(other.into()),
    }
}

pub(super) async fn of_two_writers_with_one_version_one_loses(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let first = cluster.create(VPC, vpc("contended")).await?;
    let api = cluster.api(VPC);
    let mut change = first.clone();
    change.data["spec"] = json!({"namespaces": ["a"]});
    api.replace("contended", &PostParams::default(), &change).await?;
    change.data["spec"] = json!({"namespaces": ["b"]});
    let lost = api.replace("contended", &PostParams::default(), &change).await;
    let status = status_of(lost.err().context("the second writer was let through")?)?;
    ensure!(status == (409, "Conflict".into()), "{status:?}");
    let object = cluster.get(VPC, "contended").await?;
    ensure!(object["spec"]["namespaces"] == json!(["a"]), "{object:#}");

    // The version in a patch's body is a condition as well.
    let version = &first.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"enableBfd": true}});
    let error = cluster.merge(VPC, "contended", patch).await.err().context("taken")?;
    ensure!(format!("{error:?}").contains("Conflict"), "{error:?}");
    Ok(())
}

pub(super) async fn a_name_is_taken_once(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.create(VPC, vpc("unique")).await?;
    let object: DynamicObject = serde_json::from_value(vpc("unique"))?;
    let again = cluster.api(VPC).create(&PostParams::default(), &object).await;
    let status = status_of(again.err().context("created twice")?)?;
    ensure!(status == (409, "AlreadyExists".into()), "{status:?}");

    let mut generated = config_map("x");
    generated["metadata"] = json!({"generateName": "made-"});
    let (a, b) = tokio::try_join!(
        cluster.create(CONFIG_MAP, generated.clone()),
        cluster.create(CONFIG_MAP, generated),
    )?;
    let (a, b) = (a.metadata.name.context("named")?, b.metadata.name.context("named")?);
    ensure!(a.starts_with("made-") && b.starts_with("made-") && a != b, "{a} {b}");
    Ok(())
}

pub(super) async fn status_and_spec_are_written_apart(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut object = Vm::named("apart").halted().object();
    object["status"] = json!({"printableStatus": "Running"});
    cluster.create(VM, object).await?;
    let made = cluster.get(VM, "apart").await?;
    ensure!(made["status"]["printableStatus"] != "Running", "a create sets no status: {made:#}");
    ensure!(made["metadata"]["generation"] == 1, "{made:#}");

    let both = json!({"spec": {"runStrategy": "Always"}, "status": {"printableStatus": "Stopped"}});
    let body = both.to_string();
    let patch = ["patch", "vm", "apart", "--type=merge", "-p", &body];
    cluster.kubectl_ok(&[&patch[..], &["--subresource=status"]].concat()).await?;
    let seen = cluster.get(VM, "apart").await?;
    ensure!(seen["status"]["printableStatus"] == "Stopped", "{seen:#}");
    ensure!(seen["spec"]["runStrategy"] == "Halted", "/status changes no spec: {seen:#}");
    ensure!(seen["metadata"]["generation"] == 1, "status is no new generation: {seen:#}");

    let both = json!({"spec": {"runStrategy": "Always"}, "status": {"printableStatus": "Paused"}});
    cluster.merge(VM, "apart", both).await?;
    let seen = cluster.get(VM, "apart").await?;
    ensure!(seen["spec"]["runStrategy"] == "Always", "{seen:#}");
    ensure!(seen["status"]["printableStatus"] == "Stopped", "the object sets no status: {seen:#}");
    ensure!(seen["metadata"]["generation"] == 2, "a new spec is a new generation: {seen:#}");
    Ok(())
}

pub(super) async fn an_instance_has_no_status_subresource(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let instance = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "whole", "namespace": "default"},
        "spec": {"domain": {"devices": {}}, "unheardOf": {"kept": true}},
        "status": {"phase": "Scheduled"},
    });
    cluster.create(VMI, instance).await?;
    cluster.merge(VMI, "whole", json!({"status": {"phase": "Running"}})).await?;
    let seen = cluster.get(VMI, "whole").await?;
    ensure!(seen["status"]["phase"] == "Running", "{seen:#}");
    ensure!(seen["spec"]["unheardOf"]["kept"] == true, "unknown fields are kept: {seen:#}");
    Ok(())
}

pub(super) async fn a_write_that_changes_nothing_is_no_event(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    cluster.create(VPC, vpc("same")).await?;
    cluster.merge(VPC, "same", json!({"spec": {"namespaces": ["a"]}})).await?;
    let before = cluster.get(VPC, "same").await?;
    cluster.merge(VPC, "same", json!({"spec": {"namespaces": ["a"]}})).await?;
    let after = cluster.get(VPC, "same").await?;
    let version = "/metadata/resourceVersion";
    ensure!(before.pointer(version) == after.pointer(version), "{before:#}\n{after:#}");
    Ok(())
}

pub(super) async fn a_finalizer_holds_an_object_until_it_goes(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let mut object = config_map("held");
    object["metadata"]["finalizers"] = json!(["berth.io/test"]);
    cluster.create(CONFIG_MAP, object).await?;
    cluster.delete(CONFIG_MAP, "held").await?;
    cluster.delete(CONFIG_MAP, "held").await.context("asking again changes nothing")?;
    let held = cluster.get(CONFIG_MAP, "held").await?;
    ensure!(held["metadata"]["deletionTimestamp"].is_string(), "{held:#}");
    let more = json!({"metadata": {"finalizers": ["berth.io/test", "berth.io/late"]}});
    ensure!(
        cluster.merge(CONFIG_MAP, "held", more).await.is_err(),
        "no finalizer is added to what is being deleted"
    );
    cluster.merge(CONFIG_MAP, "held", json!({"metadata": {"finalizers": null}})).await?;
    cluster.gone(CONFIG_MAP, "held", Duration::from_secs(5)).await
}

pub(super) async fn what_is_owned_goes_with_its_owner(cluster: &mut Cluster) -> anyhow::Result<()> {
    let owner = cluster.create(VM, Vm::named("owner").halted().object()).await?;
    let mut owned = config_map("owned");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine", "name": "owner", "uid": owner.metadata.uid,
        "controller": true, "blockOwnerDeletion": true}]);
    cluster.create(CONFIG_MAP, owned).await?;
    let mut orphan = config_map("orphan");
    orphan["metadata"]["ownerReferences"] = json!([{"apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine", "name": "owner", "uid": "0c2f8a52-0000-4000-8000-000000000000"}]);
    cluster.create(CONFIG_MAP, orphan).await?;

    cluster.gone(CONFIG_MAP, "orphan", COLLECTED).await.context("its owner never existed")?;
    ensure!(cluster.find(CONFIG_MAP, "owned").await?.is_some(), "its owner lives");
    cluster.delete(VM, "owner").await?;
    cluster.gone(CONFIG_MAP, "owned", COLLECTED).await
}

pub(super) async fn foreground_deletion_takes_the_owned_first(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let owner = cluster.create(CONFIG_MAP, config_map("parent")).await?;
    let mut owned = config_map("child");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap",
        "name": "parent", "uid": owner.metadata.uid, "blockOwnerDeletion": true}]);
    owned["metadata"]["finalizers"] = json!(["berth.io/test"]);
    cluster.create(CONFIG_MAP, owned).await?;
    cluster.api(CONFIG_MAP).delete("parent", &DeleteParams::foreground()).await?;
    eventually("the child to be asked to go", COLLECTED, async || {
        let child = cluster.get(CONFIG_MAP, "child").await?;
        ensure!(child["metadata"]["deletionTimestamp"].is_string(), "{child}");
        Ok(())
    })
    .await?;
    ensure!(cluster.find(CONFIG_MAP, "parent").await?.is_some(), "the parent waits");
    cluster.merge(CONFIG_MAP, "child", json!({"metadata": {"finalizers": null}})).await?;
    cluster.gone(CONFIG_MAP, "parent", COLLECTED).await
}

pub(super) async fn a_delete_for_another_uid_is_refused(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    cluster.create(CONFIG_MAP, config_map("someone")).await?;
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some("0c2f8a52-0000-4000-8000-000000000000".into()),
        resource_version: None,
    });
    let refused = cluster.api(CONFIG_MAP).delete("someone", &params).await;
    let status = status_of(refused.err().context("deleted")?)?;
    ensure!(status == (409, "Conflict".into()), "{status:?}");
    Ok(())
}

pub(super) async fn a_watch_continues_where_a_list_ended(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let api = cluster.api(CONFIG_MAP);
    let version = api.list(&Default::default()).await?.metadata.resource_version;
    let version = version.context("a list has a version")?;
    let mut labelled = config_map("followed");
    labelled["metadata"]["labels"] = json!({"followed": "yes"});
    cluster.create(CONFIG_MAP, labelled).await?;
    cluster.create(CONFIG_MAP, config_map("not-followed")).await?;
    cluster.merge(CONFIG_MAP, "followed", json!({"data": {"a": "1"}})).await?;
    let out = json!({"metadata": {"labels": {"followed": null}}});
    cluster.merge(CONFIG_MAP, "followed", out).await?;

    let params = WatchParams::default().labels("followed=yes").timeout(20);
    let events = api.watch(&params, &version).await?;
    let seen: Vec<String> = events
        .try_filter_map(async |event| {
            Ok(match event {
                WatchEvent::Added(object) => Some(format!("added {}", name_of(&object))),
                WatchEvent::Modified(object) => Some(format!("modified {}", name_of(&object))),
                // It left the selection: gone, for this watcher.
                WatchEvent::Deleted(object) => Some(format!("deleted {}", name_of(&object))),
                WatchEvent::Bookmark(_) => None,
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            })
        })
        .take_three()
        .await?;
    ensure!(seen == ["added followed", "modified followed", "deleted followed"], "{seen:?}");
    Ok(())
}

fn name_of(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

/// The first three items of a stream.
trait TakeThree: Sized {
    async fn take_three(self) -> Result<Vec<String>, kube::Error>;
}

impl<S: futures::Stream<Item = Result<String, kube::Error>>> TakeThree for S {
    async fn take_three(self) -> Result<Vec<String>, kube::Error> {
        use futures::StreamExt as _;
        self.take(3).try_collect().await
    }
}

pub(super) async fn what_was_answered_survives_kill_minus_nine(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let mut answered = vec![];
    for round in 0..3 {
        let api = cluster.api(CONFIG_MAP);
        // Writers run until the kill breaks their connection.
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let api = api.clone();
                tokio::spawn(async move {
                    let mut written = vec![];
                    for n in 0.. {
                        let name = format!("durable-{round}-{writer}-{n}");
                        let object = serde_json::from_value(config_map(&name)).expect("it is one");
                        if api.create(&PostParams::default(), &object).await.is_err() {
                            break;
                        }
                        written.push(name);
                    }
                    written
                })
            })
            .collect();
        eventually("some writes to be answered", Duration::from_secs(20), async || {
            let first = format!("durable-{round}-0-10");
            cluster.get(CONFIG_MAP, &first).await.map(drop)
        })
        .await?;
        cluster.kill_api()?;
        for writer in writers {
            answered.extend(writer.await?);
        }
        cluster.start_api().await?;
    }
    let there = cluster.list(CONFIG_MAP).await?;
    let there: std::collections::BTreeSet<&str> =
        there.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
    let lost: Vec<_> = answered.iter().filter(|name| !there.contains(name.as_str())).collect();
    ensure!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), answered.len());
    Ok(())
}
