//! One image, asked for with one login.

use http::header::{ACCEPT, ACCEPT_RANGES, AUTHORIZATION, RANGE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

use super::http::{Http, header, small};
use super::login::LOGIN_WANTED;
use super::manifest::ACCEPTED;
use super::{Digest, Document, Login, MAX_JSON, Reference, RegistryError, chosen, login};

/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

/// What a registry says of an error.
const MAX_ERROR: u64 = 16 << 10;

/// What one VM may ask of the registry of one image.
#[derive(Debug)]
pub struct Session<'a> {
    http: &'a Http,
    reference: &'a Reference,
    login: Option<&'a Login>,
    authorization: Option<HeaderValue>,
}

/// The bytes of a blob, from one of them on.
#[derive(Debug)]
pub struct Blob {
    /// Which is the first: the one that was asked for, or the very first where the
    /// registry cannot begin elsewhere.
    pub from: u64,
    /// Whether the registry can go on where it was left.
    pub resumes: bool,
    pub body: Incoming,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl<'a> Session<'a> {
    #[must_use]
    pub fn new(http: &'a Http, reference: &'a Reference, login: Option<&'a Login>) -> Self {
        Self { http, reference, login, authorization: None }
    }

    /// The manifest for this node, verified as far as the reference has a digest: an index
    /// is followed down.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn manifest(&mut self) -> Result<(Digest, Vec<u8>), RegistryError> {
        let mut which = self.reference.manifest();
        let mut expected = self.reference.digest().cloned();
        for _ in 0..=MAX_DEPTH {
            let path = format!("manifests/{which}");
            let answer = self.ask(&path, ACCEPTED, None).await?;
            let json = small(answer, MAX_JSON, "the manifest").await?;
            let digest = Digest::of_bytes(&json);
            if expected.is_some_and(|expected| expected != digest) {
                let why = format!("the registry gave another manifest than {which}");
                return Err(RegistryError::Failed(why));
            }
            let odd =
                |why| RegistryError::failed(format!("the manifest {digest} is of no use: {why}"));
            let all = match Document::parse(&json).map_err(odd)? {
                Document::Manifest(_) => return Ok((digest, json.to_vec())),
                Document::Index(all) => all,
            };
            let next = chosen(&all).and_then(super::Descriptor::digest).map_err(odd)?;
            which = next.to_string();
            expected = Some(next);
        }
        Err(RegistryError::failed("its indexes lie too deep in each other"))
    }

    /// A blob from this byte on. What comes is not verified.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob(&mut self, digest: &Digest, from: u64) -> Result<Blob, RegistryError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.ask(&format!("blobs/{digest}"), "*/*", range.as_deref()).await?;
        let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
        let ranges = answer.headers().get(ACCEPT_RANGES);
        let resumes = is_part || ranges.is_some_and(|unit| unit == "bytes");
        Ok(Blob { from: if is_part { from } else { 0 }, resumes, body: answer.into_body() })
    }

    async fn ask(
        &mut self,
        path: &str,
        accept: &'static str,
        range: Option<&str>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let (base, repository) =
            (self.http.base(self.reference.api()), self.reference.repository());
        let url = format!("{base}/v2/{repository}/{path}");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(range) = range {
            headers.insert(RANGE, header(range, false)?);
        }
        let mut answer = self.send(&url, &mut headers).await?;
        // Also of a token that has run out.
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = login::challenge(answer.headers())
            && let Some(told) = login::answer(self.http, &challenge, repository, self.login).await?
        {
            self.authorization = Some(told);
            answer = self.send(&url, &mut headers).await?;
        }
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::PARTIAL_CONTENT if range.is_some() => Ok(answer),
            _ => Err(self.refusal(answer).await),
        }
    }

    async fn send(
        &self,
        url: &str,
        headers: &mut HeaderMap,
    ) -> Result<Response<Incoming>, RegistryError> {
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.http.get(url, headers).await
    }

    /// What to tell of an answer that is none.
    async fn refusal(&self, answer: Response<Incoming>) -> RegistryError {
        let status = answer.status();
        let said = said(answer).await;
        let name = self.reference;
        match status.as_u16() {
            401 | 403 if self.login.is_some() => {
                let why = format!("the registry refuses the login for {name}: {status}{said}");
                RegistryError::Denied(why)
            }
            401 | 403 => RegistryError::Denied(format!("{LOGIN_WANTED} ({name}: {status}{said})")),
            404 => RegistryError::NotFound(format!(
                "{name}: not found{said}: push it, or mend the image's name"
            )),
            _ => RegistryError::Failed(format!("the registry of {name} says {status}{said}")),
        }
    }
}

/// What the registry says of an error, if it says anything, with what stands before it.
async fn said(answer: Response<Incoming>) -> String {
    let Ok(body) = small(answer, MAX_ERROR, "an error").await else { return String::new() };
    let Ok(Errors { errors }) = serde_json::from_slice(&body) else { return String::new() };
    let Some(OneError { code, message }) = errors.into_iter().next() else {
        return String::new();
    };
    let plain: String = format!("{code} {message}").chars().filter(|c| !c.is_control()).collect();
    let plain = net::shown(plain.trim());
    if plain.is_empty() { plain } else { format!(" ({plain})") }
}
