//! A command to what is done: the guest is looked for, and the hypervisor or a line is asked.

use std::sync::Arc;
use std::time::Duration;

use crds::commands::STREAM;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, copy_bidirectional};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::lines::Lines;
use super::{picture, said, upload};
use crate::guest::freeze::{self, FreezeError, Whose};
use crate::guest::lists::{self, Question};
use crate::guest::words;
use crate::host::Host;
use crate::hypervisor::{DomainState, GuestError, HypervisorError, PauseReason};
use crate::imports::Uploads;
use crate::places::{Place, Places};
use crate::reach::{self, ReachError};

/// How long a guest may take for all that it is asked: a controller waits for 30 s.
const ANSWER: Duration = Duration::from_secs(25);

/// How many pictures of screens are taken at once.
const PICTURES: usize = 4;
/// How long a screen may take to wake up.
const WAKE: Duration = Duration::from_secs(1);

/// How many ports of guests are forwarded at once.
const FORWARDS: usize = 128;
/// And how many of one guest.
const FORWARDS_EACH: usize = 16;
/// How long one address of a guest may take to answer.
const DIAL: Duration = Duration::from_secs(10);
/// How long a guest may take to end its side of a forwarded port, once its user has.
const LINGER: Duration = Duration::from_secs(60);

pub(super) type Answer = Response<Full<Bytes>>;

/// What every command may use.
#[derive(Debug)]
pub(super) struct Desk {
    host: Host,
    /// Claims that wait for what somebody sends.
    uploads: Uploads,
    lines: Arc<Lines>,
    /// Places for forwarded ports, and those of each guest.
    forwards: Arc<Semaphore>,
    forwards_each: Places,
    /// Who asks a guest's agent something.
    questions: Places,
    /// Who has its file systems stand still, and who has them go on.
    stands: Places,
    /// Places for pictures of screens, which take memory, and those of each guest.
    pictures: Arc<Semaphore>,
    pictures_each: Places,
}

/// A verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Pause,
    Unpause,
    SoftReboot,
    Reset,
    Console,
    Vnc,
    Ask(Question),
    Freeze,
    Unfreeze,
    /// Of its screen; `moves`: its pointer is moved before, to wake it up.
    Screenshot {
        moves: bool,
    },
    /// To a TCP port of the guest.
    Forward(u16),
}

impl Verb {
    fn forward(port: &str) -> Option<Self> {
        port.parse().ok().filter(|port| *port > 0).map(Self::Forward)
    }

    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "pause" => Self::Pause,
            "unpause" => Self::Unpause,
            "softreboot" => Self::SoftReboot,
            "reset" => Self::Reset,
            "console" => Self::Console,
            "vnc" => Self::Vnc,
            "guestosinfo" => Self::Ask(Question::OsInfo),
            "userlist" => Self::Ask(Question::Users),
            "filesystemlist" => Self::Ask(Question::FileSystems),
            "freeze" => Self::Freeze,
            "unfreeze" => Self::Unfreeze,
            "screenshot" => Self::Screenshot { moves: false },
            _ => return None,
        })
    }

    const fn method(self) -> Method {
        match self {
            Self::Console
            | Self::Vnc
            | Self::Ask(_)
            | Self::Screenshot { .. }
            | Self::Forward(_) => Method::GET,
            _ => Method::PUT,
        }
    }

    /// The name of the socket that it is a stream of, if it is one.
    const fn line(self) -> Option<&'static str> {
        match self {
            Self::Console => Some("serial"),
            Self::Vnc => Some("vnc"),
            _ => None,
        }
    }
}

/// Namespace, name, uid of the guest, and what is asked of it.
fn parse(path: &str) -> Option<(&str, &str, &str, Verb)> {
    match path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["v1", "namespaces", namespace, "instances", name, uid, verb] => {
            Some((namespace, name, uid, Verb::of(verb)?))
        }
        ["v1", "namespaces", namespace, "instances", name, uid, "portforward", port] => {
            Some((namespace, name, uid, Verb::forward(port)?))
        }
        ["v1", "namespaces", namespace, "instances", name, uid, "screenshot", "moved"] => {
            Some((namespace, name, uid, Verb::Screenshot { moves: true }))
        }
        _ => None,
    }
}

