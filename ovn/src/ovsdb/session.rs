//! The task that keeps a connection: connect, converse, and when that ends try
//! the next server, waiting longer each time it comes to nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::protocol::{Position, Protocol, SessionError};
use super::rpc::Scanner;
use super::transaction::TransactError;
use super::{Command, Config, Remote, Timing, View};

/// How much is read at once, at least if there is so much.
const READ: usize = 64 * 1024;

/// Runs until every client is gone.
pub(super) async fn run(
    config: Config,
    timing: Timing,
    mut commands: mpsc::Receiver<Command>,
    view: View,
) {
    let mut position = Position::default();
    let mut wait = Duration::ZERO;
    for remote in config.remotes.iter().cycle() {
        let Some(()) = meanwhile(&mut commands, sleep(wait)).await else { return };
        let ended = connection(remote, &config, &timing, &mut commands, &view, &mut position).await;
        let Ended::Failed { error, followed } = ended else { return };
        let patient = wait < timing.backoff_max;
        wait = next_wait(&timing, wait, followed);
        let outcome = match (followed, patient && wait == timing.backoff_max) {
            (Some(_), _) => Outcome::Lost,
            (None, true) => Outcome::LongAbsent,
            (None, false) => Outcome::Absent,
        };
        report(&config, remote, &error, outcome);
        view.trouble.send_replace(Some(in_full(remote, &error)));
    }
    // Without a server there is nothing to follow; clients are told so.
    while let Some(command) = commands.recv().await {
        let _ = command.answer.send(Err(TransactError::Disconnected));
    }
}

enum Ended {
    /// No client is left.
    Unused,
    Failed {
        error: SessionError,
        /// For how long it had followed the database, had it come as far.
        followed: Option<Duration>,
    },
}

/// How long to wait before the next attempt, after `waited` before this one.
///
/// Only a server that was followed for a while has earned another attempt soon: one
/// that ends each session as it begins would otherwise have to send everything again
/// and again without a pause.
fn next_wait(timing: &Timing, waited: Duration, followed: Option<Duration>) -> Duration {
    let lasted = followed.is_some_and(|followed| followed >= timing.backoff_max);
    let wait = if lasted { Duration::ZERO } else { waited * 2 };
    wait.clamp(timing.backoff_min, timing.backoff_max)
}

fn in_full(remote: &Remote, error: &SessionError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(format!("{remote}: {error}"), |text, cause| format!("{text}: {cause}"))
}

/// What the end of a connection means to whoever reads the log.
enum Outcome {
    Lost,
    Absent,
    /// Absent for as long as it takes to reach the longest wait: said once.
    LongAbsent,
}

fn report(config: &Config, remote: &Remote, error: &SessionError, outcome: Outcome) {
    let database = &config.database;
    let cause = std::error::Error::source(error).map(ToString::to_string);
    match outcome {
        Outcome::Lost => tracing::warn!(%database, %remote, %error, cause, "Lost the database"),
        Outcome::Absent => {
            tracing::debug!(%database, %remote, %error, cause, "Could not follow the database");
        }
        Outcome::LongAbsent => {
            tracing::warn!(%database, %remote, %error, cause, "Still cannot follow the database");
        }
    }
}

/// Waits for `over`, and tells whoever asks for a transaction meanwhile that there is
/// no connection; `None` when nobody is left who could ask.
async fn meanwhile<T>(
    commands: &mut mpsc::Receiver<Command>,
    over: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => {
                let _ = command?.answer.send(Err(TransactError::Disconnected));
            }
            outcome = &mut over => return Some(outcome),
        }
    }
}

