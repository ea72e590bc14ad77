//! Processes that end with the test run, whatever becomes of it.
//!
//! Each is started through `setpriv --pdeathsig KILL`, so that even a run that
//! is killed leaves none behind, and each is ended by its own pid when its
//! value is dropped. The kernel ties that signal to the *thread* that started
//! the child: one thread, which never ends, starts them all.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;

use crate::waiting::Hopeless;
use anyhow::Context;

type Request = (Command, mpsc::Sender<io::Result<Child>>);

static STARTER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
    let (requests, inbox) = mpsc::channel::<Request>();
    thread::spawn(move || {
        for (mut command, reply) in inbox {
            // The asker waits for the reply, so it is there to take it.
            let _ = reply.send(command.spawn());
        }
    });
    requests
});

/// A running program with its output in a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `args`; its output is appended to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// When the log cannot be written or the program not be started.
    pub fn start(name: &str, program: &Path, args: &[String], logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let (reply, answer) = mpsc::channel();
        STARTER.send((command, reply)).context("the starter thread is gone")?;
        let child = answer.recv()?.with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Fails, with the end of its output, once it has ended by itself.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let last = tail(&self.log, 15);
                Err(Hopeless(format!("{} ended: {status}\n{last}", self.name)).into())
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.kill();
    }
}

/// Resident memory of any process in KiB, from `/proc`.
///
/// # Errors
/// When there is no such process.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    memory_kib(pid, "VmRSS:")
}

/// The most that a process ever had resident, in KiB.
///
/// # Errors
/// When there is no such process.
pub fn peak_kib(pid: u32) -> anyhow::Result<u64> {
    memory_kib(pid, "VmHWM:")
}

fn memory_kib(pid: u32, what: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.trim().strip_suffix(" kB"));
    line.with_context(|| format!("no {what}"))?.trim().parse().context("not a number")
}

/// The last `lines` lines of a file, for error messages; empty if unreadable.
#[must_use]
pub fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
