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
        if !idle(&mut commands, wait).await {
            return;
        }
        let ended = connection(remote, &config, &timing, &mut commands, &view, &mut position).await;
        let Ended::Failed { error, followed } = ended else { return };
        let longer = if followed { Duration::ZERO } else { wait * 2 };
        let patient = wait < timing.backoff_max;
        wait = longer.clamp(timing.backoff_min, timing.backoff_max);
        let outcome = match (followed, patient && wait == timing.backoff_max) {
            (true, _) => Outcome::Lost,
            (false, true) => Outcome::LongAbsent,
            (false, false) => Outcome::Absent,
        };
        report(&config, remote, &error, outcome);
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
        /// Whether it had come as far as to follow the database.
        followed: bool,
    },
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

/// Waits, and tells whoever asks for a transaction meanwhile that there is no
/// connection; false when nobody is left who could ask.
async fn idle(commands: &mut mpsc::Receiver<Command>, wait: Duration) -> bool {
    let over = sleep(wait);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => drop(command.answer.send(Err(TransactError::Disconnected))),
                None => return false,
            },
            () = &mut over => return true,
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
    let failed = |error| Ended::Failed { error, followed: false };
    let (mut reader, mut writer) = match timeout(timing.connect, remote.connect()).await {
        Ok(Ok(halves)) => halves,
        Ok(Err(error)) => return failed(error.into()),
        Err(_) => return failed(SessionError::Silent),
    };
    let mut protocol = Protocol::begin(config, view, position);
    let mut scanner = Scanner::default();
    let mut heard = Instant::now();
    let mut probed = false;
    loop {
        let silence = heard + timing.probe * if probed { 2 } else { 1 };
        let deadline = protocol.deadline();
        let (following, sending) = (protocol.following(), !protocol.out().is_empty());
        let event = tokio::select! {
            read = reader.read_buf(scanner.room(READ)) => Event::Read(read),
            written = writer.write(protocol.out()), if sending => Event::Written(written),
            command = commands.recv() => Event::Command(command),
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
            return Ended::Failed { error, followed: protocol.following() };
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
