//! The messages, from the `generated.proto` files of `k8s.io/api` and `k8s.io/apimachinery`.

use self::Kind::{
    Bool, BytesMap, Int, IntOrText, List, MicroTime, Of, OptionalBool, OptionalInt, Text, TextMap,
    Time,
};

/// Field number, JSON name, kind.
pub(super) type Message = &'static [(u64, &'static str, Kind)];

/// What a field holds.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// 0 means absent.
    Int,
    OptionalInt,
    /// False means absent.
    Bool,
    OptionalBool,
    Time,
    MicroTime,
    IntOrText,
    TextMap,
    BytesMap,
    Of(Message),
    List(&'static Kind),
}

/// The message of a kind.
pub(super) fn of(group: &str, kind: &str) -> Option<Message> {
    Some(match (group, kind) {
        ("", "Namespace") => NAMESPACE,
        ("", "ConfigMap") => CONFIG_MAP,
        ("", "Secret") => SECRET,
        ("", "ServiceAccount") => SERVICE_ACCOUNT,
        ("", "Service") => SERVICE,
        ("", "Event") => EVENT,
        ("events.k8s.io", "Event") => NEW_EVENT,
        ("coordination.k8s.io", "Lease") => LEASE,
        ("scheduling.k8s.io", "PriorityClass") => PRIORITY_CLASS,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => ROLE,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => ROLE_BINDING,
        // The answer does not depend on the question.
        ("authorization.k8s.io" | "authentication.k8s.io", _) => REVIEW,
        // Every group has it.
        (_, "DeleteOptions") => DELETE_OPTIONS,
        _ => return None,
    })
}

const TEXTS: Kind = List(&Text);

const METADATA: Message = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Int),
    (8, "creationTimestamp", Time),
    (9, "deletionTimestamp", Time),
    (10, "deletionGracePeriodSeconds", OptionalInt),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", List(&Of(OWNER))),
    (14, "finalizers", TEXTS),
];

const OWNER: Message = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", OptionalBool),
    (7, "blockOwnerDeletion", OptionalBool),
];

const REFERENCE: Message = &[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
];

const NAMESPACE: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "spec", Of(&[(1, "finalizers", TEXTS)])),
    (3, "status", Of(&[(1, "phase", Text)])),
];

const CONFIG_MAP: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "data", TextMap),
    (3, "binaryData", BytesMap),
    (4, "immutable", OptionalBool),
];

const SECRET: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "data", BytesMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", OptionalBool),
];

const SERVICE_ACCOUNT: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "secrets", List(&Of(REFERENCE))),
    (3, "imagePullSecrets", List(&Of(&[(1, "name", Text)]))),
    (4, "automountServiceAccountToken", OptionalBool),
];

const SERVICE: Message =
    &[(1, "metadata", Of(METADATA)), (2, "spec", Of(SERVICE_SPEC)), (3, "status", Of(&[]))];

const SERVICE_SPEC: Message = &[
    (1, "ports", List(&Of(SERVICE_PORT))),
    (2, "selector", TextMap),
    (3, "clusterIP", Text),
    (4, "type", Text),
    (5, "externalIPs", TEXTS),
    (7, "sessionAffinity", Text),
    (8, "loadBalancerIP", Text),
    (9, "loadBalancerSourceRanges", TEXTS),
    (10, "externalName", Text),
    (11, "externalTrafficPolicy", Text),
    (12, "healthCheckNodePort", Int),
    (13, "publishNotReadyAddresses", Bool),
    (17, "ipFamilyPolicy", Text),
    (18, "clusterIPs", TEXTS),
    (19, "ipFamilies", TEXTS),
];

const SERVICE_PORT: Message = &[
    (1, "name", Text),
    (2, "protocol", Text),
    (3, "port", Int),
    (4, "targetPort", IntOrText),
    (5, "nodePort", Int),
    (6, "appProtocol", Text),
];

const SOURCE: Message = &[(1, "component", Text), (2, "host", Text)];

const SERIES: Message = &[(1, "count", Int), (2, "lastObservedTime", MicroTime)];

const EVENT: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "involvedObject", Of(REFERENCE)),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", Of(SOURCE)),
    (6, "firstTimestamp", Time),
    (7, "lastTimestamp", Time),
    (8, "count", Int),
    (9, "type", Text),
    (10, "eventTime", MicroTime),
    (11, "series", Of(SERIES)),
    (12, "action", Text),
    (13, "related", Of(REFERENCE)),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
];

const NEW_EVENT: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "eventTime", MicroTime),
    (3, "series", Of(SERIES)),
    (4, "reportingController", Text),
    (5, "reportingInstance", Text),
    (6, "action", Text),
    (7, "reason", Text),
    (8, "regarding", Of(REFERENCE)),
    (9, "related", Of(REFERENCE)),
    (10, "note", Text),
    (11, "type", Text),
    (12, "deprecatedSource", Of(SOURCE)),
    (13, "deprecatedFirstTimestamp", Time),
    (14, "deprecatedLastTimestamp", Time),
    (15, "deprecatedCount", Int),
];

const LEASE: Message = &[
    (1, "metadata", Of(METADATA)),
    (
        2,
        "spec",
        Of(&[
            (1, "holderIdentity", Text),
            (2, "leaseDurationSeconds", OptionalInt),
            (3, "acquireTime", MicroTime),
            (4, "renewTime", MicroTime),
            (5, "leaseTransitions", OptionalInt),
        ]),
    ),
];

const PRIORITY_CLASS: Message = &[
    (1, "metadata", Of(METADATA)),
    (2, "value", OptionalInt),
    (3, "globalDefault", Bool),
    (4, "description", Text),
    (5, "preemptionPolicy", Text),
];

const ROLE: Message = &[(1, "metadata", Of(METADATA)), (2, "rules", List(&Of(RULE)))];

const RULE: Message = &[
    (1, "verbs", TEXTS),
    (2, "apiGroups", TEXTS),
    (3, "resources", TEXTS),
    (4, "resourceNames", TEXTS),
    (5, "nonResourceURLs", TEXTS),
];

const ROLE_BINDING: Message = &[
    (1, "metadata", Of(METADATA)),
    (
        2,
        "subjects",
        List(&Of(&[
            (1, "kind", Text),
            (2, "apiGroup", Text),
            (3, "name", Text),
            (4, "namespace", Text),
        ])),
    ),
    (3, "roleRef", Of(&[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)])),
];

const REVIEW: Message = &[(1, "metadata", Of(METADATA))];

const DELETE_OPTIONS: Message = &[
    (1, "gracePeriodSeconds", OptionalInt),
    (2, "preconditions", Of(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (3, "orphanDependents", OptionalBool),
    (4, "propagationPolicy", Text),
    (5, "dryRun", TEXTS),
];
