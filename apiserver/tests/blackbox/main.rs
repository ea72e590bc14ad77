//! The server from outside: through kube-rs, through stock kubectl, and across a kill.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the result of a test")]

mod aggregate;
mod apply;
mod definitions;
mod garbage;
mod harness;
mod kubectl;
mod objects;
mod restart;
mod security;
mod watches;
