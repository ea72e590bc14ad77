//! Disks that users send, with KubeVirt's own command and with plain HTTP.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::eventually;
use tests::kinds::{DATA_VOLUME, IMPORTER_CONFIG, VOLUME_CLAIM};
use tests::world::{Part, World};
use tokio::process::Command;

use crate::data_volumes::{directory, guest_disk, message, phase};
use crate::images::compare;
use crate::virtctl::{Stock, virtctl};

const SOON: Duration = Duration::from_secs(45);
const NAME: &str = "sent";

fn data_volume() -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": NAME, "namespace": "default", "annotations":
            {"cdi.kubevirt.io/storage.bind.immediate.requested": ""}},
        "spec": {
            "source": {"upload": {}},
            "storage": {"resources": {"requests": {"storage": "192Mi"}}},
        },
    })
}

/// A token for the claim, as the API gives it.
async fn token(world: &World) -> anyhow::Result<String> {
    let request = world.lab().layout().dir.join("token.json");
    let asked = json!({"apiVersion": "upload.cdi.kubevirt.io/v1beta1",
        "kind": "UploadTokenRequest", "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"pvcName": NAME}});
    std::fs::write(&request, asked.to_string())?;
    let path = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/default/uploadtokenrequests";
    let request = request.to_string_lossy();
    let said = world.cluster.kubectl_ok(&["create", "--raw", path, "-f", &request]).await?;
    let said: Value = serde_json::from_str(&said)?;
    let token = said["status"]["token"].as_str();
    Ok(token.with_context(|| format!("no token in {said}"))?.to_owned())
}

fn curl(url: &str, token: &str, file: &Path, further: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--insecure", "--silent", "--show-error", "--write-out", "\n%{http_code}"]);
    curl.args(["--header", &format!("Authorization: Bearer {token}"), "--request", "POST"]);
    curl.args(further).arg("--upload-file").arg(file).arg(format!("{url}/v1beta1/upload"));
    curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    curl
}

/// What was answered, and its status.
fn answered(output: &Output) -> (String, String) {
    let said = String::from_utf8_lossy(&output.stdout);
    let (text, code) = said.rsplit_once('\n').unwrap_or_default();
    (text.trim().to_owned(), code.to_owned())
}

pub(super) async fn a_disk_is_uploaded_though_the_agent_that_takes_it_dies_meanwhile(
    stock: &mut Stock,
) -> anyhow::Result<()> {
    let world = &mut stock.0;
    let dir = world.lab().layout().dir.clone();
    let write = |name: &str, content: &[u8]| -> anyhow::Result<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    };
    let disk = write("sent.qcow2", &guest_disk()?)?;
    let odd = write("sent.vmdk", b"KDMV and more")?;
    let url = eventually("clients to be told where to upload", SOON, async || {
        let config = world.cluster.get(IMPORTER_CONFIG, "config").await?;
        let url = config["status"]["uploadProxyURL"].as_str();
        Ok(url.with_context(|| format!("{config}"))?.to_owned())
    })
    .await?;
    world.cluster.create(DATA_VOLUME, data_volume()).await?;
    phase(world, NAME, "UploadReady").await?;

    // Who has no token of ours is not heard, and what is no disk is told so and not the end.
    let (_, code) = answered(&curl(&url, "guessed", &odd, &[]).output().await?);
    ensure!(code == "401", "a wrong token: {code}");
    let given = token(world).await?;
    let (said, code) = answered(&curl(&url, &given, &odd, &[]).output().await?);
    ensure!(code == "400" && said.contains("format vmdk is not served"), "{code} {said}");
    eventually("the claim to wait again", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, NAME).await?["status"].clone();
        ensure!(status["phase"] == "UploadReady", "{status}");
        ensure!(message(&status, "Running").contains("format vmdk is not served"), "{status}");
        Ok(())
    })
    .await?;

    // An agent that dies in the middle of it.
    let slow = ["--limit-rate", "1M", "--max-time", "60"];
    let sending = curl(&url, &given, &disk, &slow).spawn()?;
    eventually("some of it to have come", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, NAME).await?["status"].clone();
        let progress = status["progress"].as_str().unwrap_or_default();
        ensure!(progress.ends_with('%') && progress != "0.00%", "{status}");
        Ok(())
    })
    .await?;
    let killed = world.kill(Part::Agent(1))?;
    let (said, code) = answered(&sending.wait_with_output().await?);
    ensure!(code != "200", "{code} {said}");
    world.back(killed).await?;

    // As users do it.
    let path = disk.to_string_lossy();
    let words = ["image-upload", "dv", NAME, "--size=192Mi", "--insecure", "--image-path", &path];
    let said = virtctl(world, &words).await?;
    ensure!(said.contains("completed successfully"), "{said}");
    phase(world, NAME, "Succeeded").await?;
    let (_, filled) = directory(world, NAME).await?;
    compare(&filled.join("disk.img"), &disk)?;
    let (said, code) = answered(&curl(&url, &given, &odd, &[]).output().await?);
    ensure!(code == "503" && said.contains("already finished uploading"), "{code} {said}");
    world.cluster.delete(DATA_VOLUME, NAME).await?;
    world.cluster.gone(VOLUME_CLAIM, NAME, SOON).await
}
