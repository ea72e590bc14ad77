//! What a person does with stock kubectl, against either API, with our CRDs.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::cluster::{Cluster, kubectl_command};
use tests::eventually;
use tests::kinds::{CONFIG_MAP, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const SOON: Duration = Duration::from_secs(20);

/// What a controller does, by hand.
async fn set_status(cluster: &Cluster, vm: &str, status: serde_json::Value) -> anyhow::Result<()> {
    let body = json!({"status": status}).to_string();
    let patch = ["patch", "vm", vm, "--subresource=status", "--type=merge", "-p", &body];
    cluster.kubectl_ok(&patch).await.map(drop)
}

fn config_map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

pub(super) async fn short_names_find_our_kinds(cluster: &mut Cluster) -> anyhow::Result<()> {
    let all = cluster.kubectl_ok(&["api-resources", "--no-headers"]).await?;
    for words in [
        ["subnets", "subnet", "kubeovn.io/v1"],
        ["virtualmachines", "vm,vms", "kubevirt.io/v1"],
        ["configmaps", "cm", "v1"],
    ] {
        let listed = all.lines().any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(listed, "{words:?} are not in\n{all}");
    }
    for short in ["vpc", "subnet", "ip", "vm", "vms", "vmi", "cm", "ns", "no"] {
        cluster.kubectl_ok(&["get", short]).await.with_context(|| format!("get {short}"))?;
    }
    Ok(())
}

pub(super) async fn apply_creates_then_changes_then_leaves_alone(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let subnet = |mtu: u32| {
        let subnet = Subnet::named("applied").in_vpc("x").of("10.9.0.0/24").with("mtu", json!(mtu));
        subnet.object().to_string()
    };
    let said = cluster.kubectl_with(&["apply", "-f", "-"], &subnet(1400)).await?;
    ensure!(said.contains("subnet.kubeovn.io/applied created"), "{said}");
    let said = cluster.kubectl_with(&["apply", "-f", "-"], &subnet(1300)).await?;
    ensure!(said.contains("configured"), "{said}");
    let said = cluster.kubectl_with(&["apply", "-f", "-"], &subnet(1300)).await?;
    ensure!(said.contains("unchanged"), "{said}");
    let mtu = cluster.kubectl_ok(&["get", "subnet", "applied", "-o", "jsonpath={.spec.mtu}"]);
    ensure!(mtu.await? == "1300", "the change is not there");
    // A field that is no longer in the file goes from the object.
    let without = Subnet::named("applied").in_vpc("x").of("10.9.0.0/24").object().to_string();
    cluster.kubectl_with(&["apply", "-f", "-"], &without).await?;
    let mtu = cluster.kubectl_ok(&["get", "subnet", "applied", "-o", "jsonpath={.spec.mtu}"]);
    ensure!(mtu.await?.is_empty(), "a field that was taken out is still there");
    Ok(())
}

pub(super) async fn apply_of_a_file_with_several_documents(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let objects = [
        vpc("several"),
        Subnet::named("several-a").in_vpc("several").of("10.10.0.0/24").object(),
        Vm::named("several-vm").on("several-a").halted().object(),
    ];
    let documents: Result<Vec<_>, _> = objects.iter().map(serde_norway::to_string).collect();
    let file = documents?.join("---\n");
    let said = cluster.kubectl_with(&["apply", "-f", "-"], &file).await?;
    ensure!(said.matches(" created").count() == 3, "{said}");
    let said = cluster.kubectl_with(&["delete", "-f", "-"], &file).await?;
    ensure!(said.matches(" deleted").count() == 3, "{said}");
    ensure!(cluster.find(VM, "several-vm").await?.is_none(), "delete waits until it is gone");
    Ok(())
}

pub(super) async fn get_prints_the_columns_of_the_kind(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let subnet = Subnet::named("columns").in_vpc("blue").of("10.11.0.0/24").object();
    cluster.kubectl_with(&["apply", "-f", "-"], &subnet.to_string()).await?;
    let table = cluster.kubectl_ok(&["get", "subnet", "columns"]).await?;
    let (header, row) = table.split_once('\n').context("one line only")?;
    for column in ["NAME", "PROVIDER", "VPC", "PROTOCOL", "CIDR"] {
        ensure!(header.contains(column), "no {column} in\n{table}");
    }
    ensure!(row.contains("blue") && row.contains("10.11.0.0/24"), "{table}");

    let vm = Vm::named("columns").halted().object();
    cluster.kubectl_with(&["apply", "-f", "-"], &vm.to_string()).await?;
    let not_ready = json!([{"type": "Ready", "status": "False"}]);
    let status = json!({"printableStatus": "Stopped", "conditions": not_ready});
    set_status(cluster, "columns", status).await?;
    let table = cluster.kubectl_ok(&["get", "vm", "columns"]).await?;
    let words: Vec<&str> = table.split_whitespace().collect();
    ensure!(words.len() == 8 && words[..4] == ["NAME", "AGE", "STATUS", "READY"], "{table}");
    ensure!(words[6..] == ["Stopped", "False"], "{table}");
    Ok(())
}

pub(super) async fn get_selects_by_label_and_field(cluster: &mut Cluster) -> anyhow::Result<()> {
    for (name, tier) in [("chosen-a", "db"), ("chosen-b", "web"), ("chosen-c", "web")] {
        cluster.create(CONFIG_MAP, config_map(name)).await?;
        let label = format!("tier={tier}");
        cluster.kubectl_ok(&["label", "configmap", name, "chosen=yes", &label]).await?;
    }
    for (selector, names) in [
        (["-l", "chosen,tier=web"], "chosen-b chosen-c"),
        (["-l", "chosen,tier!=web"], "chosen-a"),
        (["-l", "chosen,tier in (db,web)"], "chosen-a chosen-b chosen-c"),
        (["--field-selector", "metadata.name=chosen-a"], "chosen-a"),
    ] {
        let names_of = ["get", "cm", "-o", "jsonpath={.items[*].metadata.name}"];
        let seen = cluster.kubectl_ok(&[&names_of[..], &selector[..]].concat()).await?;
        ensure!(seen == names, "{selector:?} finds {seen:?}, not {names:?}");
    }
    Ok(())
}

pub(super) async fn get_watch_shows_changes_as_they_happen(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    cluster.create(VPC, vpc("watched")).await?;
    let mut command = kubectl_command(cluster.kubeconfig())?;
    command.args(["get", "vpc", "-w", "--field-selector=metadata.name=watched"]);
    command.args(["-o", "custom-columns=NAME:.metadata.name,NAMESPACES:.spec.namespaces"]);
    let mut watching = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("stdout is piped")?).lines();
    let mut expect = async |what: &str| {
        tokio::time::timeout(SOON, async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(what) {
                    return Ok(());
                }
            }
            anyhow::bail!("the watch ended before it showed {what}")
        })
        .await
        .with_context(|| format!("the watch did not show {what}"))?
    };
    expect("watched").await?;
    cluster.merge(VPC, "watched", json!({"spec": {"namespaces": ["seen-it"]}})).await?;
    expect("seen-it").await?;
    cluster.delete(VPC, "watched").await?;
    expect("watched").await?;
    watching.kill().await?;
    Ok(())
}

