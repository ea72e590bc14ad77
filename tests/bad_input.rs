//! What cannot be is refused when it is written, by an API that looks; and what gets past
//! it is told on its own object, while everything else goes on. One table for both.

mod written;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Flavour};
use tests::kinds::{CLAIM, IP, Kind, NODE, POOL, SUBNET, VIP, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::World;
use tests::{eventually, same};

use self::written::{Bad, edits, good_route, table};
use super::schema_rules;
use super::topology::identities;

const SOON: Duration = Duration::from_secs(20);

/// What the table's objects are beside: a subnet with a VM, a Vip and a pool, and a node.
async fn stage(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let mut stage = vpc("stage");
    stage["spec"] = json!({"staticRoutes": [good_route()]});
    cluster.create(VPC, stage).await?;
    // Of a cluster beyond ours, so that nobody is to run there.
    let far = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "far"},
        "spec": {"unschedulable": true}});
    cluster.create(NODE, far).await?;
    let addresses = json!([{"type": "InternalIP", "address": "10.86.0.7"}]);
    let addresses = Patch::Merge(json!({"status": {"addresses": addresses}}));
    cluster.api(NODE).patch_status("far", &PatchParams::default(), &addresses).await?;
    let bound = json!({"namespaces": ["mine"]});
    cluster.create(VPC, schema_rules::object(VPC, "bound", &bound)).await?;
    let held = Subnet::named("held").in_vpc("stage").of("10.90.0.0/24");
    let held = held.with("vips", json!(["10.90.0.60"]));
    cluster.create(SUBNET, held.object()).await?;
    let holder = Vm::named("holder").on("held").with_address("10.90.0.5");
    cluster.create(VM, holder.with_mac("02:00:00:00:90:05").object()).await?;
    let vip = json!({"subnet": "held", "v4ip": "10.90.0.6", "macAddress": "02:00:00:00:90:06"});
    cluster.create(VIP, schema_rules::object(VIP, "floating", &vip)).await?;
    let pool = json!({"subnet": "held", "ips": ["10.90.0.32/28"]});
    cluster.create(POOL, schema_rules::object(POOL, "named", &pool)).await?;
    world.running("holder").await?;
    eventually("the Vip and the pool to be in force", SOON, async || {
        let vip = cluster.get(VIP, "floating").await?;
        let pool = cluster.get(POOL, "named").await?;
        ensure!(vip["status"]["v4ip"] == "10.90.0.6", "{vip}");
        let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
        let conditions = pool["status"]["conditions"].as_array();
        ensure!(conditions.is_some_and(|all| all.iter().any(ready)), "{pool}");
        Ok(())
    })
    .await
}

/// Takes all of it away again.
async fn clear(cluster: &Cluster, bad: &[Bad]) -> anyhow::Result<()> {
    let names = bad
        .iter()
        .map(|one| (one.kind, one.object["metadata"]["name"].as_str().unwrap_or_default()));
    let made = [(VM, "holder"), (VM, "after"), (VIP, "floating"), (POOL, "named"), (NODE, "far")];
    for (kind, name) in names.clone().chain(made) {
        cluster.delete(kind, name).await?;
    }
    for (kind, name) in names.chain(made).chain([(SUBNET, "held"), (VPC, "stage"), (VPC, "bound")])
    {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}

pub(super) async fn all_that_cannot_be_is_refused_when_it_is_written(
    world: &mut World,
) -> anyhow::Result<()> {
    stage(world).await?;
    let cluster = &world.cluster;
    let bad = table();
    ensure!(bad.len() >= 80, "there are {} cases", bad.len());
    // Who is asked, and what it knows, may come a moment later.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for Bad { kind, object, .. } in &bad {
        let object: DynamicObject = serde_json::from_value(object.clone())?;
        eventually("the server to know what is there", SOON, async || {
            let answer = cluster.api(*kind).create(&dry, &object).await;
            ensure!(answer.is_err(), "{} is taken", object.data["spec"]);
            Ok(())
        })
        .await?;
    }
    let mut taken = Vec::new();
    for Bad { kind, object, words, .. } in &bad {
        let answer = cluster.create(*kind, object.clone()).await;
        ensure!(words.len() > 1, "{object}: the field and what to write are to be said");
        if let Err(error) = refused(&object["spec"].to_string(), answer, words) {
            taken.push(format!("{error:#}"));
        }
    }
    ensure!(taken.is_empty(), "{} of {}:\n{}", taken.len(), bad.len(), taken.join("\n"));
    let late = Vm::named("late").on("nowhere");
    cluster.create(VM, late.object()).await.context("what waits for its subnet")?;
    cluster.delete(VM, "late").await?;
    schema_rules::what_others_rely_on_cannot_be_changed(&mut world.cluster).await?;
    let cluster = &world.cluster;
    let edit = json!({"spec": {"cidrBlock": "10.90.0.128/25"}});
    refused(
        "an edit",
        cluster.merge(SUBNET, "held", edit).await,
        &["10.90.0.5", "holder", "Vip floating"],
    )?;
    for (kind, name, change, words) in edits() {
        let what = format!("{name}: {change}");
        refused(&what, cluster.merge(kind, name, json!({"spec": change})).await, words)?;
    }
    let before = asked(cluster).await?;
    cluster.create(VM, Vm::named("after").on("held").object()).await?;
    world.running("after").await?;
    if let (Some(before), Some(after)) = (before, asked(&world.cluster).await?) {
        ensure!(after == before + 1, "a VM costs {} reviews", after - before);
    }
    deletions_of_what_is_in_use_are_told(&world.cluster).await?;
    clear(&world.cluster, &bad).await
}

