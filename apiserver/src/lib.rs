//! The part of the Kubernetes API that one host needs, stored in sled. Knows no kind of ours.
//!
//! `kubectl` and controllers written for Kubernetes work against it unchanged: only the endpoint
//! differs. It is meant for one machine, for edge hosts and for tests; beyond that there is
//! Kubernetes.
//!
//! ```text
//!            http ── TLS, token, paths, answers
//!   discovery  openapi │ read   watch      write (HTTP)
//!              table   │   \     │            │
//!              selector│    \    │       patch, apply ── fields, managed
//!                      │     \   │            │
//!                      │      \  │       write ── the rules ── schema, registry
//!                      │       ▼ ▼            ▼
//!                      └──── store ── index, log, one writer ── sled
//!                               ▲
//!                            garbage ── owners, namespaces, definitions
//!                            binder ── claims and their volumes
//! ```
//!
//! # What is promised
//!
//! - **Durable before answered.** A write has been synced to disk when it is answered and when
//!   watchers see it. Writes that wait at the same time share one sync.
//! - **One order.** A single counter numbers all changes. A list is exact at the version it names,
//!   and a watch from there continues it without gap or repetition.
//! - **Writes are decided on the current object.** A resource version, a uid or a field owner in the
//!   request is compared when the write is made, so of two that disagree one gets 409.
//! - **History.** Watches may start up to 10,000 changes ago, and from the latest version after a
//!   restart. Older ones are told 410 inside the stream and list again.
//! - **A definition is served when its write is answered.**
//!
//! # What is spoken
//!
//! - JSON, YAML bodies, the protobuf bodies of common built-in kinds (answers are JSON), Tables,
//!   `PartialObjectMetadata`; HTTP/1.1 and HTTP/2.
//! - get, list, watch (bookmarks, `sendInitialEvents`, `timeoutSeconds`), create, update, delete,
//!   deletecollection, JSON patch, merge patch, strategic merge patch, server-side apply, `dryRun`.
//! - Label selectors in every form; field selectors over any path.
//! - Claims are bound to persistent volumes that are there (see `binder`).
//! - Finalizers, owner references (background, foreground, orphan), namespaces with their content,
//!   status and scale subresources, generations, `generateName`.
//! - CustomResourceDefinitions: structural schemas with pruning, defaults and validation, field
//!   validation (strict, warn, ignore), several versions with strategy `None`, printer columns,
//!   categories and short names.
//! - Discovery plain and aggregated, OpenAPI v3, access reviews.
//! - Groups that other programs serve: APIService, with WebSockets (see `aggregate`).
//!
//! # What is left out
//!
//! - Roles are stored and not enforced: there is one token, which may do everything. Admission and
//!   conversion webhooks are not called; a program that runs the server may look at what is
//!   written itself ([`Admission`]).
//! - Rules in CEL (`x-kubernetes-validations`) are not run. A definition that has some says so in
//!   its condition `NonEnforcedRules`, and whoever writes it gets a warning.
//! - Built-in kinds have no schema: unknown fields are kept, and few values are checked. Services
//!   get no cluster IP, pods are not run, and deleting one does not wait for a kubelet.
//! - Lists are always complete (`limit` is ignored, no `continue` is given) and always of the latest
//!   version.
//! - Field owners are recorded from the first apply to an object on (see `managed`).
//! - Defaults reach a stored object with its next write, not when it is read.
//! - No `/exec`, `/log`, `/proxy`, no OpenAPI v2. `/scale` is of defined kinds alone. Groups of an APIService are passed
//!   on, and named in the plain form of discovery; their status is not kept.
//!
//! # Files
//!
//! `<data-dir>/store` is sled's, `ca.crt` and `ca.key` the authority, `token` the bearer token,
//! `kubeconfig` all a client needs. Everything secret has mode 0600, in a directory of mode 0700.

mod admission;
mod aggregate;
mod apply;
mod args;
mod binder;
mod credentials;
mod discovery;
mod event;
mod fields;
mod garbage;
mod http;
mod managed;
mod object;
mod openapi;
mod patch;
mod path;
mod protobuf;
mod registry;
mod run;
mod scale;
mod schema;
mod selector;
mod status;
mod store;
mod table;
mod tls;
mod watch;
mod write;

pub use admission::{Admission, AdmitAll, Proposal, Refused};
pub use args::Args;
pub use run::{run, run_with};
pub use status::Cause;
