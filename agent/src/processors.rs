//! What the processors of this node can be to guests, as labels of its Node: the models that
//! libvirt says are usable, and the features of the one that is most like the host. KubeVirt's
//! node labeller writes the same, so a VM that asks for a model starts where that is.
//!
//! Only KVM has a host to be like: of a node that emulates nothing is said, and it takes all.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::kubevirt::{CPU_FEATURE_LABEL, CPU_MODEL_LABEL};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The label of the model that is most like the host.
const HOST_MODEL: &str = "host-model-cpu.node.kubevirt.io/";
/// How long libvirt may take for one answer.
const LIMIT: Duration = Duration::from_secs(3);
/// Kubernetes' longest name of a label.
const LONGEST: usize = 63;

/// How labels begin that are written here.
pub(crate) const PREFIXES: [&str; 3] = [CPU_MODEL_LABEL, CPU_FEATURE_LABEL, HOST_MODEL];

/// The labels, by what the libvirtd at `uri` says.
///
/// # Errors
/// When it does not say it.
pub(crate) async fn labels(uri: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let capabilities = virsh(uri, &["domcapabilities", "--virttype", "kvm"], "").await?;
    let host = host_model(&capabilities).context("libvirt names no host-model")?;
    // The model with all that it stands for.
    let expand = ["hypervisor-cpu-baseline", "--virttype", "kvm", "--features", "/dev/stdin"];
    let features = virsh(uri, &expand, &capabilities).await.unwrap_or_default();
    Ok(named(&capabilities, host, &features))
}

async fn virsh(uri: &str, words: &[&str], input: &str) -> anyhow::Result<String> {
    let mut virsh = Command::new("virsh");
    virsh.args(["-q", "-c", uri]).args(words).kill_on_drop(true);
    virsh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = virsh.spawn().context("virsh")?;
    let mut stdin = child.stdin.take().context("virsh has no input")?;
    let asked = async {
        // One that reads nothing says why in its answer.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let answer = tokio::time::timeout(LIMIT, asked).await.context("virsh does not answer")??;
    let said = String::from_utf8_lossy(&answer.stderr);
    ensure!(answer.status.success(), "virsh {}: {}", words[0], said.trim());
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// The part of a text between two others.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

fn mode<'a>(capabilities: &'a str, name: &str) -> Option<&'a str> {
    between(capabilities, &format!("<mode name='{name}' supported='yes'>"), "</mode>")
}

fn host_model(capabilities: &str) -> Option<&str> {
    let model = mode(capabilities, "host-model")?.split_once("<model ")?.1;
    between(model, ">", "</model>")
}

/// The labels that follow from what libvirt has said.
fn named(capabilities: &str, host: &str, features: &str) -> BTreeMap<String, String> {
    let usable = mode(capabilities, "custom").unwrap_or_default().split("<model ").skip(1);
    let usable = usable.filter(|model| {
        model.split('>').next().is_some_and(|attributes| attributes.contains("usable='yes'"))
    });
    let models = usable.filter_map(|model| between(model, ">", "</model>"));
    let models = models.chain([host]).map(|model| format!("{CPU_MODEL_LABEL}{model}"));
    let said = [mode(capabilities, "host-model").unwrap_or_default(), features];
    let features = said.iter().flat_map(|text| text.split("<feature ").skip(1));
    let features = features.filter_map(|feature| {
        let attributes = feature.split('>').next()?;
        let required = attributes.contains("policy='require'");
        between(attributes, "name='", "'").filter(|_| required)
    });
    let features = features.map(|name| format!("{CPU_FEATURE_LABEL}{name}"));
    let labels = models.chain(features).chain([format!("{HOST_MODEL}{host}")]);
    labels.filter(|label| is_label(label)).map(|label| (label, "true".to_owned())).collect()
}

/// Whether the name behind the prefix is one that Kubernetes takes.
fn is_label(label: &str) -> bool {
    let name = label.split_once('/').map_or(label, |(_, name)| name);
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= LONGEST
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && is_end(name.bytes().next())
        && is_end(name.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: &str = "<domainCapabilities>
  <cpu>
    <mode name='host-passthrough' supported='yes'>
      <enum name='hostPassthroughMigratable'><value>on</value></enum>
    </mode>
    <mode name='host-model' supported='yes'>
      <model fallback='forbid'>Skylake-Client-IBRS</model>
      <vendor>Intel</vendor>
      <feature policy='require' name='ss'/>
      <feature policy='disable' name='hle'/>
    </mode>
    <mode name='custom' supported='yes'>
      <model usable='yes' vendor='unknown'>qemu64</model>
      <model usable='no' vendor='AMD'>EPYC</model>
      <model usable='yes' vendor='Intel'>Haswell-noTSX</model>
    </mode>
  </cpu>
</domainCapabilities>";

    #[test]
    fn what_libvirt_says_of_the_processors_becomes_kubevirts_labels() {
        let host = host_model(CAPABILITIES).unwrap();
        let baseline = "<cpu><model>Skylake-Client-IBRS</model>
            <feature policy='require' name='vmx'/><feature policy='require' name='sse4.2'/>
            <feature policy='require' name='a b'/></cpu>";
        let labels = named(CAPABILITIES, host, baseline);
        let labels: Vec<_> = labels.keys().map(String::as_str).collect();
        assert_eq!(
            labels,
            [
                "cpu-feature.node.kubevirt.io/ss",
                "cpu-feature.node.kubevirt.io/sse4.2",
                "cpu-feature.node.kubevirt.io/vmx",
                "cpu-model.node.kubevirt.io/Haswell-noTSX",
                "cpu-model.node.kubevirt.io/Skylake-Client-IBRS",
                "cpu-model.node.kubevirt.io/qemu64",
                "host-model-cpu.node.kubevirt.io/Skylake-Client-IBRS",
            ]
        );
    }

    #[test]
    fn what_is_no_answer_has_no_host_model() {
        for text in ["", "<cpu>", "<mode name='host-model' supported='no'/>"] {
            assert_eq!(host_model(text), None);
        }
    }
}
