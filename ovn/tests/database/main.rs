//! The crate against a real ovsdb-server with the northbound schema.

// Helpers are tests too, though the lint knows only functions marked so.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod apply;
mod cluster;
mod crash;
mod damage;
mod random;
mod refused;
mod relay;
mod releases;
mod replicate;
mod schema;
mod server;
mod tcp;
mod wants;
