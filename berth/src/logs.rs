//! What a guest said on its serial console.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::lab::{self, Facts};

/// Prints what a guest has said on its serial console.
///
/// The last MiB since its start; with `--previous` that of the start before, on the same
/// node: why it ended may stand there. `berth console` shows what it says now.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The VM's name.
    #[arg(value_name = "VM")]
    pub vm: String,

    /// The VM's namespace.
    #[arg(short = 'n', long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,

    /// What it said at the start before.
    #[arg(short, long)]
    pub previous: bool,

    /// No more than so many lines from the end.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,

    /// The API, and how to log in there; that of the lab in --data-dir if absent.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The data directory of the lab that runs it.
    #[arg(long, value_name = "DIR", default_value = lab::DEFAULT_DIR)]
    pub data_dir: PathBuf,
}

/// What the API answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    said: String,
    said_before: String,
}

/// Prints it.
///
/// # Errors
///
/// When there is no such VM, it has no instance, or its node's agent does not answer.
pub async fn run(args: Args) -> Result<()> {
    let Args { vm, namespace, previous, tail, kubeconfig, data_dir } = args;
    let kubeconfig = match kubeconfig {
        Some(file) => file,
        None => Facts::of(&data_dir)?.1.kubeconfig.context("this lab has no API")?,
    };
    let client = lab::client(&kubeconfig).await?;
    let group = "/apis/subresources.kubevirt.io/v1";
    let path = format!("{group}/namespaces/{namespace}/virtualmachineinstances/{vm}/consolelog");
    let answer = client.request(http::Request::get(path).body(Vec::new())?).await;
    let Said { said, said_before } = match answer {
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        answer => answer.context("the API does not answer")?,
    };
    let text = if previous { said_before } else { said };
    let mut out = std::io::stdout().lock();
    let shown = end(&text, tail);
    // A guest may write what a terminal obeys.
    if out.is_terminal() {
        out.write_all(plain(shown).as_bytes())?;
    } else {
        out.write_all(shown.as_bytes())?;
    }
    Ok(())
}

/// The last lines of a text.
fn end(text: &str, lines: Option<usize>) -> &str {
    let Some(lines) = lines else { return text };
    let whole = text.strip_suffix('\n').unwrap_or(text);
    let begin = whole.rmatch_indices('\n').map(|(at, _)| at + 1).nth(lines.saturating_sub(1));
    if lines == 0 { "" } else { &text[begin.unwrap_or(0)..] }
}

/// Without what is no text but for ends of lines and tabs.
fn plain(text: &str) -> String {
    text.chars().filter(|one| !one.is_control() || matches!(one, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_as_many_lines_as_asked_for() {
        let text = "a\nb\nc\n";
        assert_eq!(end(text, None), text);
        assert_eq!(end(text, Some(0)), "");
        assert_eq!(end(text, Some(2)), "b\nc\n");
        assert_eq!(end(text, Some(9)), text);
        assert_eq!(end("a\nb", Some(1)), "b");
        assert_eq!(end("", Some(1)), "");
    }

    #[test]
    fn what_a_terminal_obeys_is_not_shown_on_one() {
        assert_eq!(plain("\x1b]0;root\x07ok\r\n\tyes\u{9b}2J"), "]0;rootok\n\tyes2J");
    }
}
