//! What Prometheus is told.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, TextEncoder};

/// The controller's own figures, registered together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Writes to the Kubernetes API, besides those of the ledger.
    pub api_writes: IntCounter,
    /// Transactions committed to the northbound database.
    pub ovn_transactions: IntCounter,
    round_seconds: Histogram,
    decisions: IntCounter,
}

impl Metrics {
    /// Figures at zero, in a registry of their own.
    ///
    /// # Errors
    /// When two figures share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            api_writes: IntCounter::new(
                "berth_controller_api_writes_total",
                "Writes to the Kubernetes API, besides those of the address ledger",
            )?,
            ovn_transactions: IntCounter::new(
                "berth_controller_ovn_transactions_total",
                "Transactions committed to the OVN northbound database",
            )?,
            round_seconds: Histogram::with_opts(HistogramOpts::new(
                "berth_controller_round_seconds",
                "Time from the start of a reconcile round to its last write",
            ))?,
            decisions: IntCounter::new(
                "berth_controller_decisions_total",
                "Decisions made about the place of a VM",
            )?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.api_writes.clone()))?;
        registry.register(Box::new(metrics.ovn_transactions.clone()))?;
        registry.register(Box::new(metrics.round_seconds.clone()))?;
        registry.register(Box::new(metrics.decisions.clone()))?;
        Ok(metrics)
    }

    /// The figures in Prometheus's text form.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    pub(crate) fn round_started(&self) -> RoundTimer {
        RoundTimer { metrics: self.clone(), started: Instant::now() }
    }
}

pub(crate) struct RoundTimer {
    metrics: Metrics,
    started: Instant,
}

impl RoundTimer {
    pub(crate) fn finished(self, decisions: usize) {
        self.metrics.round_seconds.observe(self.started.elapsed().as_secs_f64());
        self.metrics.decisions.inc_by(decisions.try_into().unwrap_or(u64::MAX));
    }
}