/// Whoever deletes what is in use is told who uses it, and may.
async fn deletions_of_what_is_in_use_are_told(cluster: &Cluster) -> anyhow::Result<()> {
    let told: [(&[&str], &[&str]); 3] = [
        (&["subnet", "held"], &["the subnet stays in force", "Vip floating"]),
        (&["vpc", "stage"], &["the vpc stays in force", "Subnet held"]),
        (&["ip", "holder.default"], &["VirtualMachine default/holder", "is freed"]),
    ];
    for (what, words) in told {
        let command = [&["delete"][..], what, &["--dry-run=server"]].concat();
        let output = cluster.kubectl(&command).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let missing = words.iter().find(|word| !said.contains(**word));
        ensure!(missing.is_none(), "{what:?}: {missing:?} is not said: {said}");
    }
    Ok(())
}

/// How often the server has asked the webhook, if it has one.
async fn asked(cluster: &Cluster) -> anyhow::Result<Option<u64>> {
    if cluster.flavour() == Flavour::Embedded {
        return Ok(None);
    }
    let output = cluster.kubectl(&["get", "--raw", "/metrics"]).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = text.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_request_total")
            && line.contains("review.berth.io")
    });
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(Some(counts.sum()))
}

pub(super) async fn what_gets_past_is_told_on_its_object_and_harms_no_other(
    world: &mut World,
) -> anyhow::Result<()> {
    stage(world).await?;
    let place = world.place("holder").await?;
    let cluster = &world.cluster;
    let any = r#"[{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]"#;
    for kind in [VPC, SUBNET, POOL, VIP, IP, VM, VMI, CLAIM] {
        let resource = kind.resource();
        let name = format!("{}.{}", resource.plural, resource.group);
        cluster.kubectl_ok(&["patch", "crd", &name, "--type=json", "-p", any]).await?;
    }
    let bad = table();
    for Bad { kind, object, .. } in &bad {
        // A server forgets a schema a moment after it was told to.
        eventually("the server to take anything", SOON, async || {
            cluster.create(*kind, object.clone()).await.map(drop)
        })
        .await?;
    }
    eventually("each object to say what is wrong with it", SOON, async || {
        let mut silent = Vec::new();
        for one in &bad {
            let name = one.object["metadata"]["name"].as_str().unwrap_or_default();
            let told = told_on(cluster, one.kind, name).await?;
            if let Some(word) = one.told_of_it().find(|word| !told.contains(word.as_str())) {
                let spec = net::shown(&one.object["spec"].to_string());
                silent.push(format!("{word:?} of {spec} is not said: {told:?}"));
            }
        }
        ensure!(silent.is_empty(), "{} of {}:\n{}", silent.len(), bad.len(), silent.join("\n"));
        Ok(())
    })
    .await?;
    edits_that_get_past_are_told_and_change_nothing(world).await?;
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("after").on("held").object()).await?;
    world.running("after").await?;
    ensure!(world.place("holder").await? == place, "the holder's place has changed");
    clear(&world.cluster, &bad).await
}

