//! Answers.

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderName, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::Value;

use super::request::Format;
use crate::status::ApiError;

/// What can go wrong with a body that comes from elsewhere.
type Broken = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

/// A body that is all there.
fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::from(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A status, headers and a body.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
}

impl Reply {
    fn new(status: StatusCode, content_type: &str, body: Body) -> Self {
        let mut reply = Self { status, headers: vec![], body };
        reply.add(CONTENT_TYPE, content_type);
        reply.add(CACHE_CONTROL, "no-cache, private");
        reply
    }

    /// A header whose value is not printable is left out.
    fn add(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }

    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", whole(text))
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::bytes(StatusCode::OK, Bytes::from(value.to_string()), Format::Json)
    }

    /// JSON under a more telling content type, as discovery wants it.
    pub(crate) fn json_as(content_type: &str, value: &Value) -> Self {
        let body = whole(value.to_string());
        Self::new(StatusCode::OK, content_type, body)
    }

    /// JSON bytes, turned into YAML if that was asked for.
    pub(crate) fn bytes(status: StatusCode, json: Bytes, format: Format) -> Self {
        let (content_type, bytes) = match format {
            Format::Json => ("application/json", json),
            Format::Yaml => {
                let value: Value = serde_json::from_slice(&json).unwrap_or_default();
                let yaml = serde_norway::to_string(&value).unwrap_or_default();
                ("application/yaml", Bytes::from(yaml))
            }
        };
        Self::new(status, content_type, whole(bytes))
    }

    pub(crate) fn refusal(error: &ApiError) -> Self {
        let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = Self { status, ..Self::json(&error.body()) };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            reply.add(RETRY_AFTER, "1");
        }
        reply
    }

    /// A body without end, sent as it comes.
    pub(crate) fn stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        let frames = events.map(|bytes| Ok::<_, Broken>(Frame::data(bytes)));
        Self::new(StatusCode::OK, "application/json", StreamBody::new(frames).boxed_unsync())
    }

    /// What somebody else has answered.
    pub(crate) fn passed_on(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let headers = head.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        let headers = headers.collect();
        let body = body.map_err(Into::into).boxed_unsync();
        Self { status: head.status, headers, body }
    }

    pub(crate) fn not_modified(etag: &str) -> Self {
        Self::new(StatusCode::NOT_MODIFIED, "application/json", whole("")).with_etag(etag)
    }

    pub(crate) fn with_etag(mut self, etag: &str) -> Self {
        self.add(ETAG, etag);
        self
    }

    /// Texts that kubectl prints and controllers log.
    pub(crate) fn with_warnings(mut self, texts: &[String]) -> Self {
        for text in texts {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            self.add(WARNING, &format!("299 - \"{quoted}\""));
        }
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
