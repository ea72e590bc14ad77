//! What this agent counts and measures, in one struct.

use std::time::Duration;

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::vm::State;

/// The agent's metrics; a cheap handle.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    vms: IntGaugeVec,
    starts: IntCounterVec,
    start_seconds: Histogram,
    writes: IntCounterVec,
    lists: IntCounterVec,
    restarts: IntCounter,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// A metric of the same name is there already.
    pub fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        let vms = IntGaugeVec::new(
            Opts::new("berth_agent_vms", "VMs of this node by what exists of them"),
            &["state"],
        )?;
        registry.register(Box::new(vms.clone()))?;
        let start_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "berth_agent_vm_start_seconds",
                "From first sight of a VM to its guest running",
            )
            .buckets(vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
        )?;
        registry.register(Box::new(start_seconds.clone()))?;
        let restarts = IntCounter::new(
            "berth_agent_driver_panics_total",
            "Tasks of VMs that ended by a defect and were begun anew",
        )?;
        registry.register(Box::new(restarts.clone()))?;
        Ok(Self {
            vms,
            starts: counters("berth_agent_vm_starts_total", "Attempts to start a VM", "result")?,
            start_seconds,
            writes: counters("berth_agent_api_writes_total", "Writes to VMs' objects", "result")?,
            lists: counters("berth_agent_hypervisor_lists_total", "Lists of domains", "result")?,
            restarts,
            registry,
        })
    }

    /// The registry, for others to register in.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything as Prometheus reads it.
    ///
    /// # Errors
    /// A metric that cannot be encoded.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub(crate) fn entered(&self, state: &State) {
        self.vms.with_label_values(&[state.name()]).inc();
    }

    pub(crate) fn left(&self, state: &State) {
        self.vms.with_label_values(&[state.name()]).dec();
    }

    pub(crate) fn started(&self, after: Duration) {
        self.starts.with_label_values(&["ok"]).inc();
        self.start_seconds.observe(after.as_secs_f64());
    }

    pub(crate) fn not_started(&self) {
        self.starts.with_label_values(&["failed"]).inc();
    }

    pub(crate) fn written(&self) {
        self.writes.with_label_values(&["ok"]).inc();
    }

    pub(crate) fn not_written(&self) {
        self.writes.with_label_values(&["failed"]).inc();
    }

    pub(crate) fn listed(&self, ok: bool) {
        self.lists.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    pub(crate) fn panicked(&self) {
        self.restarts.inc();
    }
}