/// What is in force of the Vpc, the pool and the Vip of [`stage`].
async fn in_force(world: &World) -> anyhow::Result<(BTreeSet<String>, Value, [Value; 3])> {
    let route = ("ip_prefix", "10.199.0.0/16");
    let routes = identities(world, "Logical_Router_Static_Route", route).await?;
    let pool = world.cluster.get(POOL, "named").await?["status"]["v4AvailableIPRange"].clone();
    let vip = world.cluster.get(VIP, "floating").await?["status"].clone();
    Ok((routes, pool, ["v4ip", "v6ip", "mac"].map(|field| vip[field].clone())))
}

/// One edit after another, each of which is taken back.
async fn edits_that_get_past_are_told_and_change_nothing(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let before = in_force(world).await?;
    ensure!(before.0.len() == 1 && before.1 == "10.90.0.32-10.90.0.47", "{before:?}");
    let kinds = [VPC, POOL, VIP].map(|kind| kind.resource().kind);
    let edits = edits().into_iter().filter(|(kind, ..)| kinds.contains(&kind.resource().kind));
    for (kind, name, change, words) in edits {
        let spec = cluster.get(kind, name).await?["spec"].clone();
        let changed = change.as_object().into_iter().flatten();
        let back: serde_json::Map<_, _> =
            changed.map(|(field, _)| (field.clone(), spec[field].clone())).collect();
        cluster.merge(kind, name, json!({"spec": change})).await?;
        // The field, and what stands there.
        let text = change.to_string();
        let told = words.iter().enumerate().filter(|(at, word)| *at == 0 || text.contains(**word));
        let told: Vec<_> = told.map(|(_, word)| *word).collect();
        eventually(&format!("{name} to say what is wrong with {change}"), SOON, async || {
            let said = told_on(cluster, kind, name).await?;
            let missing = told.iter().find(|word| !said.contains(**word));
            ensure!(missing.is_none(), "{missing:?} is not said: {said:?}");
            Ok(())
        })
        .await?;
        same(&format!("what is in force beside {change}"), in_force(world).await?, before.clone())?;
        cluster.merge(kind, name, json!({"spec": back})).await?;
        eventually(&format!("{name} to be as it was"), SOON, async || {
            same("what it says", told_on(cluster, kind, name).await?.as_str(), "")
        })
        .await?;
        same(&format!("what is in force after {change}"), in_force(world).await?, before.clone())?;
    }
    Ok(())
}

/// What is told of a bad object on itself.
async fn told_on(cluster: &Cluster, kind: Kind, name: &str) -> anyhow::Result<String> {
    let object = cluster.get(kind, name).await?;
    if kind.resource().kind == "IP" {
        // The kind has no conditions.
        let told = &object["metadata"]["annotations"]["berth.io/not-reserved"];
        return Ok(told.as_str().unwrap_or_default().to_owned());
    }
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let of_trouble = |one: &&Value| {
        let kind = one["type"].as_str().unwrap_or_default();
        match one["status"].as_str() {
            Some("True") => {
                ["Error", "Failure", "FieldsWithoutEffect", "InvalidDHCPOptions"].contains(&kind)
            }
            // Of instances, and of IPAMClaims.
            _ => ["Synchronized", "IPsAllocated"].contains(&kind),
        }
    };
    let told = conditions.iter().filter(of_trouble).filter_map(|one| one["message"].as_str());
    Ok(told.collect::<Vec<_>>().join(" "))
}

/// Expects an answer that refuses and holds these words.
fn refused<T, W: AsRef<str>>(
    what: &str,
    answer: anyhow::Result<T>,
    words: &[W],
) -> anyhow::Result<()> {
    let error = answer.err().with_context(|| format!("{what} was taken"))?;
    let said = format!("{error:#}");
    for word in words.iter().map(AsRef::as_ref) {
        ensure!(said.contains(word), "{what}: {said:?} does not say {word:?}");
    }
    Ok(())
}

