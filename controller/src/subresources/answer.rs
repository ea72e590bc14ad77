//! Requests to answers: what is there is read, [`machine`] and [`instance`] decide, and what
//! they say is written, or an agent is asked.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration,
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tracing::info;

use super::machine::{self, Decide, Options, Plan};
use super::node::{self, Command};
use super::own::Own;
use super::path::{self, Asked, What};
use super::picture;
use super::refusal::{Kind, Refusal};
use super::uploads::token;
use super::volumes::{self, VolumeOptions};
use super::{expand, freeze, instance, stream};
use crate::MANAGER;

/// The longest body that is read, in bytes: options are short.
const LONGEST: usize = 64 << 10;
/// The same of one that is an object: as long as one may be that is kept.
const LONGEST_OBJECT: usize = 3 << 20;
/// How often it is decided anew because what it was decided on has changed.
const ATTEMPTS: usize = 8;

pub(super) type Answer = Response<Full<Bytes>>;

/// What every request may use.
pub(super) struct Desk {
    pub(super) client: Client,
    pub(super) own: Arc<Own>,
    /// What tokens are sealed with, if uploads are taken.
    pub(super) seal: Option<ring::hmac::Key>,
}

impl Desk {
    /// The answer to a request; a stream begins once it is sent.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.respond(request).await.unwrap_or_else(|refusal| {
            let code = StatusCode::from_u16(refusal.code);
            reply(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &refusal.body())
        })
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let asked = path::parse(request.uri().path()).ok_or_else(Refusal::no_such_path)?;
        let told = match asked {
            Asked::Of { namespace, name, what } => {
                return self.of(request, &namespace, &name, &what).await;
            }
            Asked::Expanded { namespace } => return self.expanded(request, &namespace).await,
            Asked::Token { namespace } => {
                let seal = self.seal.as_ref().ok_or_else(Refusal::no_such_path)?;
                return token_for(seal, &namespace, request).await;
            }
            Asked::Groups => path::groups(self.seal.is_some()),
            Asked::Group => path::group(path::GROUP, &path::VERSIONS),
            Asked::Uploads => path::group(path::UPLOADS, &path::UPLOADS_VERSIONS),
            Asked::UploadsResources => path::uploads_resources(),
            Asked::Resources(version) => path::resources(version),
            Asked::Version => version(),
            Asked::Health => json!("ok"),
            Asked::OpenApi => path::open_api(),
        };
        if request.method() == Method::GET {
            Ok(reply(StatusCode::OK, &told))
        } else {
            Err(Refusal::wrong_method())
        }
    }

    /// The machine in the body, with what it refers to in place of the references.
    async fn expanded(
        &self,
        request: Request<Incoming>,
        namespace: &str,
    ) -> Result<Answer, Refusal> {
        if request.method() != Method::PUT {
            return Err(Refusal::wrong_method());
        }
        let body = read(request.into_body(), LONGEST_OBJECT).await?;
        let vm = expand::read(&body, namespace)?;
        Ok(reply(StatusCode::OK, &expand::expanded(&self.client, &vm).await?))
    }

    async fn of(
        &self,
        mut request: Request<Incoming>,
        namespace: &str,
        name: &str,
        what: &What,
    ) -> Result<Answer, Refusal> {
        if *request.method() != what.method() {
            return Err(Refusal::wrong_method());
        }
        info!(namespace, vm = name, what = ?what, by = who(request.headers()), "Asked for");
        let client = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let body = read(body, LONGEST).await?;
        let options = || Options::read(&body);
        let here = Here { client: &self.client, namespace, name };
        match what {
            What::Start => here.carry_out(&options()?, machine::start).await,
            What::Stop => here.carry_out(&options()?, machine::stop).await,
            What::Restart => here.carry_out(&options()?, machine::restart).await,
            What::Migrate => here.migrate(&options()?).await,
            What::ExpandSpec => {
                let vm = here.machine().await?;
                Ok(reply(StatusCode::OK, &expand::expanded(&self.client, &vm).await?))
            }
            What::Pause | What::Unpause | What::SoftReboot | What::Reset => {
                let options = options()?;
                let found = here.instance().await?;
                let node = instance::check(&found, what)?;
                if !options.is_dry_run() {
                    let command = here.command(&found, what);
                    node::put(&self.client, &self.own, node, &command).await?;
                }
                Ok(empty(StatusCode::OK))
            }
            What::AddVolume(kind) => here.change_volumes(*kind, &body, volumes::add).await,
            What::RemoveVolume(kind) => here.change_volumes(*kind, &body, volumes::remove).await,
            What::GuestOsInfo | What::UserList | What::FilesystemList => {
                let found = here.instance().await?;
                let node = instance::check(&found, what)?;
                let command = here.command(&found, what);
                let told = node::get(&self.client, &self.own, node, &command).await?;
                Ok(reply(StatusCode::OK, &told))
            }
            What::Screenshot => {
                let moves = picture::moves_cursor(head.uri.query().unwrap_or_default())?;
                let found = here.instance().await?;
                let node = instance::check(&found, what)?;
                let verb = Cow::Borrowed(if moves { "screenshot/moved" } else { "screenshot" });
                let command = Command { verb, ..here.command(&found, what) };
                let png = node::picture(&self.client, &self.own, node, &command).await?;
                Ok(picture::reply(png))
            }
            What::ConsoleLog => {
                let found = here.instance().await?;
                let node = instance::node(&found)?;
                let owner = instance::owner(&found).unwrap_or_default();
                let verb = Cow::Owned(format!("consolelog/{owner}"));
                let command = Command { verb, ..here.command(&found, what) };
                let told = node::get(&self.client, &self.own, node, &command).await?;
                Ok(reply(StatusCode::OK, &told))
            }
            What::Freeze | What::Unfreeze => {
                let time = if *what == What::Freeze { freeze::read(&body)? } else { None };
                let found = here.instance().await?;
                let node = instance::check(&found, what)?;
                // That it goes on in time is sure before it stands still.
                if *what == What::Freeze {
                    here.note_thaw(&found, time).await?;
                }
                let command = here.command(&found, what);
                node::put(&self.client, &self.own, node, &command).await?;
                Ok(empty(StatusCode::OK))
            }
            What::Console | What::Vnc | What::PortForward { .. } => {
                let agreed = stream::agreed(&head.headers)?;
                if matches!(what, What::PortForward { of_machine: true, .. }) {
                    machine::started(&here.machine().await?)?;
                }
                let found = here.instance().await?;
                let node = instance::check(&found, what)?;
                let command = here.command(&found, what);
                let bytes = node::stream(&self.client, &self.own, node, &command).await?;
                tokio::spawn(stream::join(client, bytes));
                Ok(agreed)
            }
        }
    }
}

