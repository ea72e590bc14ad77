//! What the guest is called, and the words that are one of a few.

use crate::cause::Cause;
use crate::kubevirt::VirtualMachineInstanceSpec;

/// The longest label, and the longest name of several (RFC 1123).
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 253;

/// As Kubernetes says it (`validation.IsDNS1123Label`, `IsDNS1123Subdomain`).
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const NAME: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

pub(super) fn check(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let mut found = Vec::new();
    if let Some(wrong) = said(&spec.hostname).and_then(not_a_label) {
        let field = format!("{path}.hostname");
        let text = format!("{field} does not conform to the kubernetes DNS_LABEL rules : {wrong}");
        found.push(Cause::invalid(field, text));
    }
    if let Some(wrong) = said(&spec.subdomain).and_then(not_a_name) {
        let field = format!("{path}.subdomain");
        let text =
            format!("{field} does not conform to the kubernetes DNS_SUBDOMAIN rules : {wrong}");
        found.push(Cause::invalid(field, text));
    }
    let known = ["None", "LiveMigrate", "LiveMigrateIfPossible", "External"];
    found.extend(other(&spec.eviction_strategy, &known, format!("{path}.evictionStrategy")));
    found.extend(start(spec, path));
    found
}

/// How the guest is to start.
pub(super) fn start(spec: &VirtualMachineInstanceSpec, path: &str) -> Vec<Cause> {
    let unknown = other(&spec.start_strategy, &["Paused"], format!("{path}.startStrategy"));
    let mut found: Vec<_> = unknown.into_iter().collect();
    if spec.starts_paused() && spec.liveness_probe.is_some() {
        let field = format!("{path}.startStrategy");
        let text = format!(
            "either {field} or {path}.livenessProbe should be provided.\
             Pausing VMI with LivenessProbe is not supported"
        );
        found.push(Cause::invalid(field, text));
    }
    found
}

/// That a word is none of those that are known.
fn other(value: &Option<String>, known: &[&str], field: String) -> Option<Cause> {
    let value = said(value).filter(|value| !known.contains(value))?;
    let text = format!("{field} is set with an unrecognized option: {value}");
    Some(Cause::invalid(field, text))
}

fn said(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Why this is no label of a name, if it is none.
pub(super) fn not_a_label(text: &str) -> Option<String> {
    if text.len() > LONGEST_LABEL {
        return Some(format!("must be no more than {LONGEST_LABEL} bytes"));
    }
    (!is_label(text)).then(|| LABEL.to_owned())
}

fn not_a_name(text: &str) -> Option<String> {
    if text.len() > LONGEST_NAME {
        return Some(format!("must be no more than {LONGEST_NAME} bytes"));
    }
    (!text.split('.').all(is_label)).then(|| NAME.to_owned())
}

fn is_label(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    text.bytes().all(|byte| is_alphanumeric(&byte) || byte == b'-')
        && ends.iter().all(|byte| byte.is_some_and(is_alphanumeric))
}