pub(super) async fn get_watch_prints_tables_too(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.create(VM, Vm::named("tabled").halted().object()).await?;
    let mut command = kubectl_command(cluster.kubeconfig())?;
    let mut watching =
        command.args(["get", "vm", "tabled", "-w"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("stdout is piped")?).lines();
    let mut next = async || {
        let line =
            tokio::time::timeout(SOON, lines.next_line()).await.context("no line came")??;
        line.context("the watch ended")
    };
    ensure!(next().await?.starts_with("NAME"), "no header first");
    ensure!(next().await?.starts_with("tabled"), "no row for what is there");
    set_status(cluster, "tabled", json!({"printableStatus": "Starting"})).await?;
    let row = next().await?;
    ensure!(row.starts_with("tabled") && row.contains("Starting"), "{row}");
    watching.kill().await?;
    Ok(())
}

pub(super) async fn wait_returns_when_the_condition_holds(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    cluster.create(VM, Vm::named("awaited").halted().object()).await?;
    let early = ["wait", "vm/awaited", "--for=condition=Ready", "--timeout=1s"];
    let early = cluster.kubectl(&early).await?;
    ensure!(!early.status.success(), "it is not ready, and wait says so");

    let waiting = ["wait", "vm/awaited", "--for=condition=Ready", "--timeout=20s"];
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let (waited, patched) =
        tokio::join!(cluster.kubectl_ok(&waiting), set_status(cluster, "awaited", ready));
    patched?;
    ensure!(waited?.contains("condition met"), "wait succeeds");

    let waiting = ["wait", "vm/awaited", "--for=delete", "--timeout=20s"];
    let (gone, deleted) = tokio::join!(cluster.kubectl_ok(&waiting), cluster.delete(VM, "awaited"));
    deleted?;
    gone?;
    Ok(())
}

pub(super) async fn describe_shows_the_object_and_its_events(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let vm = cluster.create(VM, Vm::named("described").on("blue").halted().object()).await?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "described.1", "namespace": "default"},
        "involvedObject": {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "name": "described", "namespace": "default", "uid": vm.metadata.uid},
        "type": "Warning", "reason": "NoSuchSubnet", "message": "Make the subnet blue first.",
    });
    cluster.kubectl_with(&["create", "-f", "-"], &event.to_string()).await?;
    let text = cluster.kubectl_ok(&["describe", "vm", "described"]).await?;
    for part in ["Name:", "described", "Run Strategy:", "NoSuchSubnet", "Make the subnet blue"] {
        ensure!(text.contains(part), "no {part:?} in\n{text}");
    }
    Ok(())
}