/// A token by which whoever asks may send a disk to a claim of this namespace: the API has
/// asked whether that one may make such tokens.
async fn token_for(
    seal: &ring::hmac::Key,
    namespace: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::wrong_method());
    }
    let by = who(request.headers()).to_owned();
    let body = Limited::new(request.into_body(), LONGEST).collect().await;
    let body = body.map_err(|_| Refusal::too_large(LONGEST))?.to_bytes();
    let told = token::answer(seal, namespace, &body, Timestamp::now());
    let told = told.map_err(Refusal::bad_request)?;
    info!(namespace, claim = %told["spec"]["pvcName"], by, "A token for an upload is given");
    Ok(reply(StatusCode::OK, &told))
}

/// What an agent calls it.
fn verb(what: &What) -> Cow<'static, str> {
    Cow::Borrowed(match what {
        What::PortForward { port, .. } => return Cow::Owned(format!("portforward/{port}")),
        What::Pause => "pause",
        What::Unpause => "unpause",
        What::SoftReboot => "softreboot",
        What::Reset => "reset",
        What::Console => "console",
        What::Vnc => "vnc",
        What::GuestOsInfo => "guestosinfo",
        What::UserList => "userlist",
        What::FilesystemList => "filesystemlist",
        What::Freeze => "freeze",
        What::Unfreeze => "unfreeze",
        What::Start
        | What::Stop
        | What::Restart
        | What::Migrate
        | What::ExpandSpec
        | What::ConsoleLog
        | What::Screenshot
        | What::AddVolume(_)
        | What::RemoveVolume(_) => "",
    })
}

/// One machine, and its instance of the same name.
struct Here<'a> {
    client: &'a Client,
    namespace: &'a str,
    name: &'a str,
}