/// The cluster of the group reviews nothing; this story starts one that does.
pub(super) async fn an_api_that_reviews_refuses_what_one_that_does_not_takes(
    lenient: &mut Cluster,
) -> anyhow::Result<()> {
    let strict = Cluster::embedded_with(&["--admission=own"]).await?;
    strict.apply_crds().await?;

    let of = |name: &str, cidr: &str| Subnet::named(name).of(cidr).object();
    let mut far = of("far", "10.0.0.0/24");
    far["spec"]["gateway"] = "10.1.0.1".into();
    let mut routed = vpc("routed");
    let route = |cidr: &str| json!([{"cidr": cidr, "nextHopIP": "10.0.0.1"}]);
    routed["spec"] = json!({"staticRoutes": route("10.0.0.0/33")});
    let table: [(Kind, Value, &[&str]); 4] = [
        (SUBNET, of("none", ""), &["spec.cidrBlock", "write a network"]),
        (SUBNET, of("long", "10.0.0.0/33"), &["spec.cidrBlock", "10.0.0.0/33"]),
        (SUBNET, far, &["spec.gateway", "10.1.0.1", "choose"]),
        (VPC, routed, &["spec.staticRoutes[0].cidr", "10.0.0.0/33", "write a network"]),
    ];
    for (kind, object, words) in table {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        refused(&name, strict.create(kind, object.clone()).await, words)?;
        ensure!(strict.find(kind, &name).await?.is_none(), "{name} was stored");
        lenient.create(kind, object).await?;
        lenient.delete(kind, &name).await?;
    }

    // An edit is looked at like a new object, and what was stored stays.
    strict.create(SUBNET, of("good", "10.0.0.0/24")).await?;
    let bad = json!({"spec": {"cidrBlock": "x"}});
    refused("an edit", strict.merge(SUBNET, "good", bad).await, &["spec.cidrBlock", "x"])?;
    strict.merge(SUBNET, "good", json!({"metadata": {"labels": {"a": "b"}}})).await?;
    let kept = strict.get(SUBNET, "good").await?;
    ensure!(kept["spec"]["cidrBlock"] == "10.0.0.0/24", "{kept}");
    each_field_of_a_guest_that_cannot_be_is_told(&strict).await?;
    the_spec_of_an_instance_is_changed_by_its_vm_alone(&strict).await
}

/// As KubeVirt's webhook answers: by code, and field by field.
async fn each_field_of_a_guest_that_cannot_be_is_told(strict: &Cluster) -> anyhow::Result<()> {
    let mut vm = Vm::named("odd").on("good").object();
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["hostname"] = "Odd".into();
    spec["domain"]["devices"]["interfaces"][0]["slirp"] = json!({});
    spec["volumes"][0]["emptyDisk"] = json!({"capacity": "1Gi"});
    let error = strict.create(VM, vm).await.err().context("it was taken")?;
    let Some(kube::Error::Api(status)) = error.downcast_ref() else { return Err(error) };
    same("the code", (status.code, status.reason.as_str()), (422, "Invalid"))?;
    let path = "spec.template.spec";
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let told = causes.map(|one| (one.field.as_str(), one.message.as_str()));
    let told: Vec<_> = told.filter(|(field, _)| !field.ends_with("hostname")).collect();
    let want = [
        (
            format!("{path}.domain.devices.interfaces[0].slirp"),
            "Slirp interface support has been discontinued since v1.3".to_owned(),
        ),
        (
            format!("{path}.volumes[0]"),
            format!("{path}.volumes[0] must have exactly one source type set"),
        ),
    ];
    let want: Vec<_> = want.iter().map(|(field, text)| (field.as_str(), text.as_str())).collect();
    same("the causes", told, want)?;
    let hostname = format!("{path}.hostname does not conform to the kubernetes DNS_LABEL rules");
    ensure!(status.message.contains(&hostname), "{}", status.message);
    ensure!(strict.find(VM, "odd").await?.is_none(), "it was stored");
    Ok(())
}

async fn the_spec_of_an_instance_is_changed_by_its_vm_alone(
    strict: &Cluster,
) -> anyhow::Result<()> {
    let vm = Vm::named("alone").on("good").object();
    let alone = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "alone", "namespace": "default",
            "annotations": vm["spec"]["template"]["metadata"]["annotations"]},
        "spec": vm["spec"]["template"]["spec"],
    });
    strict.create(VMI, alone).await?;
    let memory = json!({"spec": {"domain": {"memory": {"guest": "256Mi"}}}});
    let changed = strict.merge(VMI, "alone", memory).await;
    refused("an edit", changed, &["update of VMI object is restricted"])?;
    strict.merge(VMI, "alone", json!({"metadata": {"labels": {"a": "b"}}})).await?;
    let kept = strict.get(VMI, "alone").await?;
    same("the memory", kept["spec"]["domain"]["memory"]["guest"].as_str(), Some("128Mi"))
}