/// One connection, from its making to its end.
async fn connection(
    remote: &Remote,
    config: &Config,
    timing: &Timing,
    commands: &mut mpsc::Receiver<Command>,
    view: &View,
    position: &mut Position,
) -> Ended {
    let failed = |error| Ended::Failed { error, followed: None };
    let connecting = timeout(timing.connect, remote.connect());
    let (mut reader, mut writer) = match meanwhile(commands, connecting).await {
        None => return Ended::Unused,
        Some(Ok(Ok(halves))) => halves,
        Some(Ok(Err(error))) => return failed(error.into()),
        Some(Err(_)) => return failed(SessionError::Silent),
    };
    let mut protocol = Protocol::begin(config, view, position);
    let mut scanner = Scanner::default();
    let mut heard = Instant::now();
    let mut probed = false;
    loop {
        let silence = heard + timing.probe * if probed { 2 } else { 1 };
        let deadline = protocol.deadline();
        let (following, sending) = (protocol.following(), !protocol.out().is_empty());
        let has_room = protocol.has_room();
        let event = tokio::select! {
            read = reader.read_buf(scanner.room(READ)) => Event::Read(read),
            written = writer.write(protocol.out()), if sending => Event::Written(written),
            command = commands.recv(), if has_room => Event::Command(command),
            () = sleep_until(deadline.map_or(silence, |deadline| deadline.min(silence))) => Event::Late,
        };
        let error = match event {
            Event::Read(Ok(0)) => Some(SessionError::Closed),
            Event::Read(Ok(_)) => {
                (heard, probed) = (Instant::now(), false);
                receive_all(&mut protocol, &mut scanner).err()
            }
            Event::Written(Ok(written)) => {
                protocol.out().drain(..written);
                None
            }
            Event::Read(Err(error)) | Event::Written(Err(error)) => Some(error.into()),
            Event::Command(None) => return Ended::Unused,
            Event::Command(Some(command)) if following => {
                protocol.transact(command, timing.transact);
                None
            }
            Event::Command(Some(command)) => {
                let _ = command.answer.send(Err(TransactError::Disconnected));
                None
            }
            Event::Late
                if probed || deadline.is_some_and(|deadline| deadline <= Instant::now()) =>
            {
                Some(SessionError::Silent)
            }
            Event::Late => {
                probed = true;
                protocol.probe();
                None
            }
        };
        if let Some(error) = error {
            return Ended::Failed { error, followed: protocol.followed() };
        }
    }
}

enum Event {
    Read(std::io::Result<usize>),
    Written(std::io::Result<usize>),
    Command(Option<Command>),
    Late,
}

fn receive_all(protocol: &mut Protocol<'_>, scanner: &mut Scanner) -> Result<(), SessionError> {
    while let Some(message) = scanner.next() {
        protocol.receive(message?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        probe: Duration::from_secs(1),
        connect: Duration::from_secs(1),
        transact: Duration::from_secs(1),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_secs(3),
    };

    fn waits(followed: Option<Duration>) -> Vec<u128> {
        let next = |waited: &Duration| Some(next_wait(&TIMING, *waited, followed));
        std::iter::successors(Some(Duration::ZERO), next).map(|w| w.as_millis()).take(9).collect()
    }

    #[test]
    fn each_attempt_that_comes_to_nothing_is_followed_by_a_longer_wait() {
        assert_eq!(waits(None), [0, 50, 100, 200, 400, 800, 1600, 3000, 3000]);
    }

    #[test]
    fn a_server_that_ends_each_session_as_it_begins_is_asked_ever_less_often() {
        assert_eq!(waits(Some(Duration::from_millis(20))), waits(None));
        assert_eq!(waits(Some(Duration::from_secs(60)))[1..], [50; 8]);
    }

    /// What a server answers until it is followed, whatever it is asked.
    const GREETING: &str = r#"
        {"id":0,"result":{},"error":null}
        {"id":1,"result":[false,"",{"Database":{"00000000-0000-0000-0000-000000000001":
            {"initial":{"model":"standalone"}}}}],"error":null}
        {"id":2,"result":{"tables":{}},"error":null}
        {"id":3,"result":[false,"",{}],"error":null}"#;

    #[tokio::test]
    async fn transactions_wait_while_the_server_does_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = super::super::Client::spawn(Config {
            remotes: vec![Remote::Unix(socket)],
            database: "D".to_owned(),
            tables: vec![],
            leader_only: false,
        });
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(GREETING.as_bytes()).await.unwrap();
        client.synced().await;
        for _ in 0..4 * super::super::COMMANDS {
            let mut txn = super::super::Transaction::new().comment("x".repeat(64 * 1024));
            txn.delete("T", vec![]);
            let client = client.clone();
            tokio::spawn(async move { client.transact(txn).await });
        }
        // Each lets everything run that can.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.commands.capacity(), 0, "the queue is full and stays so");

        let mut read = [0; READ];
        while client.commands.capacity() < super::super::COMMANDS {
            assert_ne!(server.read(&mut read).await.unwrap(), 0);
        }
    }
}
