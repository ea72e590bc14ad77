//! A registry that does what a test wants, and what a session makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::http::header::{AUTHORIZATION, LOCATION, RANGE, WWW_AUTHENTICATE};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;

/// What it does with those who ask for a blob.
#[derive(Clone, Debug, Default)]
pub(crate) enum Trick {
    #[default]
    None,
    /// It ends after so many bytes of the file, once.
    Cut(usize),
    /// It never gives more than so many bytes of the file.
    Stall(usize),
    /// It gives so many bytes more than there are.
    More(usize),
    /// Other bytes, as many.
    Other,
    /// It knows nothing of ranges.
    WithoutRanges,
    /// It sends those who ask elsewhere.
    Redirect(String),
}

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub(crate) enum Door {
    #[default]
    Open,
    /// With this user and password.
    Basic(&'static str, &'static str),
    /// With a token, for which that login is asked.
    Bearer(&'static str, &'static str),
}

#[derive(Default)]
pub(crate) struct Held {
    pub(crate) blobs: BTreeMap<String, Bytes>,
    /// By tag and by digest.
    pub(crate) manifests: BTreeMap<String, Bytes>,
    pub(crate) door: Door,
    pub(crate) trick: Trick,
    /// The paths that were asked for and given, with the byte that a range began with.
    pub(crate) asked: Vec<String>,
    /// Where tokens are, if not here.
    realm: Option<String>,
}

/// A registry, until it is dropped.
pub(crate) struct Fake {
    pub(crate) host: String,
    pub(crate) held: Arc<Mutex<Held>>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let held = Arc::<Mutex<Held>>::default();
        let app =
            axum::Router::new().fallback(answer).with_state((Arc::clone(&held), host.clone()));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { host, held, task }
    }

    pub(crate) fn http(&self) -> Http {
        Http::new(vec![self.host.clone()], Vec::new())
    }

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host)).unwrap()
    }

    pub(crate) fn blob(&self, content: impl Into<Bytes>) -> (String, usize) {
        let content = content.into();
        let digest = Digest::of_bytes(&content).to_string();
        let length = content.len();
        self.held.lock().blobs.insert(digest.clone(), content);
        (digest, length)
    }

    /// Its digest.
    pub(crate) fn manifest(&self, tag: &str, json: &serde_json::Value) -> Digest {
        let json = Bytes::from(json.to_string());
        let digest = Digest::of_bytes(&json);
        let mut held = self.held.lock();
        held.manifests.insert(tag.to_owned(), json.clone());
        held.manifests.insert(digest.to_string(), json);
        digest
    }

    /// How often blobs were asked for.
    pub(crate) fn blobs_asked(&self) -> Vec<String> {
        let asked = self.held.lock().asked.clone();
        asked.into_iter().filter(|path| path.contains("/blobs/")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State((held, host)): State<(Arc<Mutex<Held>>, String)>,
    request: Request,
) -> Response {
    let mut held = held.lock();
    let (path, headers) = (request.uri().path().to_owned(), request.headers());
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (shown, range) = (header(AUTHORIZATION), header(RANGE));
    let said = |status: u16, body: Body| Response::builder().status(status).body(body).unwrap();
    let basic = |user: &str, password: &str| {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    };
    if path == "/token" {
        let Door::Bearer(user, password) = held.door else { return said(404, Body::empty()) };
        if shown != basic(user, password) {
            return said(401, Body::empty());
        }
        held.asked.push(format!("token {}", request.uri().query().unwrap_or_default()));
        return said(200, Body::from(json!({ "token": "t0ken" }).to_string()));
    }
    let realm = held.realm.clone().unwrap_or_else(|| format!("http://{host}/token"));
    let (wanted, challenge) = match held.door {
        Door::Open => (String::new(), String::new()),
        Door::Basic(user, password) => (basic(user, password), "Basic realm=\"x\"".to_owned()),
        Door::Bearer(..) => {
            ("Bearer t0ken".to_owned(), format!("Bearer realm=\"{realm}\",service=\"x y\""))
        }
    };
    if !wanted.is_empty() && shown != wanted {
        let mut refused = said(401, Body::from(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#));
        refused.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        return refused;
    }
    held.asked.push(format!("{path} {range}").trim_end().to_owned());
    let (_, name) = path.rsplit_once('/').unwrap();
    if path.contains("/manifests/") {
        let found = held.manifests.get(name).cloned();
        return found.map_or_else(|| said(404, Body::empty()), |json| said(200, Body::from(json)));
    }
    let Some(whole) = held.blobs.get(name).cloned() else { return said(404, Body::empty()) };
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
    let stalled = |bytes: Bytes| {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        Body::from_stream(first.chain(futures::stream::pending()))
    };
    match held.trick.clone() {
        Trick::None if from > 0 => said(206, Body::from(whole.slice(from..))),
        Trick::None | Trick::WithoutRanges => said(200, Body::from(whole)),
        Trick::Cut(most) => {
            held.trick = Trick::None;
            said(200, Body::from(whole.slice(..most)))
        }
        Trick::Stall(most) => said(200, stalled(whole.slice(..most))),
        Trick::More(more) => said(200, Body::from([&whole[..], &vec![7; more]].concat())),
        Trick::Other => said(200, Body::from(vec![7; whole.len()])),
        Trick::Redirect(to) => {
            let mut elsewhere = said(307, Body::empty());
            elsewhere.headers_mut().insert(LOCATION, to.parse().unwrap());
            elsewhere
        }
    }
}

/// A keyring with one login for this host.
pub(crate) fn keyring(host: &str, user: &str, password: &str, uid: &str) -> Keyring {
    let text = json!({ "auths": { host: { "username": user, "password": password } } }).to_string();
    let mut keyring = Keyring::default();
    keyring.add("pull", uid, &[(".dockerconfigjson".to_owned(), text.into_bytes())].into());
    keyring
}

async fn asks(fake: &Fake, keyring: &Keyring) -> Result<Digest, RegistryError> {
    let (http, reference) = (fake.http(), fake.reference("team/a:1"));
    let login = keyring.logins(&reference).first().copied();
    Session::new(&http, &reference, login).manifest().await.map(|(digest, _)| digest)
}

#[tokio::test]
async fn a_login_opens_the_door_by_itself_or_for_a_token() {
    let fake = Fake::start().await;
    let digest = fake.manifest("1", &json!({ "layers": [] }));
    let (good, bad) = (keyring(&fake.host, "u", "p", "1"), keyring(&fake.host, "u", "x", "1"));
    for door in [Door::Basic("u", "p"), Door::Bearer("u", "p")] {
        fake.held.lock().door = door;
        assert_eq!(asks(&fake, &good).await.as_ref(), Ok(&digest));
        let refused = asks(&fake, &bad).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Denied(_)), "{refused}");
        let anonymous = asks(&fake, &Keyring::default()).await.unwrap_err();
        assert!(matches!(anonymous, RegistryError::Denied(_)), "{anonymous}");
    }
    let asked = fake.held.lock().asked.clone();
    let token = "token service=x%20y&scope=repository:team/a:pull";
    assert!(asked.iter().any(|one| one == token), "{asked:?}");
}

#[tokio::test]
async fn a_login_is_shown_to_nobody_without_tls_who_is_not_meant() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    fake.manifest("1", &json!({ "layers": [] }));
    let login = keyring(&fake.host, "u", "p", "1");
    {
        let mut held = fake.held.lock();
        (held.door, held.realm) =
            (Door::Bearer("u", "p"), Some(format!("http://{}/token", other.host)));
    }
    let refused = asks(&fake, &login).await.unwrap_err().to_string();
    assert!(refused.contains("has no TLS"), "{refused}");
    assert!(other.held.lock().asked.is_empty());
}

