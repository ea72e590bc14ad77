//! One command for a person: the whole system on one host, and a look inside.
//!
//! [`lab`] is the world of namespaces and processes, [`console`] talks to
//! guests over their serial ports, [`manifests`] is what gets applied. [`up`]
//! puts them together; the end-to-end tests use them directly. [`cli`] is the
//! command line, with the other crates' programs as subcommands.

mod admission;
pub mod cli;
pub mod console;
pub mod dhcp;
pub mod lab;
pub mod logs;
pub mod manifests;
pub mod up;
