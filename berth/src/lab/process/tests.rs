use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn spec(dir: &Path, script: &str) -> Spec {
    Spec {
        name: "part".to_owned(),
        words: ["sh", "-c", script].map(str::to_owned).into(),
        env: Vec::new(),
        log: dir.join("part.log"),
        lab: dir.to_owned(),
        prepare: None,
    }
}

async fn wait_for(process: &Process, wanted: impl Fn(&State) -> bool) {
    let mut state = process.state.clone();
    tokio::time::timeout(LIMIT, state.wait_for(wanted)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_killed_process_is_started_again_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let news = News::to(Some(listener));
    let process = Process::start(spec(dir.path(), "exec sleep 60"), &news);
    process.ready(LIMIT).await.unwrap();
    let first = process.kill().unwrap();
    wait_for(&process, |state| matches!(state, State::Running { pid } if *pid != first)).await;
    let line = tokio::time::timeout(LIMIT, lines.recv()).await.unwrap().unwrap();
    assert!(line.starts_with("part ended: killed by SIGKILL; started again"), "{line}");
    assert!(line.ends_with("part.log"), "{line}");
    process.stop().await;
}

#[tokio::test]
async fn a_stopped_process_stays_away_until_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(spec(dir.path(), "exec sleep 60"), &News::default());
    process.ready(LIMIT).await.unwrap();
    let pid = process.pid().unwrap();
    process.stop().await;
    assert_eq!(process.state(), State::Stopped);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    process.kill().unwrap_err();
    process.resume().await;
    process.ready(LIMIT).await.unwrap();
    process.stop().await;
}

#[tokio::test]
async fn a_process_that_cannot_stay_is_tried_again_and_says_where_its_log_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut failing = spec(dir.path(), "echo no; exit 3");
    // Ready only when it has run for a while, which it never does.
    failing.prepare = Some(Arc::new(|| Box::pin(std::future::pending())));
    let process = Process::start(failing, &News::default());
    wait_for(&process, |state| matches!(state, State::Waiting { last } if last.contains('3')))
        .await;
    let error = process.ready(Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.contains("part.log"), "{error}");
    let log = std::fs::read_to_string(dir.path().join("part.log")).unwrap();
    assert!(log.lines().count() > 1, "started once only: {log}");
    process.stop().await;
    assert_eq!(process.state(), State::Stopped);
}

#[tokio::test]
async fn a_preparation_that_fails_starts_the_process_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut unlucky = spec(dir.path(), "exec sleep 60");
    let tries = Arc::new(AtomicU32::new(0));
    let count = tries.clone();
    unlucky.prepare = Some(Arc::new(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            anyhow::ensure!(number > 0, "not the first time");
            Ok(())
        })
    }));
    let process = Process::start(unlucky, &News::default());
    process.ready(LIMIT).await.unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    process.stop().await;
}

#[tokio::test]
async fn a_process_carries_the_mark_of_its_lab() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(spec(dir.path(), "exec sleep 60"), &News::default());
    process.ready(LIMIT).await.unwrap();
    let environ = format!("/proc/{}/environ", process.pid().unwrap());
    let mark = format!("{MARKER}={}", dir.path().display());
    // While the shell becomes `sleep` its environment is empty for a moment.
    let marked = async {
        let carries = |environ: Vec<u8>| {
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        while !carries(std::fs::read(&environ).unwrap()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, marked).await.expect("the process carries the mark");
    process.stop().await;
}