#[tokio::test]
async fn a_redirect_keeps_the_login_at_home_and_leads_to_nobody_without_tls() {
    let (fake, storage) = (Fake::start().await, Fake::start().await);
    let (digest, _) = fake.blob("layer");
    storage.blob("layer");
    // It lets in only those who show nothing.
    storage.held.lock().door = Door::Open;
    let digest = Digest::parse(&digest).unwrap();
    let to = format!("http://{}/v2/x/blobs/{digest}", storage.host);
    {
        let mut held = fake.held.lock();
        (held.door, held.trick) = (Door::Basic("u", "p"), Trick::Redirect(to));
    }
    let (keyring, reference) = (keyring(&fake.host, "u", "p", "1"), fake.reference("team/a:1"));
    let login = keyring.logins(&reference).first().copied();
    let http = fake.http();
    let refused = Session::new(&http, &reference, login).blob(&digest, 0).await.err().unwrap();
    assert!(refused.to_string().contains("without TLS"), "{refused}");

    let http = Http::new(vec![fake.host.clone(), storage.host.clone()], Vec::new());
    Session::new(&http, &reference, login).blob(&digest, 0).await.unwrap();
    // Who would have to show the login again is not let in.
    storage.held.lock().door = Door::Basic("u", "p");
    let refused = Session::new(&http, &reference, login).blob(&digest, 0).await.err().unwrap();
    assert!(matches!(refused, RegistryError::Denied(_)), "{refused}");
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says_and_no_larger_than_it_may_be() {
    let fake = Fake::start().await;
    let digest = fake.manifest("1", &json!({ "layers": [] }));
    fake.held.lock().manifests.insert(digest.to_string(), "{}".into());
    let http = fake.http();
    let ask = async |rest: &str| {
        let reference = fake.reference(rest);
        Session::new(&http, &reference, None).manifest().await.unwrap_err().to_string()
    };
    let other = ask(&format!("team/a@{digest}")).await;
    assert!(other.contains("gave another manifest"), "{other}");
    let large = vec![b' '; usize::try_from(MAX_JSON).unwrap() + 1];
    fake.held.lock().manifests.insert("2".to_owned(), large.into());
    assert!(ask("team/a:2").await.contains("cannot be read"));
    let gone = ask("team/a:3").await;
    assert!(gone.contains("team/a:3: not found"), "{gone}");
    let within = fake.manifest("4", &json!({ "manifests": [{ "digest": digest.to_string() }] }));
    let index = json!({ "manifests": [{ "digest": within.to_string() }] });
    fake.manifest("5", &index);
    assert!(ask("team/a:5").await.contains("gave another manifest"), "also within an index");
}

#[tokio::test]
async fn who_is_not_named_is_asked_with_tls_only() {
    let fake = Fake::start().await;
    fake.manifest("1", &json!({ "layers": [] }));
    let (http, reference) = (Http::new(Vec::new(), Vec::new()), fake.reference("team/a:1"));
    let refused = Session::new(&http, &reference, None).manifest().await.unwrap_err();
    assert!(matches!(refused, RegistryError::Failed(_)), "{refused}");
    assert!(fake.held.lock().asked.is_empty());
}
