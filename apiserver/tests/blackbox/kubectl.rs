//! Stock kubectl.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{Server, await_served, widget_definition, widgets};

const WIDGET: &str = r#"
apiVersion: example.io/v1
kind: Widget
metadata: {name: w1}
spec: {size: 3, extra: {a: {b: c}}}
"#;

async fn with_widget() -> Server {
    let server = Server::start().await;
    let definition = widget_definition().to_string();
    server.kubectl_with(&["apply", "-f", "-"], &definition).await;
    await_served(&widgets(&server.client().await)).await;
    server.kubectl_with(&["apply", "-f", "-"], WIDGET).await;
    server
}

#[tokio::test]
async fn apply_creates_then_leaves_alone_then_changes() {
    let server = Server::start().await;
    let definition = widget_definition().to_string();
    let apply = ["apply", "-f", "-"];
    let said = server.kubectl_with(&apply, &definition).await;
    assert!(said.contains("widgets.example.io created"), "{said}");
    let said = server.kubectl_with(&apply, &definition).await;
    assert!(said.contains("unchanged"), "{said}");
    assert!(server.kubectl_with(&apply, WIDGET).await.contains("created"));
    assert!(server.kubectl_with(&apply, WIDGET).await.contains("unchanged"));
    let bigger = WIDGET.replace("size: 3", "size: 4");
    assert!(server.kubectl_with(&apply, &bigger).await.contains("configured"));
    let size = server.kubectl(&["get", "wd", "w1", "-o", "jsonpath={.spec.size}"]).await;
    assert_eq!(size, "4");
    let typo = WIDGET.replace("size: 3", "size: 3, typo: 1");
    let refused = server.try_kubectl(&apply, &typo).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(said.contains("unknown field \"spec.typo\""), "{said}");
    let refused = server.try_kubectl(&["create", "-f", "-"], &typo.replace("w1", "w2")).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("(BadRequest)") && said.contains("unknown field \"spec.typo\""),
        "{said}"
    );
}

#[tokio::test]
async fn get_prints_the_columns_of_the_definition() {
    let server = with_widget().await;
    let table = server.kubectl(&["get", "wd"]).await;
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(&words[..6], ["NAME", "SIZE", "READY", "AGE", "w1", "3"], "{table}");
    let wide = server.kubectl(&["get", "widgets", "-o", "wide"]).await;
    assert!(wide.contains("COLOUR") && wide.contains("red"), "{wide}");
    let yaml = server.kubectl(&["get", "widget", "w1", "-o", "yaml"]).await;
    assert!(yaml.contains("colour: red"), "{yaml}");
    let all = server.kubectl(&["get", "all"]).await;
    assert!(all.contains("widget.example.io/w1"), "{all}");
    let described = server.kubectl(&["describe", "wd", "w1"]).await;
    assert!(described.contains("Colour:") && described.contains("Events:"), "{described}");
}

