//! A request, read and taken apart.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use crate::path::percent_decoded;
use crate::protobuf::{self, Unreadable};
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::Mode;
use crate::table::IncludeObject;
use crate::write::{FieldValidation, Writing};

/// The largest body that is read; etcd's limit is half of it.
const BODY_LIMIT: usize = 3 << 20;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Media types of bodies, for every kind.
const BODIES: &str = "application/json, application/yaml";

/// A request with its body.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
}

/// What the client wants objects turned into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    Object,
    /// `meta.k8s.io` of this version.
    Table(&'static str),
    /// Metadata only.
    Partial,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

impl Call {
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|error| {
            if error.downcast_ref::<http_body_util::LengthLimitError>().is_some() {
                ApiError::too_large(BODY_LIMIT)
            } else {
                ApiError::bad_request(format!("the body could not be read: {error}"))
            }
        })?;
        let query = Query::parse(parts.uri.query().unwrap_or(""))?;
        Ok(Self { method: parts.method, headers: parts.headers, query, body: body.to_bytes() })
    }

    fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The `Accept` entries: media type and parameters.
    pub(crate) fn accepts(&self) -> Vec<(&str, Vec<(&str, &str)>)> {
        let entries = self.header(ACCEPT).split(',').map(str::trim).filter(|e| !e.is_empty());
        entries
            .map(|entry| {
                let mut parts = entry.split(';').map(str::trim);
                let media = parts.next().unwrap_or("");
                (media, parts.filter_map(|part| part.split_once('=')).collect())
            })
            .collect()
    }

    /// The first form of answer the client accepts that there is.
    pub(crate) fn negotiate(&self) -> Result<(Format, Shape), ApiError> {
        let accepts = self.accepts();
        if accepts.is_empty() {
            return Ok((Format::Json, Shape::Object));
        }
        for (media, parameters) in &accepts {
            let format = match *media {
                "application/json" | "*/*" | "application/*" => Format::Json,
                "application/yaml" => Format::Yaml,
                _ => continue,
            };
            let parameter = |name| parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            let is_meta = parameter("g") == Some("meta.k8s.io");
            let shape = match (parameter("as"), parameter("v")) {
                (None, _) => Shape::Object,
                (Some("Table"), Some("v1")) if is_meta => Shape::Table("v1"),
                (Some("Table"), Some("v1beta1")) if is_meta => Shape::Table("v1beta1"),
                (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1"))
                    if is_meta =>
                {
                    Shape::Partial
                }
                _ => continue,
            };
            return Ok((format, shape));
        }
        Err(ApiError::not_acceptable())
    }

    pub(crate) fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE).split(';').next().unwrap_or("").trim()
    }

    pub(crate) fn etag(&self) -> &str {
        self.header(IF_NONE_MATCH)
    }

    /// The body as an object, from JSON or YAML.
    pub(crate) fn object(&self) -> Result<Value, ApiError> {
        let value = match self.content_type() {
            "" | "application/json" | "*/*" => json(&self.body)?,
            "application/yaml" => yaml(&self.body)?,
            PROTOBUF => protobuf::object(&self.body).map_err(|error| match error {
                Unreadable::Broken => ApiError::bad_request("the body is not protobuf"),
                Unreadable::Unknown => ApiError::unsupported_media_type(BODIES),
            })?,
            _ => return Err(ApiError::unsupported_media_type(BODIES)),
        };
        if value.is_object() {
            Ok(value)
        } else {
            Err(ApiError::bad_request("the body must be an object"))
        }
    }

    /// Whether to keep what is written.
    pub(crate) fn mode(&self) -> Result<Mode, ApiError> {
        match self.query.get("dryRun") {
            None | Some("") => Ok(Mode::Commit),
            Some("All") => Ok(Mode::DryRun),
            Some(other) => Err(ApiError::unprocessable(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    pub(crate) fn writing(&self) -> Result<Writing, ApiError> {
        let validation = match self.query.get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                return Err(ApiError::unprocessable(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \
                     \"Strict\", \"Warn\""
                )));
            }
        };
        Ok(Writing { manager: self.manager(), validation, ..Writing::default() })
    }

    /// `fieldManager`, or the start of the user agent as upstream does it.
    fn manager(&self) -> String {
        match self.query.get("fieldManager") {
            Some(manager) if !manager.is_empty() => manager.to_owned(),
            _ => {
                let agent = self.header(http::header::USER_AGENT);
                agent.split('/').next().filter(|s| !s.is_empty()).unwrap_or("unknown").to_owned()
            }
        }
    }

    pub(crate) fn selector(&self) -> Result<Selector, ApiError> {
        let text = |name| self.query.get(name).unwrap_or("");
        Selector::parse(text("labelSelector"), text("fieldSelector"))
    }

    pub(crate) fn include_object(&self) -> IncludeObject {
        match self.query.get("includeObject") {
            Some("None") => IncludeObject::Nothing,
            Some("Object") => IncludeObject::Object,
            _ => IncludeObject::Metadata,
        }
    }
}

pub(crate) fn json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

pub(crate) fn yaml(body: &[u8]) -> Result<Value, ApiError> {
    serde_norway::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))
}

/// The parameters after the question mark.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let decode = |text: &str| {
            percent_decoded(&text.replace('+', " "))
                .ok_or_else(|| ApiError::bad_request("the query is not valid"))
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, ApiError>>()?))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// `true`, `1`, or the bare name.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "" | "true" | "1" | "True"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("{name}: Invalid value: {text:?}"))),
        }
    }
}
