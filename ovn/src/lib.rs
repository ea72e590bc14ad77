//! The OVN northbound database as Rust. Knows OVSDB and the northbound schema;
//! nothing of Kubernetes, nothing of addresses.
//!
//! ```text
//!  desired (nb::Desired) ─┐
//!                         ├─ plan::between ─▶ Transaction ─▶ Client::transact
//!  observed (Replica)  ───┘                                        │
//!        ▲                                                         ▼
//!        └──────────── update3 ───────── ovsdb-server ◀────────────┘
//! ```
//!
//! - [`ovsdb`] keeps a session with a server, or with the leader of a cluster, and a
//!   replica of the tables asked for. It serves any OVSDB database: the agent uses it
//!   with the node's `Open_vSwitch`.
//! - [`nb`] has one type for each table of the northbound database that we use: rows as
//!   observed, rows as desired.
//! - [`plan`] is the difference of the two. It is pure.
//!
//! # Promises
//!
//! - **What is acknowledged is visible.** When [`Client::transact`] returns `Ok`, the
//!   replica contains the effect. With [`Transaction::durable`] it is also on disk.
//! - **All or nothing, on what was seen.** A plan's guards fail rather than let it act on
//!   rows that changed in between; that is [`TransactError::Conflict`], and a new plan
//!   from the replica, which is fresh by then, is the cure.
//! - **A lost answer is not repeated.** Nothing is sent twice by itself. Where the outcome
//!   is unknown, [`Client::synced`] waits until the replica has been compared with the
//!   server after it.
//! - **A lost connection is not a lost replica.** While there is no server the replica
//!   says what was last known. A new connection costs the difference where the server
//!   keeps a history, and everything where it does not; readers see the state before or
//!   after, never an empty one between.
//! - **Applied again it does nothing**, and nothing that still exists is ever deleted and
//!   made again.
//! - **What is not ours stays.** Rows without our marker are not deleted; in maps only our
//!   keys are touched.
//!
//! [`Client::synced`]: ovsdb::Client::synced
//! [`Client::transact`]: ovsdb::Client::transact
//! [`Transaction::durable`]: ovsdb::Transaction::durable
//! [`TransactError::Conflict`]: ovsdb::TransactError::Conflict

pub mod apart;
pub mod nb;
pub mod ovsdb;
pub mod plan;