/// Why something was not done.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct No(pub(super) StatusCode, pub(super) String);

impl From<HypervisorError> for No {
    fn from(error: HypervisorError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<FreezeError> for No {
    fn from(error: FreezeError) -> Self {
        match error {
            FreezeError::NoTime => Self(StatusCode::CONFLICT, error.to_string()),
            FreezeError::Api(_) => Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            FreezeError::Guest(error) => error.into(),
        }
    }
}

impl From<GuestError> for No {
    fn from(error: GuestError) -> Self {
        match error {
            // In upstream's words: that there was one the object has said.
            GuestError::Silent => {
                Self(StatusCode::CONFLICT, "VMI does not have guest agent connected".to_owned())
            }
            GuestError::Still => Self(StatusCode::CONFLICT, error.to_string()),
            error => Self(StatusCode::INTERNAL_SERVER_ERROR, words::shown(&error.to_string())),
        }
    }
}

/// One guest is asked one thing at a time, so that many who ask it hold up no other guest.
fn asked_already() -> No {
    let said = "the guest agent is being asked by somebody else: try again in a few seconds";
    No(StatusCode::CONFLICT, said.to_owned())
}

impl Desk {
    pub(super) fn new(host: Host, uploads: Uploads) -> Self {
        Self {
            host,
            uploads,
            lines: Arc::default(),
            forwards: Arc::new(Semaphore::new(FORWARDS)),
            forwards_each: Places::of(FORWARDS_EACH),
            questions: Places::of(1),
            stands: Places::of(1),
            pictures: Arc::new(Semaphore::new(PICTURES)),
            pictures_each: Places::of(1),
        }
    }

    /// The answer; a stream goes on after it until `stop`.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        stop: CancellationToken,
    ) -> Answer {
        match self.respond(request, stop).await {
            Ok(answer) => answer,
            Err(No(status, said)) => reply(status, said),
        }
    }

    async fn respond(
        &self,
        mut request: Request<Incoming>,
        stop: CancellationToken,
    ) -> Result<Answer, No> {
        let path = request.uri().path().to_owned();
        let no_such = || No(StatusCode::NOT_FOUND, "this agent knows no such command".to_owned());
        if let Some(asked) = said::parse(&path).filter(|_| *request.method() == Method::GET) {
            let dirs = self.host.dirs.clone();
            let told = tokio::task::spawn_blocking(move || said::answer(&dirs, &asked)).await;
            let told = told.map_err(std::io::Error::from).flatten();
            let failed = |error: std::io::Error| {
                No(StatusCode::INTERNAL_SERVER_ERROR, format!("the console's log: {error}"))
            };
            return Ok(reply(StatusCode::OK, told.map_err(failed)?.to_string()));
        }
        if let Some(asked) = upload::parse(&path) {
            return upload::answer(&self.uploads, &asked, request).await;
        }
        let (namespace, name, uid, verb) = parse(&path).ok_or_else(no_such)?;
        let method = verb.method();
        if *request.method() != method {
            return Err(No(StatusCode::METHOD_NOT_ALLOWED, format!("ask with {method}")));
        }
        info!(namespace, name, ?verb, "A controller asks");
        let (domain, state) = self.guest(namespace, name, uid).await?;
        if let Verb::Ask(question) = verb {
            let _place = self.questions.now(&domain).ok_or_else(asked_already)?;
            let asked = lists::answer(&self.host.hypervisor, &domain, question);
            let told = timeout(ANSWER, asked).await.map_err(|_| GuestError::Silent)??;
            return Ok(reply(StatusCode::OK, told.to_string()));
        }
        if matches!(verb, Verb::Freeze | Verb::Unfreeze) {
            let [namespace, name, uid] = [namespace, name, uid].map(str::to_owned);
            self.stand(Whose { domain, namespace, name, uid }, verb == Verb::Freeze).await?;
            return Ok(reply(StatusCode::OK, String::new()));
        }
        if let Verb::Screenshot { moves } = verb {
            let picture = self.screenshot(&domain, moves).await?;
            let mut response = Response::new(Full::from(picture));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
            return Ok(response);
        }
        if let Verb::Forward(port) = verb {
            let (guest, place) = self.forward(&domain, port).await?;
            let client = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let _place = place;
                let joined = async {
                    if let Ok(client) = client.await {
                        // Either may vanish at any time, and the other then learns it.
                        let (mut client, mut guest) = (TokioIo::new(client), guest);
                        let _ = copy_bidirectional(&mut client, &mut guest).await;
                    }
                };
                stop.run_until_cancelled(joined).await;
            });
            return Ok(upgraded());
        }
        let Some(line) = verb.line() else {
            self.act(&domain, state, verb).await?;
            return Ok(reply(StatusCode::OK, String::new()));
        };
        let socket = self.host.socket(&domain, line);
        if !tokio::fs::try_exists(&socket).await.unwrap_or(false) {
            let said = format!("the guest has no {line} socket on this node");
            return Err(No(StatusCode::BAD_REQUEST, said));
        }
        // Of the others libvirt is who listens, in a directory of root's.
        let of = match verb {
            Verb::Vnc => Some(self.host.hypervisor.runner().await?.uid),
            _ => None,
        };
        let turn = self.lines.ask(&socket);
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let joined = async {
                if let Ok(client) = client.await {
                    turn.join(TokioIo::new(client), of).await;
                }
            };
            stop.run_until_cancelled(joined).await;
        });
        Ok(upgraded())
    }

    /// A connection to a port of the guest, and a place among all that there are: by the first
    /// of its networks that it has a tap in.
    async fn forward(&self, domain: &str, port: u16) -> Result<(DuplexStream, [Place; 2]), No> {
        let of_guest = self.forwards_each.now(domain).ok_or_else(|| {
            let said = format!("{FORWARDS_EACH} ports of the guest are forwarded already");
            No(StatusCode::SERVICE_UNAVAILABLE, said)
        })?;
        let place = Arc::clone(&self.forwards).try_acquire_owned().map_err(|_| {
            let said = format!("{FORWARDS} ports of guests are forwarded on this node already");
            No(StatusCode::SERVICE_UNAVAILABLE, said)
        })?;
        let none = "no network interfaces are present".to_owned();
        let mut no = No(StatusCode::BAD_REQUEST, none);
        for way in self.host.ports.ways(domain) {
            let error = match reach::connect(&way, port, DIAL, LINGER).await {
                Ok(guest) => return Ok((guest, [of_guest, place])),
                Err(error) => error,
            };
            no = No(StatusCode::INTERNAL_SERVER_ERROR, format!("dialing VM: {error}"));
            if !matches!(error, ReachError::Tap(_)) {
                break;
            }
        }
        Err(no)
    }

    /// What a guest's screen shows, as PNG.
    async fn screenshot(&self, domain: &str, moves: bool) -> Result<Vec<u8>, No> {
        let taken = || {
            let said = "a picture of its screen is being taken: try again in a moment";
            No(StatusCode::CONFLICT, said.to_owned())
        };
        let busy = || {
            let said =
                format!("{PICTURES} pictures of screens are being taken on this node already");
            No(StatusCode::SERVICE_UNAVAILABLE, said)
        };
        let _of_guest = self.pictures_each.now(domain).ok_or_else(taken)?;
        let _place = Arc::clone(&self.pictures).try_acquire_owned().map_err(|_| busy())?;
        if moves {
            self.host.hypervisor.move_pointer(domain).await?;
            tokio::time::sleep(WAKE).await;
        }
        let picture = self.host.hypervisor.screenshot(domain).await?;
        let failed = |why: &dyn std::fmt::Display| {
            let said = format!("the picture of its screen: {why}");
            No(StatusCode::INTERNAL_SERVER_ERROR, said)
        };
        let png = tokio::task::spawn_blocking(move || picture::png(picture)).await;
        png.map_err(|error| failed(&error))?.map_err(|why| failed(&why))
    }

    /// The domain of an instance that has a guest here, and what it is doing.
    async fn guest(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(String, DomainState), No> {
        let domains = self.host.hypervisor.list().await?;
        let found = domains
            .into_iter()
            .find(|one| one.uid == uid && one.namespace == namespace && one.name == name);
        let runs = found.filter(|one| !matches!(one.state, DomainState::ShutOff(_)));
        let gone = || {
            let said = format!("no guest of {namespace}/{name} runs on node {}", self.host.node);
            No(StatusCode::BAD_REQUEST, said)
        };
        runs.map(|one| (one.domain, one.state)).ok_or_else(gone)
    }

    /// Has a guest's file systems stand still or go on, to the end: also when nobody waits
    /// for it any more.
    async fn stand(&self, whose: Whose, still: bool) -> Result<(), No> {
        let place = self.stands.now(&format!("{} {still}", whose.domain));
        let place = place.ok_or_else(asked_already)?;
        let host = self.host.clone();
        let task = tokio::spawn(async move {
            let _place = place;
            let done = if still {
                freeze::freeze(&host, &whose).await
            } else {
                freeze::thaw(&host, &whose).await.map_err(FreezeError::from)
            };
            host.look_again();
            done
        });
        let failed =
            |error: JoinError| No(StatusCode::INTERNAL_SERVER_ERROR, format!("it failed: {error}"));
        Ok(task.await.map_err(failed)??)
    }

    async fn act(&self, domain: &str, state: DomainState, verb: Verb) -> Result<(), No> {
        let hypervisor = &self.host.hypervisor;
        match verb {
            // It stands still for somebody else's sake and would go on behind our back.
            Verb::Pause | Verb::Unpause
                if matches!(
                    state,
                    DomainState::Paused(PauseReason::Migration | PauseReason::PostCopyFailed)
                ) =>
            {
                let said = "the guest is on its way to another node".to_owned();
                return Err(No(StatusCode::BAD_REQUEST, said));
            }
            Verb::Pause => hypervisor.suspend(domain).await?,
            Verb::Unpause => hypervisor.resume(domain).await?,
            Verb::SoftReboot => hypervisor.reboot(domain).await?,
            Verb::Reset => hypervisor.reset(domain).await?,
            Verb::Freeze
            | Verb::Unfreeze
            | Verb::Console
            | Verb::Vnc
            | Verb::Ask(_)
            | Verb::Screenshot { .. }
            | Verb::Forward(_) => {}
        }
        self.host.look_again();
        Ok(())
    }
}

/// What says that bytes go to and fro from now on.
fn upgraded() -> Answer {
    let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, String::new());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(STREAM));
    response
}

pub(super) fn reply(status: StatusCode, said: String) -> Answer {
    let mut response = Response::new(Full::from(said));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use crds::commands::path;

    use super::*;

    #[test]
    fn a_command_is_what_controllers_write() {
        let written = path("shop", "till", "u1", "pause");
        assert_eq!(parse(&written), Some(("shop", "till", "u1", Verb::Pause)));
        let picture = Verb::Screenshot { moves: true };
        let written = path("shop", "till", "u1", "screenshot/moved");
        assert_eq!(parse(&written), Some(("shop", "till", "u1", picture)));
        assert_eq!(parse(&path("shop", "till", "u1", "screenshot/turned")), None);
        assert_eq!(parse(&path("shop", "till", "u1", "explode")), None);
        let forward = |port: &str| path("shop", "till", "u1", &format!("portforward/{port}"));
        assert_eq!(parse(&forward("22")), Some(("shop", "till", "u1", Verb::Forward(22))));
        for port in ["0", "65536", "ssh", "", "-1"] {
            assert_eq!(parse(&forward(port)), None, "{port:?}");
        }
    }
}
