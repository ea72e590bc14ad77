//! What a path of the group asks for. Pure.

use http::Method;
use serde_json::{Value, json};

use super::refusal::Kind;

/// The group.
pub(super) const GROUP: &str = "subresources.kubevirt.io";
/// Its versions, the preferred one first; they are alike.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v1alpha3"];

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// Which groups there are.
    Groups,
    /// Which versions of the group.
    Group,
    /// What there is in one of them.
    Resources(&'static str),
    /// The version of this program, as virtctl asks for it.
    Version,
    /// Whether it is there.
    Health,
    /// What of it OpenAPI v2 describes: kube-apiserver asks for that each minute.
    OpenApi,
    /// Something of one machine or instance.
    Of { namespace: String, name: String, what: What },
}

/// A verb, and what it needs to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum What {
    Start,
    Stop,
    Restart,
    Migrate,
    ExpandSpec,
    Pause,
    Unpause,
    SoftReboot,
    Reset,
    Console,
    Vnc,
    GuestOsInfo,
    UserList,
    FilesystemList,
    ConsoleLog,
    Freeze,
    Unfreeze,
    /// Of a machine or an instance; port and protocol as they are written.
    PortForward {
        of_machine: bool,
        port: String,
        protocol: String,
    },
    /// Of a machine, for good; or of an instance, for as long as it is there.
    AddVolume(Kind),
    RemoveVolume(Kind),
}

const MACHINES: &str = "virtualmachines";
const INSTANCES: &str = "virtualmachineinstances";
const FORWARD: &str = "portforward";

/// Plural, the rest of the path, what it stands for.
const VERBS: [(&str, &str, What); 21] = [
    (MACHINES, "start", What::Start),
    (MACHINES, "stop", What::Stop),
    (MACHINES, "restart", What::Restart),
    (MACHINES, "migrate", What::Migrate),
    (MACHINES, "expand-spec", What::ExpandSpec),
    (MACHINES, "addvolume", What::AddVolume(Kind::Machine)),
    (MACHINES, "removevolume", What::RemoveVolume(Kind::Machine)),
    (INSTANCES, "addvolume", What::AddVolume(Kind::Instance)),
    (INSTANCES, "removevolume", What::RemoveVolume(Kind::Instance)),
    (INSTANCES, "pause", What::Pause),
    (INSTANCES, "unpause", What::Unpause),
    (INSTANCES, "softreboot", What::SoftReboot),
    (INSTANCES, "reset", What::Reset),
    (INSTANCES, "console", What::Console),
    (INSTANCES, "vnc", What::Vnc),
    (INSTANCES, "guestosinfo", What::GuestOsInfo),
    (INSTANCES, "userlist", What::UserList),
    (INSTANCES, "filesystemlist", What::FilesystemList),
    (INSTANCES, "consolelog", What::ConsoleLog),
    (INSTANCES, "freeze", What::Freeze),
    (INSTANCES, "unfreeze", What::Unfreeze),
];

impl What {
    /// The method by which it is asked for.
    pub(super) const fn method(&self) -> Method {
        match self {
            Self::ExpandSpec
            | Self::Console
            | Self::Vnc
            | Self::GuestOsInfo
            | Self::UserList
            | Self::FilesystemList
            | Self::ConsoleLog
            | Self::PortForward { .. } => Method::GET,
            _ => Method::PUT,
        }
    }
}

/// What this path asks for, if anything that is served.
pub(super) fn parse(path: &str) -> Option<Asked> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match segments.as_slice() {
        ["apis"] => return Some(Asked::Groups),
        ["healthz" | "readyz" | "livez"] => return Some(Asked::Health),
        ["openapi", "v2"] => return Some(Asked::OpenApi),
        ["apis", group, rest @ ..] => (*group, rest),
        _ => return None,
    };
    if group != GROUP {
        return None;
    }
    let [version, rest @ ..] = rest else { return Some(Asked::Group) };
    let version = VERSIONS.into_iter().find(|known| known == version)?;
    match rest {
        [] => Some(Asked::Resources(version)),
        ["version"] => Some(Asked::Version),
        ["healthz"] => Some(Asked::Health),
        ["namespaces", namespace, plural, name, verb @ ..] => {
            let what = what(plural, verb)?;
            // They become part of other paths.
            let fit = is_name(namespace) && is_name(name);
            fit.then(|| Asked::Of {
                namespace: (*namespace).to_owned(),
                name: (*name).to_owned(),
                what,
            })
        }
        _ => None,
    }
}

