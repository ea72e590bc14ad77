//! How guests are moved, as the controller's flags say. How many at once is decided here;
//! the rest is for the source's agent, and stands on the instance that moves.

use crds::kubevirt::{MigrationConfiguration, Quantity};

/// Flags that say how guests are moved. The defaults are KubeVirt's
/// (`spec.configuration.migrations`).
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Terms {
    /// How many guests move at once in the cluster.
    #[arg(long = "migrations-per-cluster", value_name = "COUNT", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub in_cluster: u32,

    /// How many of them leave one node.
    #[arg(long = "migrations-per-node", value_name = "COUNT", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub from_node: u32,

    /// Bytes a second that each may send, such as 64Mi; as many as there is room for, without it.
    #[arg(long = "migration-bandwidth", value_name = "QUANTITY", value_parser = bandwidth)]
    pub bandwidth: Option<Quantity>,

    /// Seconds that a move may take for each GiB of memory and disks.
    #[arg(long = "migration-seconds-per-gib", value_name = "SECONDS", default_value_t = 150,
          value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub per_gib: i64,

    /// Seconds that a move may go on without progress.
    #[arg(long = "migration-progress-seconds", value_name = "SECONDS", default_value_t = 150,
          value_parser = clap::value_parser!(i64).range(1..=86_400))]
    pub progress: i64,

    /// Slow a guest down that writes memory faster than it can be sent, until it can be.
    #[arg(long = "migration-auto-converge")]
    pub auto_converge: bool,

    /// Let a guest that takes longer than it may go on at its target at once, and send what it
    /// lacks there afterwards. Should that break, the guest is lost.
    #[arg(long = "migration-post-copy")]
    pub post_copy: bool,

    /// Let a guest that takes longer than it may stand still until all was sent.
    #[arg(long = "migration-workload-disruption")]
    pub disruption: bool,
}

impl Default for Terms {
    fn default() -> Self {
        let (in_cluster, from_node, per_gib, progress) = (5, 2, 150, 150);
        Self {
            in_cluster,
            from_node,
            bandwidth: None,
            per_gib,
            progress,
            auto_converge: false,
            post_copy: false,
            disruption: false,
        }
    }
}

/// A quantity of at least one MiB a second: libvirt counts in these.
fn bandwidth(text: &str) -> Result<Quantity, String> {
    let quantity: Quantity = text.parse().map_err(|error| format!("{error}"))?;
    match quantity.units() {
        Ok(bytes) if bytes >= 1 << 20 => Ok(quantity),
        Ok(_) => Err("it is less than 1Mi: write 1Mi or more, or leave the flag out".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Terms {
    /// What an instance that moves says of them.
    #[must_use]
    pub fn configuration(&self) -> MigrationConfiguration {
        MigrationConfiguration {
            parallel_migrations_per_cluster: Some(self.in_cluster),
            parallel_outbound_migrations_per_node: Some(self.from_node),
            bandwidth_per_migration: self.bandwidth.clone(),
            completion_timeout_per_gib: Some(self.per_gib),
            progress_timeout: Some(self.progress),
            allow_auto_converge: Some(self.auto_converge),
            allow_post_copy: Some(self.post_copy),
            allow_workload_disruption: Some(self.disruption || self.post_copy),
            ..MigrationConfiguration::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Flags {
        #[command(flatten)]
        terms: Terms,
    }

    #[test]
    fn without_flags_guests_are_moved_as_kubevirt_moves_them() {
        assert_eq!(Flags::parse_from(["controller"]).terms, Terms::default());
    }

    #[test]
    fn less_than_libvirt_can_count_is_no_bandwidth() {
        let of = |text: &str| Flags::try_parse_from(["controller", "--migration-bandwidth", text]);
        assert_eq!(of("64Mi").unwrap().terms.bandwidth.unwrap().units(), Ok(64 << 20));
        assert!(of("1000").unwrap_err().to_string().contains("write 1Mi or more"));
        assert!(of("fast").unwrap_err().to_string().contains("is not a quantity"));
    }
}
