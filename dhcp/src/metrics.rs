//! What the server counts. No label ever names a guest.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use crate::answer::{Ignored, Kind};

/// The server's counters, registered once.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    messages: IntCounterVec,
    ignored: IntCounterVec,
    pub(crate) declines: IntCounter,
    pub(crate) rate_limited: IntCounter,
    pub(crate) send_failures: IntCounter,
    left_out: IntCounter,
    pub(crate) answer_seconds: Histogram,
    ports: IntGaugeVec,
}

/// A microsecond to ten milliseconds: an answer is a computation and a write.
const ANSWER_BUCKETS: [f64; 8] = [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 5e-4, 1e-3, 1e-2];

impl Metrics {
    /// Creates and registers them, every label value at zero.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            messages: IntCounterVec::new(
                Opts::new("berth_dhcp_messages_total", "Messages sent to guests, by type."),
                &["type"],
            )?,
            ignored: IntCounterVec::new(
                Opts::new("berth_dhcp_ignored_total", "Frames not answered, by reason."),
                &["reason"],
            )?,
            declines: IntCounter::new(
                "berth_dhcp_declines_total",
                "Addresses that guests found in use elsewhere.",
            )?,
            rate_limited: IntCounter::new(
                "berth_dhcp_rate_limited_total",
                "Frames read and dropped because their port sent too many.",
            )?,
            send_failures: IntCounter::new(
                "berth_dhcp_send_failures_total",
                "Answers that the interface did not take.",
            )?,
            left_out: IntCounter::new(
                "berth_dhcp_options_left_out_total",
                "Options that found no room in the message that was to have them.",
            )?,
            answer_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "berth_dhcp_answer_seconds",
                    "Time from reading a frame to having written its answer.",
                )
                .buckets(ANSWER_BUCKETS.to_vec()),
            )?,
            ports: IntGaugeVec::new(
                Opts::new("berth_dhcp_ports", "Ports by whether their interface is there."),
                &["state"],
            )?,
        };
        registry.register(Box::new(metrics.messages.clone()))?;
        registry.register(Box::new(metrics.ignored.clone()))?;
        registry.register(Box::new(metrics.declines.clone()))?;
        registry.register(Box::new(metrics.rate_limited.clone()))?;
        registry.register(Box::new(metrics.send_failures.clone()))?;
        registry.register(Box::new(metrics.left_out.clone()))?;
        registry.register(Box::new(metrics.answer_seconds.clone()))?;
        registry.register(Box::new(metrics.ports.clone()))?;
        for kind in Kind::ALL {
            metrics.messages.with_label_values(&[kind.label()]);
        }
        for reason in Ignored::ALL {
            metrics.ignored.with_label_values(&[reason.label()]);
        }
        Ok(metrics)
    }

    pub(crate) fn sent(&self, kind: Kind, left_out: usize) {
        self.messages.with_label_values(&[kind.label()]).inc();
        self.left_out.inc_by(u64::try_from(left_out).unwrap_or(u64::MAX));
    }

    pub(crate) fn ignored(&self, reason: Ignored) {
        self.ignored.with_label_values(&[reason.label()]).inc();
    }

    pub(crate) fn set_ports(&self, open: usize, waiting: usize) {
        for (state, count) in [("open", open), ("waiting", waiting)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.ports.with_label_values(&[state]).set(count);
        }
    }
}