#[tokio::test]
async fn label_patch_and_edit_change_the_object() {
    let server = with_widget().await;
    server.kubectl(&["label", "wd", "w1", "tier=web"]).await;
    server.kubectl(&["annotate", "wd", "w1", "note=hello"]).await;
    server.kubectl(&["patch", "wd", "w1", "--type=merge", "-p", r#"{"spec":{"size":5}}"#]).await;
    let json = r#"[{"op":"replace","path":"/spec/colour","value":"blue"}]"#;
    server.kubectl(&["patch", "wd", "w1", "--type=json", "-p", json]).await;
    let mut edit = server.kubectl_command(&["edit", "wd", "w1"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/size:.5/size:\\ 6/").output().await.unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let path = "jsonpath={.metadata.labels.tier} {.spec.size} {.spec.colour}";
    assert_eq!(server.kubectl(&["get", "wd", "w1", "-o", path]).await, "web 6 blue");
    let by_label = server.kubectl(&["get", "wd", "-l", "tier in (web)", "-o", "name"]).await;
    assert_eq!(by_label.trim(), "widget.example.io/w1");
}

#[tokio::test]
async fn wait_ends_with_the_condition_and_with_the_deletion() {
    let server = with_widget().await;
    let wait = server
        .kubectl_command(&["wait", "--for=condition=Ready", "wd/w1", "--timeout=15s"])
        .spawn()
        .unwrap();
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    server
        .kubectl(&["patch", "wd", "w1", "--subresource=status", "--type=merge", "-p", status])
        .await;
    let waited = wait.wait_with_output().await.unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    let wait = server
        .kubectl_command(&["wait", "--for=delete", "wd/w1", "--timeout=15s"])
        .spawn()
        .unwrap();
    assert!(server.kubectl(&["delete", "wd", "w1"]).await.contains("deleted"));
    assert!(wait.wait_with_output().await.unwrap().status.success());
}

#[tokio::test]
async fn get_watch_prints_rows_as_they_come() {
    let server = with_widget().await;
    let mut watch = server.kubectl_command(&["get", "wd", "-w"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut line = async || {
        let line = tokio::time::timeout(Duration::from_secs(15), lines.next_line()).await;
        line.expect("in time").unwrap().expect("it goes on")
    };
    assert!(line().await.starts_with("NAME"));
    assert!(line().await.starts_with("w1     3"));
    server.kubectl(&["patch", "wd", "w1", "--type=merge", "-p", r#"{"spec":{"size":7}}"#]).await;
    assert!(line().await.starts_with("w1     7"));
    watch.kill().await.unwrap();
}

#[tokio::test]
async fn explain_and_api_resources_know_the_kind() {
    let server = with_widget().await;
    let explained = server.kubectl(&["explain", "widget.spec"]).await;
    assert!(explained.contains("How big."), "{explained}");
    assert!(explained.contains("-required-"), "{explained}");
    let resources = server.kubectl(&["api-resources", "--api-group=example.io"]).await;
    let words: Vec<&str> = resources.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(words, ["widgets", "wd", "example.io/v1", "true", "Widget"]);
}

#[tokio::test]
async fn server_side_apply_and_force() {
    let server = with_widget().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    // What client-side apply had set is given up without a fight; a patch is another matter.
    assert!(
        server.kubectl_with(&apply, &WIDGET.replace("size: 3", "size: 7")).await.contains("w1")
    );
    server.kubectl(&["patch", "wd", "w1", "--type=merge", "-p", r#"{"spec":{"size":6}}"#]).await;
    let bigger = WIDGET.replace("size: 3", "size: 8");
    let refused = server.try_kubectl(&apply, &bigger).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("conflict with \"kubectl-patch\""), "{said}");
    let forced = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    assert!(server.kubectl_with(&forced, &bigger).await.contains("serverside-applied"));
    assert!(server.kubectl_with(&apply, &bigger).await.contains("serverside-applied"));
    let size = server.kubectl(&["get", "wd", "w1", "-o", "jsonpath={.spec.size}"]).await;
    assert_eq!(size, "8");
}

#[tokio::test]
async fn dry_runs_and_diffs_change_nothing() {
    let server = with_widget().await;
    let bigger = WIDGET.replace("size: 3", "size: 8");
    server.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &bigger).await;
    let diff = server.try_kubectl(&["diff", "-f", "-"], &bigger).await;
    let said = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(said.contains("+  size: 8"), "{said}");
    let size = server.kubectl(&["get", "wd", "w1", "-o", "jsonpath={.spec.size}"]).await;
    assert_eq!(size, "3");
}

#[tokio::test]
async fn built_in_kinds_can_be_made_from_the_command_line() {
    let server = Server::start().await;
    server.kubectl(&["create", "namespace", "blue"]).await;
    server.kubectl(&["-n", "blue", "create", "configmap", "c", "--from-literal=x=y"]).await;
    server
        .kubectl(&["-n", "blue", "create", "secret", "generic", "s", "--from-literal=u=me"])
        .await;
    server.kubectl(&["-n", "blue", "create", "serviceaccount", "a"]).await;
    let value = server.kubectl(&["-n", "blue", "get", "cm", "c", "-o", "jsonpath={.data.x}"]).await;
    assert_eq!(value, "y");
    let value =
        server.kubectl(&["-n", "blue", "get", "secret", "s", "-o", "jsonpath={.data.u}"]).await;
    assert_eq!(value, "bWU=");
    assert_eq!(server.kubectl(&["auth", "can-i", "delete", "pods"]).await.trim(), "yes");
    server.kubectl(&["delete", "namespace", "blue"]).await;
    let gone = server.try_kubectl(&["get", "namespace", "blue"], "").await;
    assert!(!gone.status.success());
}
