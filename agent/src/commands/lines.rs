//! The serial lines and displays of guests. QEMU speaks to one client of each at a time, so who
//! comes second has the first one leave (as KubeVirt), and is served once that has left.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// All that somebody is on, or waits for.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<HashMap<PathBuf, Line>>);

#[derive(Debug)]
struct Line {
    /// Cancelled to have the latest who asked for it leave.
    leave: CancellationToken,
    /// Held by who is on it.
    on: Arc<tokio::sync::Mutex<()>>,
}

/// Somebody's turn on a line.
#[derive(Debug)]
pub(super) struct Turn {
    lines: Arc<Lines>,
    socket: PathBuf,
    leave: CancellationToken,
    on: Arc<tokio::sync::Mutex<()>>,
}

impl Lines {
    /// The next turn on this line: whoever has asked before is to leave.
    pub(super) fn ask(self: &Arc<Self>, socket: &Path) -> Turn {
        let leave = CancellationToken::new();
        let mut lines = self.0.lock();
        let line = lines
            .entry(socket.to_owned())
            .or_insert_with(|| Line { leave: CancellationToken::new(), on: Arc::default() });
        std::mem::replace(&mut line.leave, leave.clone()).cancel();
        let on = Arc::clone(&line.on);
        Turn { lines: Arc::clone(self), socket: socket.to_owned(), leave, on }
    }
}

impl Turn {
    /// Joins the client and the line until one of them ends, or another client comes.
    ///
    /// `of`: the user who must listen there, where he has made the socket himself. A QEMU that
    /// its guest has taken over may put a link in its place, and root follows it anywhere.
    pub(super) async fn join(
        &self,
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        of: Option<u32>,
    ) {
        let joined = async {
            let _on = self.on.lock().await;
            match connect(&self.socket, of).await {
                Ok(mut line) => {
                    // Either may vanish at any time, and the other then learns it.
                    let _ = copy_bidirectional(&mut client, &mut line).await;
                }
                Err(error) => tracing::debug!(%error, "A line cannot be joined"),
            }
        };
        self.leave.run_until_cancelled(joined).await;
    }
}

async fn connect(socket: &Path, of: Option<u32>) -> io::Result<UnixStream> {
    let line = UnixStream::connect(socket).await?;
    if of.is_some_and(|of| line.peer_cred().is_ok_and(|peer| peer.uid() == of)) || of.is_none() {
        return Ok(line);
    }
    tracing::warn!(socket = %socket.display(), "Somebody else than QEMU listens at a guest's display");
    Err(io::ErrorKind::PermissionDenied.into())
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        // Nobody has come since.
        if !self.leave.is_cancelled() {
            lines.remove(&self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    use super::*;

    async fn join(lines: &Arc<Lines>, socket: &Path) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = duplex(64);
        let turn = lines.ask(socket);
        (ours, tokio::spawn(async move { turn.join(theirs, None).await }))
    }

    async fn heard(stream: &mut (impl AsyncRead + Unpin), text: &str) {
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, text.as_bytes());
    }

    #[tokio::test]
    async fn who_comes_second_has_the_first_one_leave() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("serial");
        let listener = UnixListener::bind(&socket).unwrap();
        let lines = Arc::new(Lines::default());
        let (mut first, ended) = join(&lines, &socket).await;
        let (mut guest, _) = listener.accept().await.unwrap();
        first.write_all(b"one").await.unwrap();
        heard(&mut guest, "one").await;

        let (mut second, _running) = join(&lines, &socket).await;
        ended.await.unwrap();
        assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 0, "it is told so");
        assert_eq!(guest.read(&mut [0; 8]).await.unwrap(), 0, "the line is free");
        let (mut guest, _) = listener.accept().await.unwrap();
        second.write_all(b"two").await.unwrap();
        heard(&mut guest, "two").await;
        guest.write_all(b"hello").await.unwrap();
        heard(&mut second, "hello").await;
    }

    #[tokio::test]
    async fn a_line_that_nobody_is_on_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let lines = Arc::new(Lines::default());
        let (mut client, ended) = join(&lines, &dir.path().join("none")).await;
        ended.await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(lines.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_line_at_which_somebody_else_listens_is_not_joined() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vnc");
        let _listener = UnixListener::bind(&socket).unwrap();
        let own = nix::unistd::Uid::current().as_raw();
        connect(&socket, Some(own)).await.unwrap();
        let error = connect(&socket, Some(own + 1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