impl Here<'_> {
    /// What the agent is asked for.
    fn command(&self, found: &VirtualMachineInstance, what: &What) -> Command<'_> {
        let uid = found.uid().unwrap_or_default();
        Command { namespace: self.namespace, name: self.name, uid, verb: verb(what) }
    }

    /// Says on the instance when its guest's file systems are to go on.
    async fn note_thaw(
        &self,
        found: &VirtualMachineInstance,
        time: Option<Duration>,
    ) -> Result<(), Refusal> {
        let mut seen = Cow::Borrowed(found);
        for _ in 0..ATTEMPTS {
            let patch = freeze::patch(&seen, time, Timestamp::now());
            if patch.is_none() {
                return Ok(());
            }
            let plan = Plan { instance: patch, ..Plan::default() };
            match self.write(plan, false).await {
                Ok(()) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(Refusal::internal(error)),
            }
            seen = Cow::Owned(self.instance().await?);
            if seen.uid() != found.uid() {
                break;
            }
        }
        let why = "it is being changed by others; please try again";
        Err(Refusal::conflict(Kind::Instance, self.name, why))
    }

    async fn machine(&self) -> Result<VirtualMachine, Refusal> {
        let api: Api<VirtualMachine> = Api::namespaced(self.client.clone(), self.namespace);
        let found = api.get_opt(self.name).await.map_err(Refusal::internal)?;
        found.ok_or_else(|| Refusal::not_found(Kind::Machine, self.name))
    }

    async fn find_instance(&self) -> Result<Option<VirtualMachineInstance>, Refusal> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), self.namespace);
        api.get_opt(self.name).await.map_err(Refusal::internal)
    }

    async fn instance(&self) -> Result<VirtualMachineInstance, Refusal> {
        let found = self.find_instance().await?;
        found.ok_or_else(|| Refusal::not_found(Kind::Instance, self.name))
    }

    /// Decides on what is there, and writes that unless it has changed since; then anew.
    async fn carry_out(&self, options: &Options, decide: Decide) -> Result<Answer, Refusal> {
        for _ in 0..ATTEMPTS {
            let (vm, instance) = (self.machine().await?, self.find_instance().await?);
            let plan = decide((&vm, instance.as_ref()), options)?;
            match self.write(plan, options.is_dry_run()).await {
                Ok(()) => return Ok(empty(StatusCode::ACCEPTED)),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(Refusal::internal(error)),
            }
        }
        let why = "it is being changed by others; please try again";
        Err(Refusal::conflict(Kind::Machine, self.name, why))
    }

    /// The same for the volumes of a machine or an instance.
    async fn change_volumes(
        &self,
        kind: Kind,
        body: &[u8],
        decide: volumes::Decide,
    ) -> Result<Answer, Refusal> {
        let options = VolumeOptions::read(body)?;
        for _ in 0..ATTEMPTS {
            let plan = match kind {
                Kind::Machine => volumes::of_machine(&self.machine().await?, &options, decide)?,
                Kind::Instance => volumes::of_instance(&self.instance().await?, &options, decide)?,
            };
            match self.write(plan, options.is_dry_run()).await {
                Ok(()) => return Ok(empty(StatusCode::ACCEPTED)),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                // What the API does not take of the changed object is the asker's to know.
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                    return Err(Refusal::bad_request(status.message));
                }
                Err(error) => return Err(Refusal::internal(error)),
            }
        }
        Err(Refusal::conflict(kind, self.name, "it is being changed by others; please try again"))
    }

    async fn write(&self, plan: Plan, dry_run: bool) -> Result<(), kube::Error> {
        let params = PatchParams {
            dry_run,
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let Plan { instance, spec, status } = plan;
        if let Some(patch) = instance {
            let api: Api<VirtualMachineInstance> =
                Api::namespaced(self.client.clone(), self.namespace);
            api.patch(self.name, &params, &Patch::Merge(patch)).await?;
        }
        let api: Api<VirtualMachine> = Api::namespaced(self.client.clone(), self.namespace);
        if let Some(patch) = spec {
            api.patch(self.name, &params, &Patch::Merge(patch)).await?;
        }
        if let Some(patch) = status {
            api.patch_status(self.name, &params, &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    async fn migrate(&self, options: &Options) -> Result<Answer, Refusal> {
        let (vm, instance) = (self.machine().await?, self.find_instance().await?);
        let made = machine::migrate((&vm, instance.as_ref()), options)?;
        let made: Migration = serde_json::from_value(made).map_err(Refusal::internal)?;
        let api: Api<Migration> = Api::namespaced(self.client.clone(), self.namespace);
        let params =
            PostParams { dry_run: options.is_dry_run(), field_manager: Some(MANAGER.to_owned()) };
        api.create(&params, &made).await.map_err(Refusal::internal)?;
        Ok(empty(StatusCode::ACCEPTED))
    }
}

async fn read(body: Incoming, longest: usize) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, longest).collect().await;
    Ok(body.map_err(|_| Refusal::too_large(longest))?.to_bytes())
}

/// For whom the API asks: it says so, and nobody else can.
fn who(headers: &HeaderMap) -> &str {
    let user = headers.get("x-remote-user").and_then(|value| value.to_str().ok());
    user.unwrap_or_default()
}

/// As upstream's `version.Info`.
fn version() -> Value {
    json!({
        "gitVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-berth"), "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64",
    })
}

fn reply(status: StatusCode, told: &Value) -> Answer {
    let mut response = Response::new(Full::from(told.to_string()));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