/// What the end of a path means, after a name of this plural.
fn what(plural: &str, verb: &[&str]) -> Option<What> {
    let (port, protocol) = match verb {
        [verb] => {
            let known = VERBS.into_iter().find(|(of, known, _)| *of == plural && known == verb);
            return known.map(|(_, _, what)| what);
        }
        [FORWARD, port] => (port, "tcp"),
        [FORWARD, port, protocol] => (port, *protocol),
        _ => return None,
    };
    let of_machine = plural == MACHINES;
    (of_machine || plural == INSTANCES).then(|| What::PortForward {
        of_machine,
        port: (*port).to_owned(),
        protocol: protocol.to_owned(),
    })
}

/// Whether Kubernetes has objects of such a name.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| inner(byte) || matches!(byte, b'-' | b'.'))
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

/// No types go with these paths.
pub(super) fn open_api() -> Value {
    let info = json!({"title": GROUP, "version": VERSIONS[0]});
    json!({"swagger": "2.0", "info": info, "paths": {}})
}

/// The answer to who asks which groups there are, or which versions of the one.
pub(super) fn group() -> Value {
    let version =
        |version: &str| json!({"groupVersion": format!("{GROUP}/{version}"), "version": version});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP,
        "versions": VERSIONS.map(version), "preferredVersion": version(VERSIONS[0]),
    })
}

pub(super) fn groups() -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]})
}

/// What there is in one version.
pub(super) fn resources(version: &str) -> Value {
    let resource = |name: String, method: &Method| {
        let verb = if method == Method::GET { "get" } else { "update" };
        json!({"name": name, "singularName": "", "namespaced": true, "kind": "", "verbs": [verb]})
    };
    let verbs =
        VERBS.iter().map(|(plural, verb, what)| (format!("{plural}/{verb}"), what.method()));
    let forwards = [MACHINES, INSTANCES].map(|plural| (format!("{plural}/{FORWARD}"), Method::GET));
    let all = verbs.chain(forwards);
    let resources: Vec<Value> = all.map(|(name, method)| resource(name, &method)).collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{version}"), "resources": resources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/subresources.kubevirt.io/v1";

    fn of(rest: &str) -> Option<Asked> {
        parse(&format!("{BASE}/namespaces/shop/{rest}"))
    }

    #[test]
    fn a_path_is_what_kubevirts_is() {
        let asked =
            |what| Some(Asked::Of { namespace: "shop".to_owned(), name: "till".to_owned(), what });
        assert_eq!(of("virtualmachines/till/start"), asked(What::Start));
        assert_eq!(of("virtualmachineinstances/till/console"), asked(What::Console));
        let forward = |of_machine, protocol: &str| {
            let (port, protocol) = ("22".to_owned(), protocol.to_owned());
            asked(What::PortForward { of_machine, port, protocol })
        };
        assert_eq!(of("virtualmachines/till/portforward/22"), forward(true, "tcp"));
        assert_eq!(of("virtualmachineinstances/till/portforward/22/udp"), forward(false, "udp"));
        assert_eq!(parse(BASE), Some(Asked::Resources("v1")));
        assert_eq!(parse("/apis/subresources.kubevirt.io/v1alpha3/version"), Some(Asked::Version));
        assert_eq!(parse("/apis/subresources.kubevirt.io"), Some(Asked::Group));
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        for rest in [
            "virtualmachines/till/console",
            "virtualmachineinstances/till/start",
            "virtualmachines/till/portforward",
            "pods/till/portforward/22",
            "virtualmachines/till/portforward/22/tcp/now",
            "virtualmachines/till/start/now",
            "pods/till/start",
        ] {
            assert_eq!(of(rest), None, "{rest}");
        }
        assert_eq!(parse("/apis/kubevirt.io/v1"), None);
        assert_eq!(parse("/apis/subresources.kubevirt.io/v2"), None);
    }

    #[test]
    fn no_name_leads_to_another_path() {
        for name in ["..", "%2e%2e", "a%2Fb", "a?b", "Till", "-till", "till.", ""] {
            assert_eq!(of(&format!("virtualmachines/{name}/start")), None, "{name:?}");
        }
    }

    #[test]
    fn discovery_names_each_verb_with_what_a_role_must_allow() {
        let list = resources("v1")["resources"].as_array().unwrap().clone();
        let verbs = |name: &str| {
            let one = list.iter().find(|one| one["name"] == name);
            one.map(|one| one["verbs"].clone())
        };
        assert_eq!(verbs("virtualmachines/start"), Some(json!(["update"])));
        assert_eq!(verbs("virtualmachineinstances/console"), Some(json!(["get"])));
        assert_eq!(verbs("virtualmachineinstances/start"), None);
    }
}