pub(super) async fn edit_changes_what_the_editor_changed(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    cluster.create(VPC, vpc("edited")).await?;
    let mut command = kubectl_command(cluster.kubeconfig())?;
    command.env("KUBE_EDITOR", "sed -i 's/^spec:.*/spec: {namespaces: [by-hand]}/'");
    let output = command.args(["edit", "vpc", "edited"]).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let object = cluster.get(VPC, "edited").await?;
    ensure!(object["spec"]["namespaces"] == json!(["by-hand"]), "{object:#}");
    Ok(())
}

pub(super) async fn patch_works_in_each_of_its_forms(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.create(VPC, vpc("patched")).await?;
    let patch = async |kind: &str, form: &str, body: &str| {
        cluster.kubectl_ok(&["patch", kind, "patched", "--type", form, "-p", body]).await
    };
    patch("vpc", "merge", r#"{"spec":{"namespaces":["a","b"],"enableBfd":true}}"#).await?;
    patch("vpc", "json", r#"[{"op":"remove","path":"/spec/namespaces/0"}]"#).await?;
    patch("vpc", "merge", r#"{"spec":{"enableBfd":null}}"#).await?;
    let object = cluster.get(VPC, "patched").await?;
    ensure!(object["spec"] == json!({"namespaces": ["b"]}), "{object:#}");
    let failed = patch("vpc", "json", r#"[{"op":"test","path":"/spec/namespaces/0","value":"c"}]"#);
    ensure!(failed.await.is_err(), "a failing test operation is refused");

    // kubectl's own choice for kinds that it knows is the strategic form.
    cluster.create(CONFIG_MAP, config_map("patched")).await?;
    cluster
        .kubectl_ok(&["patch", "configmap", "patched", "-p", r#"{"data":{"a":"1","b":"2"}}"#])
        .await?;
    cluster.kubectl_ok(&["annotate", "configmap", "patched", "why=because"]).await?;
    let object = cluster.get(CONFIG_MAP, "patched").await?;
    ensure!(object["data"] == json!({"a": "1", "b": "2"}), "{object:#}");
    ensure!(object["metadata"]["annotations"]["why"] == "because", "{object:#}");
    Ok(())
}

pub(super) async fn a_mistake_is_refused_with_its_place(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let refused = async |object: serde_json::Value, texts: &[&str]| {
        let error = cluster
            .kubectl_with(&["apply", "-f", "-"], &object.to_string())
            .await
            .err()
            .with_context(|| format!("it was taken: {object}"))?;
        for text in texts {
            ensure!(error.to_string().contains(text), "no {text:?} in: {error}");
        }
        anyhow::Ok(())
    };
    let mut misspelt = vpc("misspelt");
    misspelt["spec"]["namespace"] = json!(["a"]);
    refused(misspelt, &["unknown field", "spec.namespace"]).await?;
    let mut mistyped = vpc("mistyped");
    mistyped["spec"]["namespaces"] = json!("a");
    refused(mistyped, &["spec.namespaces"]).await?;
    let mut strategy = Vm::named("mistake").object();
    strategy["spec"]["runStrategy"] = json!("Sometimes");
    refused(strategy, &["spec.runStrategy", "Sometimes"]).await?;
    let mut untemplated = Vm::named("mistake").object();
    untemplated["spec"].as_object_mut().context("an object")?.remove("template");
    refused(untemplated, &["spec.template", "Required"]).await?;
    let mut named = vpc("Not_A_Name");
    named["metadata"]["name"] = json!("Not_A_Name");
    refused(named, &["Not_A_Name", "Invalid value"]).await?;

    let missing = cluster.kubectl_ok(&["get", "vpc", "nobody"]).await;
    let text = missing.err().context("there is no such vpc")?.to_string();
    let standard = r#"Error from server (NotFound): vpcs.kubeovn.io "nobody" not found"#;
    ensure!(text.contains(standard), "{text}");
    Ok(())
}

pub(super) async fn a_namespace_takes_its_objects_with_it(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "short-lived"}});
    cluster.kubectl_with(&["apply", "-f", "-"], &namespace.to_string()).await?;
    let inside = config_map("inside").to_string();
    cluster.kubectl_with(&["-n", "short-lived", "apply", "-f", "-"], &inside).await?;
    cluster.kubectl_ok(&["delete", "namespace", "short-lived", "--timeout=50s"]).await?;
    eventually("the object inside to be gone", SOON, async || {
        let names = cluster.kubectl_ok(&["get", "cm", "-A", "-o", "name"]).await?;
        ensure!(!names.contains("/inside"), "{names}");
        Ok(())
    })
    .await?;
    let late = config_map("late").to_string();
    let into = cluster.kubectl_with(&["-n", "short-lived", "create", "-f", "-"], &late).await;
    let text = into.err().context("there is no such namespace")?.to_string();
    ensure!(text.contains(r#"namespaces "short-lived" not found"#), "{text}");
    Ok(())
}

/// kubectl knows these kinds and sends them as protobuf.
pub(super) async fn create_needs_no_file_for_kinds_that_kubectl_knows(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    cluster.kubectl_ok(&["create", "namespace", "by-hand"]).await?;
    cluster.kubectl_ok(&["create", "configmap", "by-hand", "--from-literal=a=1"]).await?;
    cluster.kubectl_ok(&["create", "secret", "generic", "by-hand", "--from-literal=a=1"]).await?;
    let object = cluster.get(CONFIG_MAP, "by-hand").await?;
    ensure!(object["data"] == json!({"a": "1"}), "{object:#}");
    Ok(())
}
