//! What a path of the groups asks for. Pure.

use http::Method;
use serde_json::{Value, json};

use super::refusal::Kind;

/// The group.
pub(super) const GROUP: &str = "subresources.kubevirt.io";
/// Its versions, the preferred one first; they are alike.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v1alpha3"];

/// The group of tokens for uploads; CDI's own where that is installed.
pub(super) const UPLOADS: &str = "upload.cdi.kubevirt.io";
/// Its versions.
pub(super) const UPLOADS_VERSIONS: [&str; 1] = ["v1beta1"];
/// What is made in it.
const TOKENS: &str = "uploadtokenrequests";
/// The kind of that.
pub(super) const TOKEN_KIND: &str = "UploadTokenRequest";

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// Which groups there are.
    Groups,
    /// Which versions of the group.
    Group,
    /// What there is in one of them.
    Resources(&'static str),
    /// Which versions of the group of tokens.
    Uploads,
    /// What there is in it.
    UploadsResources,
    /// A token for a claim of this namespace.
    Token { namespace: String },
    /// The version of this program, as virtctl asks for it.
    Version,
    /// Whether it is there.
    Health,
    /// What of it OpenAPI v2 describes: kube-apiserver asks for that each minute.
    OpenApi,
    /// A machine that is sent along, with what it refers to in place of the references.
    Expanded { namespace: String },
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
    Screenshot,
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
const EXPAND: &str = "expand-vm-spec";

/// Plural, the rest of the path, what it stands for.
const VERBS: [(&str, &str, What); 22] = [
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
    (INSTANCES, "vnc/screenshot", What::Screenshot),
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
            | Self::Screenshot
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
    if group == UPLOADS {
        return of_uploads(rest);
    }
    if group != GROUP {
        return None;
    }
    let [version, rest @ ..] = rest else { return Some(Asked::Group) };
    let version = VERSIONS.into_iter().find(|known| known == version)?;
    match rest {
        [] => Some(Asked::Resources(version)),
        ["version"] => Some(Asked::Version),
        ["healthz"] => Some(Asked::Health),
        ["namespaces", namespace, EXPAND] => {
            is_name(namespace).then(|| Asked::Expanded { namespace: (*namespace).to_owned() })
        }
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

fn of_uploads(rest: &[&str]) -> Option<Asked> {
    match rest {
        [] => Some(Asked::Uploads),
        [version] if UPLOADS_VERSIONS.contains(version) => Some(Asked::UploadsResources),
        [version, "namespaces", namespace, TOKENS] if UPLOADS_VERSIONS.contains(version) => {
            is_name(namespace).then(|| Asked::Token { namespace: (*namespace).to_owned() })
        }
        _ => None,
    }
}

/// What the end of a path means, after a name of this plural.
fn what(plural: &str, verb: &[&str]) -> Option<What> {
    let written = verb.join("/");
    let known = VERBS.into_iter().find(|(of, known, _)| *of == plural && *known == written);
    if let Some((_, _, what)) = known {
        return Some(what);
    }
    let (port, protocol) = match verb {
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
pub(super) fn is_name(text: &str) -> bool {
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

/// The answer to who asks which groups there are, or which versions of one.
pub(super) fn group(name: &str, versions: &[&str]) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// Those of tokens are told of only where some are given.
pub(super) fn groups(with_uploads: bool) -> Value {
    let uploads = with_uploads.then(|| group(UPLOADS, &UPLOADS_VERSIONS));
    let all: Vec<Value> = [group(GROUP, &VERSIONS)].into_iter().chain(uploads).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

/// What there is in the group of tokens.
pub(super) fn uploads_resources() -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": format!("{UPLOADS}/{}", UPLOADS_VERSIONS[0]),
        "resources": [{"name": TOKENS, "singularName": "uploadtokenrequest", "namespaced": true,
            "kind": TOKEN_KIND, "verbs": ["create"]}],
    })
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
    let all = verbs.chain(forwards).chain([(EXPAND.to_owned(), Method::PUT)]);
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
        assert_eq!(of("virtualmachineinstances/till/vnc/screenshot"), asked(What::Screenshot));
        let forward = |of_machine, protocol: &str| {
            let (port, protocol) = ("22".to_owned(), protocol.to_owned());
            asked(What::PortForward { of_machine, port, protocol })
        };
        assert_eq!(of("virtualmachines/till/portforward/22"), forward(true, "tcp"));
        assert_eq!(of("virtualmachineinstances/till/portforward/22/udp"), forward(false, "udp"));
        assert_eq!(of("expand-vm-spec"), Some(Asked::Expanded { namespace: "shop".to_owned() }));
        assert_eq!(of("expand-vm-spec/till"), None);
        assert_eq!(parse(BASE), Some(Asked::Resources("v1")));
        assert_eq!(parse("/apis/subresources.kubevirt.io/v1alpha3/version"), Some(Asked::Version));
        assert_eq!(parse("/apis/subresources.kubevirt.io"), Some(Asked::Group));
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        for rest in [
            "virtualmachines/till/console",
            "virtualmachineinstances/till/start",
            "virtualmachineinstances/till/vnc/video",
            "virtualmachineinstances/till",
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
    fn a_token_is_made_in_a_namespace() {
        let base = "/apis/upload.cdi.kubevirt.io";
        let asked = |rest: &str| parse(&format!("{base}{rest}"));
        assert_eq!(
            (asked(""), asked("/v1beta1")),
            (Some(Asked::Uploads), Some(Asked::UploadsResources))
        );
        let token = asked("/v1beta1/namespaces/shop/uploadtokenrequests");
        assert_eq!(token, Some(Asked::Token { namespace: "shop".to_owned() }));
        for rest in [
            "/v1",
            "/v1beta1/namespaces/..%2f/uploadtokenrequests",
            "/v1beta1/namespaces/shop/uploadtokenrequests/one",
            "/v1beta1/uploadtokenrequests",
        ] {
            assert_eq!(asked(rest), None, "{rest}");
        }
        assert_eq!(groups(false)["groups"].as_array().unwrap().len(), 1);
        assert_eq!(groups(true)["groups"][1]["preferredVersion"]["version"], "v1beta1");
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
        assert_eq!(verbs("expand-vm-spec"), Some(json!(["update"])));
        assert_eq!(verbs("virtualmachineinstances/start"), None);
    }
}
