//! A person's terminal, connected to a serial port: raw, until Ctrl-]. Or a pipe,
//! until the guest has answered to all that came through it.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::query::Unasked;

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// Later than anybody waits.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The terminal in raw mode; as it was, when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// How long to listen to a guest after the input has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The guest has said all once it was silent for this long.
    pub(super) silence: Duration,
    /// Not longer than this, whatever it says.
    pub(super) limit: Duration,
}

/// Why a conversation is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The guest's serial port was closed.
    Guest,
    /// Ctrl-].
    Left,
    /// The input ended, and the guest has had time to say what there was to say;
    /// whether it said anything at all.
    Input { heard: bool },
}

/// Copies both ways until Ctrl-], the end of the guest, or the end of an input that
/// is no terminal.
pub(super) async fn attach(socket: &Path, title: &str, patience: Patience) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no console at {}: is the VM still starting?", socket.display())
    })?;
    let raw = std::io::stdin().is_terminal().then(Raw::enter).transpose()?;
    if raw.is_some() {
        eprintln!("Console of {title}. Enter wakes the shell, Ctrl-] leaves.\r");
    }
    let end = copy(&mut stream, keys(), &mut std::io::stdout(), patience).await;
    let by_hand = raw.is_some();
    drop(raw);
    match end? {
        End::Guest => eprintln!("\nConsole of {title} closed: the VM has ended."),
        End::Left | End::Input { heard: true } if by_hand => {
            eprintln!("\nConsole of {title} closed.");
        }
        End::Input { heard: false } => {
            bail!("nothing came from {title}: is another console attached to it?")
        }
        End::Left | End::Input { heard: true } => {}
    }
    Ok(())
}

async fn copy(
    stream: &mut UnixStream,
    mut keys: mpsc::Receiver<Vec<u8>>,
    out: &mut impl Write,
    patience: Patience,
) -> Result<End> {
    let (mut buffer, mut filter) = ([0; 4096], Unasked::default());
    let (mut heard, mut input_ended) = (false, false);
    // Both far away as long as there is input.
    let mut silent_at = Instant::now() + FAR;
    let mut over_at = silent_at;
    let end = loop {
        tokio::select! {
            count = stream.read(&mut buffer) => match count? {
                0 => break End::Guest,
                count => {
                    heard = true;
                    out.write_all(&filter.pass(&buffer[..count]))?;
                    out.flush()?;
                    if input_ended {
                        silent_at = Instant::now() + patience.silence;
                    }
                }
            },
            typed = keys.recv(), if !input_ended => {
                let Some(typed) = typed else {
                    input_ended = true;
                    silent_at = Instant::now() + patience.silence;
                    over_at = Instant::now() + patience.limit;
                    continue;
                };
                let until_leave = typed.split(|byte| *byte == LEAVE).next().unwrap_or_default();
                stream.write_all(until_leave).await?;
                if until_leave.len() < typed.len() {
                    break End::Left;
                }
            }
            () = tokio::time::sleep_until(silent_at.min(over_at)) => break End::Input { heard },
        }
    };
    out.write_all(filter.rest())?;
    out.flush()?;
    Ok(end)
}

/// What is typed. A thread of its own, since a read of the terminal cannot be
/// taken back; it ends with the process.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (tx, rx) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count) = std::io::stdin().read(&mut buffer)
            && count > 0
            && tx.blocking_send(buffer[..count].to_vec()).is_ok()
        {}
    });
    rx
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);

    /// Talks to a guest that answers the first thing it hears with `answers`, and
    /// with the last of them for ever if `for_ever`. Returns why it was over, and
    /// what was shown.
    async fn talk(
        input: &[u8],
        answers: &'static [&'static [u8]],
        for_ever: bool,
        patience: Patience,
    ) -> (End, String) {
        let (mut ours, mut guests) = UnixStream::pair().unwrap();
        let (typed, keys) = mpsc::channel(1);
        typed.send(input.to_vec()).await.unwrap();
        drop(typed);
        tokio::spawn(async move {
            let mut heard = [0; 64];
            let _ = guests.read(&mut heard).await;
            for answer in answers {
                guests.write_all(answer).await.unwrap();
            }
            if let (Some(last), true) = (answers.last(), for_ever) {
                while guests.write_all(last).await.is_ok() {}
            }
            // Until the other end leaves.
            while guests.read(&mut heard).await.is_ok_and(|count| count > 0) {}
        });
        let mut shown = Vec::new();
        let end = copy(&mut ours, keys, &mut shown, patience).await.unwrap();
        (end, String::from_utf8(shown).unwrap())
    }

    #[tokio::test]
    async fn after_the_end_of_the_input_the_answer_is_waited_for() {
        let patience = Patience { silence: 3 * SHORT, limit: LONG };
        let answers: &[&[u8]] = &[b"date\r\n", b"Mon", b"day\r\n\x1b[", b"6n# "];
        let (end, shown) = talk(b"date\n", answers, false, patience).await;
        assert_eq!((end, shown.as_str()), (End::Input { heard: true }, "date\r\nMonday\r\n# "));
    }

    #[tokio::test]
    async fn a_guest_that_says_nothing_is_left_and_that_is_known() {
        let patience = Patience { silence: SHORT, limit: LONG };
        let (end, _) = talk(b"date\n", &[], false, patience).await;
        assert_eq!(end, End::Input { heard: false });
    }

    #[tokio::test]
    async fn a_guest_that_never_stops_is_left_at_the_limit() {
        let patience = Patience { silence: LONG, limit: SHORT };
        let (end, shown) = talk(b"yes\n", &[b"y\r\n"], true, patience).await;
        assert_eq!(end, End::Input { heard: true });
        assert!(shown.starts_with("y\r\ny\r\n"));
    }

    #[tokio::test]
    async fn ctrl_close_bracket_leaves_at_once() {
        let patience = Patience { silence: LONG, limit: LONG };
        assert_eq!(talk(b"a\x1db", &[], false, patience).await.0, End::Left);
    }
}
