//! Request paths, parsed once.
//!
//! ```text
//! /api/v1/…                       the core group
//! /apis/<group>/<version>/…       every other group
//!     <plural>                                        all objects of the kind, in every namespace
//!     <plural>/<name>[/<subresource>]                 one cluster-scoped object
//!     namespaces/<ns>/<plural>[/<name>[/<subresource>]]
//! ```
//!
//! `namespaces/<ns>` alone is the namespace object itself, and `namespaces/<ns>/status` and
//! `/finalize` are its subresources: no resource may have these two plurals. Whether a resource
//! exists, and whether it is namespaced, is the registry's business.

/// A path below `/api` or `/apis`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ApiPath {
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: the groups.
    Groups,
    /// `/apis/<group>`: the versions of one group.
    Group(String),
    /// `/api/v1` or `/apis/<group>/<version>`: the resources of one version.
    Version { group: String, version: String },
    /// Objects.
    Resource(ResourcePath),
}

/// Objects, or one object, or a part of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl ApiPath {
    /// `None` when the path has another shape.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let decoded: Vec<String> = path
            .strip_prefix('/')?
            .trim_end_matches('/')
            .split('/')
            .map(percent_decoded)
            .collect::<Option<_>>()?;
        let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["apis", group] => Some(Self::Group((*group).to_owned())),
            ["api", version] => Some(Self::version("", version)),
            ["apis", group, version] => Some(Self::version(group, version)),
            ["api", version, rest @ ..] => {
                ResourcePath::parse("", version, rest).map(Self::Resource)
            }
            ["apis", group, version, rest @ ..] => {
                ResourcePath::parse(group, version, rest).map(Self::Resource)
            }
            _ => None,
        }
    }

    fn version(group: &str, version: &str) -> Self {
        Self::Version { group: group.to_owned(), version: version.to_owned() }
    }
}

impl ResourcePath {
    /// Whether it is about how many an object asks for.
    pub(crate) fn is_scale(&self) -> bool {
        self.subresource.as_deref() == Some("scale")
    }

    fn parse(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        if rest.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        let of = |plural: &str, namespace: Option<&str>, name: Option<&str>, sub: Option<&str>| {
            Some(Self {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                namespace: namespace.map(str::to_owned),
                name: name.map(str::to_owned),
                subresource: sub.map(str::to_owned),
            })
        };
        match *rest {
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                of("namespaces", None, Some(name), Some(sub))
            }
            ["namespaces", ns, plural] => of(plural, Some(ns), None, None),
            ["namespaces", ns, plural, name] => of(plural, Some(ns), Some(name), None),
            ["namespaces", ns, plural, name, sub] => of(plural, Some(ns), Some(name), Some(sub)),
            [plural] => of(plural, None, None, None),
            [plural, name] => of(plural, None, Some(name), None),
            [plural, name, sub] => of(plural, None, Some(name), Some(sub)),
            _ => None,
        }
    }
}

/// `None` for a broken escape or bytes that are not UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match ApiPath::parse(path) {
            Some(ApiPath::Resource(path)) => path,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        let object = resource("/api/v1/namespaces/blue");
        assert_eq!((object.plural.as_str(), object.name.as_deref()), ("namespaces", Some("blue")));
        let content = resource("/api/v1/namespaces/blue/pods");
        assert_eq!(content.plural, "pods");
        assert_eq!(content.namespace.as_deref(), Some("blue"));
        let part = resource("/api/v1/namespaces/blue/status");
        assert_eq!(part.plural, "namespaces");
        assert_eq!(part.subresource.as_deref(), Some("status"));
    }

    #[test]
    fn groups_and_versions_are_told_from_objects() {
        assert_eq!(ApiPath::parse("/apis"), Some(ApiPath::Groups));
        assert_eq!(ApiPath::parse("/apis/a.io"), Some(ApiPath::Group("a.io".to_owned())));
        assert_eq!(ApiPath::parse("/apis/a.io/v1/"), Some(ApiPath::version("a.io", "v1")));
        assert_eq!(resource("/apis/a.io/v1/as/x/status").subresource.as_deref(), Some("status"));
    }

    #[test]
    fn escapes_are_decoded_after_splitting() {
        assert_eq!(resource("/api/v1/nodes/a%3Ab").name.as_deref(), Some("a:b"));
        assert_eq!(resource("/api/v1/nodes/a%2Fb").name.as_deref(), Some("a/b"));
        assert_eq!(ApiPath::parse("/api/v1/nodes/%zz"), None);
        assert_eq!(ApiPath::parse("/api/v1//pods"), None);
    }
}
