//! A person's terminal, connected to a serial port: raw, until Ctrl-].

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Ctrl-].
const LEAVE: u8 = 0x1d;

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

/// Copies both ways until Ctrl-], the end of the input or of the guest.
pub(super) async fn attach(socket: &Path, title: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no console at {}: is the VM still starting?", socket.display())
    })?;
    eprintln!("Console of {title}. Enter wakes the shell, Ctrl-] leaves.");
    let raw = std::io::stdin().is_terminal().then(Raw::enter).transpose()?;
    let ended = copy(&mut stream, keys()).await;
    drop(raw);
    eprintln!("\nConsole of {title} closed{}.", if ended? { ": the VM has ended" } else { "" });
    Ok(())
}

/// True when the guest ended, false when the person left.
async fn copy(stream: &mut UnixStream, mut keys: mpsc::Receiver<Vec<u8>>) -> Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            count = stream.read(&mut buffer) => match count? {
                0 => return Ok(true),
                count => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(&buffer[..count])?;
                    out.flush()?;
                }
            },
            typed = keys.recv() => {
                let Some(typed) = typed else { return Ok(false) };
                let until_leave = typed.split(|byte| *byte == LEAVE).next().unwrap_or_default();
                stream.write_all(until_leave).await?;
                if until_leave.len() < typed.len() {
                    return Ok(false);
                }
            }
        }
    }
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
