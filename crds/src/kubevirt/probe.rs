//! Probes of a guest, as Kubernetes has them of a container, and KubeVirt's two of its agent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Opaque, Rest, exact};

/// How it is found out whether a guest is well, and how often. Exactly one of the first four.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// A command in the guest, run by its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Its agent is to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_agent_ping: Option<Opaque>,
    /// A web page is to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// A port is to be open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Seconds after the start; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay_seconds: Option<i32>,
    /// Seconds that an answer may take; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Seconds from one to the next; 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<i32>,
    /// So often in a row it is to succeed; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<i32>,
    /// So often in a row it may fail; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecAction {
    /// The program and its arguments, without a shell.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A web page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGetAction {
    /// Its path; `/` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The port.
    pub port: IntOrString,
    /// `HTTP` or `HTTPS`, whose certificate is not looked at; `HTTP` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Headers that are sent.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: String,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpSocketAction {
    /// Its number.
    pub port: IntOrString,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Probe {
    /// What of it cannot be, in upstream's words where it has some. `field` is its path.
    #[must_use]
    pub fn flaw(&self, field: &str) -> Option<String> {
        let kinds = [
            self.exec.is_some(),
            self.guest_agent_ping.is_some(),
            self.http_get.is_some(),
            self.tcp_socket.is_some(),
        ];
        if kinds.into_iter().filter(|set| *set).count() != 1 {
            return Some(format!("{field} must have exactly one probe type set"));
        }
        if self.exec.as_ref().is_some_and(|exec| exec.command.is_empty()) {
            return Some(format!("{field}.exec.command is empty: name a program in the guest"));
        }
        let http = self.http_get.as_ref();
        let ports = [
            ("httpGet", http.map(|http| &http.port)),
            ("tcpSocket", self.tcp_socket.as_ref().map(|tcp| &tcp.port)),
        ];
        for (kind, given) in ports.into_iter().filter_map(|(kind, given)| Some((kind, given?))) {
            if port(given).is_none() {
                return Some(format!("{field}.{kind}.port must be a number from 1 to 65535"));
            }
        }
        let scheme = http.and_then(|http| http.scheme.as_deref()).unwrap_or("HTTP");
        if !matches!(scheme, "" | "HTTP" | "HTTPS") {
            return Some(format!("{field}.httpGet.scheme must be HTTP or HTTPS"));
        }
        let path = http.and_then(|http| http.path.as_deref()).unwrap_or_default();
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(format!(
                "{field}.httpGet.path must be without blanks: write %20 and the like"
            ));
        }
        let numbers = [
            ("initialDelaySeconds", self.initial_delay_seconds),
            ("timeoutSeconds", self.timeout_seconds),
            ("periodSeconds", self.period_seconds),
            ("successThreshold", self.success_threshold),
            ("failureThreshold", self.failure_threshold),
        ];
        let negative = numbers.into_iter().find(|(_, number)| number.is_some_and(|one| one < 0));
        negative.map(|(name, _)| format!("{field}.{name} must be greater than or equal to 0"))
    }
}

/// The number of a port.
#[must_use]
pub fn port(given: &IntOrString) -> Option<u16> {
    let number = match given {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(text) => text.parse().ok(),
    };
    number.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn flaw(probe: Value) -> Option<String> {
        serde_json::from_value::<Probe>(probe).unwrap().flaw("spec.livenessProbe")
    }

    #[test]
    fn a_probe_is_of_one_kind() {
        for good in [
            json!({ "guestAgentPing": {} }),
            json!({ "exec": { "command": ["true"] } }),
            json!({ "httpGet": { "port": 80 }, "periodSeconds": 5 }),
            json!({ "tcpSocket": { "port": "22" } }),
        ] {
            assert_eq!(flaw(good), None);
        }
        let rule = Some("spec.livenessProbe must have exactly one probe type set".to_owned());
        assert_eq!(flaw(json!({})), rule);
        assert_eq!(flaw(json!({ "guestAgentPing": {}, "tcpSocket": { "port": 22 } })), rule);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (probe, named) in [
            (json!({ "exec": {} }), "exec.command"),
            (json!({ "httpGet": { "port": "web" } }), "httpGet.port"),
            (json!({ "httpGet": { "port": 80, "scheme": "ftp" } }), "httpGet.scheme"),
            (json!({ "httpGet": { "port": 80, "path": "/a b" } }), "httpGet.path"),
            (json!({ "tcpSocket": { "port": 0 } }), "tcpSocket.port"),
            (json!({ "guestAgentPing": {}, "periodSeconds": -1 }), "periodSeconds"),
        ] {
            let said = flaw(probe).unwrap();
            assert!(said.starts_with(&format!("spec.livenessProbe.{named}")), "{said}");
        }
    }
}
