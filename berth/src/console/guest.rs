//! The scripted driver of a guest's root shell.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const PROMPT: &str = "guest# ";
/// What the guest prints by itself when its addresses change.
const READY_LINE: &str = "berth-guest: ready";
/// How much of what came is shown when a wait fails.
const TAIL: usize = 600;

/// What a command printed, and how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// Everything it printed, with lines ended by `\n`.
    pub text: String,
}

/// A connection to the shell on a guest's serial port.
#[derive(Debug)]
pub struct Guest {
    path: PathBuf,
    stream: UnixStream,
    /// What came and was not asked for yet.
    seen: String,
    commands: u32,
}

impl Guest {
    /// Connects to the socket of a serial port, and waits for it if need be.
    ///
    /// # Errors
    ///
    /// When nobody listens there within the limit.
    pub async fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(path).await {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > limit => {
                    return Err(error).with_context(|| format!("no console at {}", path.display()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        Ok(Self { path: path.to_owned(), stream, seen: String::new(), commands: 0 })
    }

    /// Waits for the shell, waking it with Enter: what it printed before we came
    /// is gone.
    ///
    /// # Errors
    ///
    /// When there is no prompt within the limit.
    pub async fn wait_for_prompt(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < limit {
            self.stream.write_all(b"\n").await?;
            let patience = Duration::from_secs(1).min(limit);
            if self.read_until(|seen| seen.contains(PROMPT), patience).await? {
                self.seen.clear();
                return Ok(());
            }
        }
        bail!(
            "no prompt at {} within {} s; last came: {}",
            self.path.display(),
            limit.as_secs(),
            self.tail()
        )
    }

    /// Runs a command line in the guest's shell.
    ///
    /// # Errors
    ///
    /// When it has not ended within the limit, or the console is closed.
    pub async fn run(&mut self, command: &str, limit: Duration) -> Result<Output> {
        self.commands += 1;
        // The shell echoes what is typed; the quotes make the typed marks differ
        // from the printed ones.
        let number = self.commands;
        let (begin, end) = (format!("__begin_{number}__"), format!("__end_{number}__"));
        let line = format!("echo __\"begin_{number}\"__; {command}; echo __\"end_{number}\"__$?\n");
        self.seen.clear();
        self.stream.write_all(line.as_bytes()).await.context("the console is closed")?;
        if !self.read_until(|seen| between(seen, &begin, &end).is_some(), limit).await? {
            bail!(
                "{command:?} has not ended within {} s; last came: {}",
                limit.as_secs(),
                self.tail()
            );
        }
        let output =
            between(&self.seen, &begin, &end).context("the end of the output was there")?;
        self.seen.clear();
        Ok(output)
    }

    /// [`Guest::run`], and an error when the command fails.
    ///
    /// # Errors
    ///
    /// As for [`Guest::run`], and when the exit status is not 0.
    pub async fn check(&mut self, command: &str, limit: Duration) -> Result<String> {
        let output = self.run(command, limit).await?;
        if output.status != 0 {
            bail!(
                "{command:?} failed with status {} in the guest: {}",
                output.status,
                output.text.trim()
            );
        }
        Ok(output.text)
    }

    /// Reads until what came satisfies `enough`; false when the limit passes.
    async fn read_until(&mut self, enough: impl Fn(&str) -> bool, limit: Duration) -> Result<bool> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            if enough(&self.seen) {
                return Ok(true);
            }
            match tokio::time::timeout_at(deadline, self.stream.read(&mut buffer)).await {
                Err(_) => return Ok(false),
                Ok(Ok(0)) => {
                    bail!("the console at {} was closed: the guest has ended", self.path.display())
                }
                Ok(Ok(count)) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Ok(Err(error)) => return Err(error).context("the console cannot be read"),
            }
        }
    }

    fn tail(&self) -> String {
        let skip = self.seen.chars().count().saturating_sub(TAIL);
        self.seen.chars().skip(skip).collect::<String>().escape_debug().to_string()
    }
}

/// What was printed between the marks, once the second one is complete.
fn between(seen: &str, begin: &str, end: &str) -> Option<Output> {
    let (_, rest) = seen.split_once(begin)?;
    let (text, rest) = rest.split_once(end)?;
    let (status, _) = rest.split_once('\n')?;
    let lines = text.trim_start_matches(['\r', '\n']).split_inclusive('\n');
    let kept =
        lines.filter(|line| !line.starts_with(READY_LINE)).map(|line| line.replace('\r', ""));
    Some(Output { status: status.trim().parse().ok()?, text: kept.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn output_is_what_stands_between_the_marks_without_the_echo() {
        let seen = "guest# echo __\"begin_1\"__; ls; echo __\"end_1\"__$?\r\n__begin_1__\r\na\r\nb\r\n__end_1__2\r\nguest# ";
        let output = between(seen, "__begin_1__", "__end_1__");
        assert_eq!(output, Some(Output { status: 2, text: "a\nb\n".to_owned() }));
    }

    #[test]
    fn output_waits_for_the_whole_status_and_drops_the_guests_own_line() {
        assert_eq!(between("__begin_1__\r\na\r\n__end_1__", "__begin_1__", "__end_1__"), None);
        let seen = "__begin_1__\r\na\r\nberth-guest: ready v4=1\r\nb\r\n__end_1__0\r\n";
        assert_eq!(between(seen, "__begin_1__", "__end_1__").unwrap().text, "a\nb\n");
    }

    /// A shell behind a socket, as a guest's serial port would be.
    async fn shell(dir: &Path, replies: &'static [&'static str]) -> PathBuf {
        let path = dir.join("serial");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            for reply in replies {
                let count = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..count]).await.unwrap();
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
            // Keeps the socket open until the client leaves.
            let _ = stream.read(&mut buffer).await;
        });
        path
    }

    #[tokio::test]
    async fn a_command_runs_after_the_prompt_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = shell(
            dir.path(),
            &[
                "guest# ",
                "__begin_1__\r\n5\r\n__end_1__0\r\nguest# ",
                "__begin_2__\r\nno\r\n__end_2__1\r\n",
            ],
        )
        .await;
        let mut guest = Guest::connect(&path, LIMIT).await.unwrap();
        guest.wait_for_prompt(LIMIT).await.unwrap();
        assert_eq!(guest.check("echo 5", LIMIT).await.unwrap(), "5\n");
        let error = guest.check("false", LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("status 1") && error.contains("no"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_given_up_with_what_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = shell(dir.path(), &["__begin_1__\r\nhalf"]).await;
        let mut guest = Guest::connect(&path, LIMIT).await.unwrap();
        let error = guest.run("sleep 9", Duration::from_millis(100)).await.unwrap_err().to_string();
        assert!(error.contains("has not ended") && error.contains("half"), "{error}");
    }
}
