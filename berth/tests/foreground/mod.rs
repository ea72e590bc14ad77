//! A `berth up` in the foreground, as in a person's terminal.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program.
pub(crate) const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What came on standard output so far, and whether that was all.
type Said = Arc<(Mutex<(String, bool)>, Condvar)>;

/// Runs until it is ended; what it leaves is removed when this is dropped.
pub(crate) struct Foreground {
    child: Child,
    dir: PathBuf,
    port: u16,
    said: Said,
}

impl Foreground {
    /// Starts it with a port of its own.
    pub(crate) fn up(dir: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let mut child = Command::new("env")
            // As in a terminal, even where whoever runs the tests ignores these signals.
            .args(["--default-signal=HUP,INT,TERM", BERTH])
            .args(["up", "--api-port", &port.to_string(), "--data-dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Said::default();
        let (lines, heard) = (child.stdout.take().unwrap(), said.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                heard.0.lock().unwrap().0 += &format!("{line}\n");
                heard.1.notify_all();
            }
            heard.0.lock().unwrap().1 = true;
            heard.1.notify_all();
        });
        Self { child, dir: dir.to_owned(), port, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        self.said.0.lock().unwrap().0.clone()
    }

    /// Waits until it has said this; returns all that it has said.
    pub(crate) fn wait_for(&self, text: &str, limit: Duration) -> String {
        let said = self.said.0.lock().unwrap();
        let waits = |said: &mut (String, bool)| !said.0.contains(text) && !said.1;
        let (said, _) = self.said.1.wait_timeout_while(said, limit, waits).unwrap();
        assert!(said.0.contains(text), "it has not said {text:?}, but:\n{}", said.0);
        said.0.clone()
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Its status, once it has ended and said all.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let said = self.said.0.lock().unwrap();
        let (said, waited) = self.said.1.wait_timeout_while(said, limit, |said| !said.1).unwrap();
        assert!(!waited.timed_out(), "it has not ended:\n{}", said.0);
        drop(said);
        self.child.wait().unwrap()
    }

    /// As when its terminal is closed.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // Only where a test failed is there anything left to do.
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = Command::new(BERTH).args(["clean", "--data-dir"]).arg(&self.dir).output();
        }
    }
}
