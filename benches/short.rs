//! Each case of the benchmarks that need nothing but this process, once and small.

use crate::memory::CASES;
use crate::{Effort, Tell, pool, responder};

/// The names of the figures that come of a short run, in order.
fn figures(measure: fn(Effort, Tell<'_>)) -> Vec<String> {
    let mut names = Vec::new();
    measure(Effort::Short, &mut |figure| {
        assert!(figure.value.is_finite() && figure.value > 0.0, "{figure}");
        figure.print();
        names.push(figure.name.to_owned());
    });
    names
}

#[test]
fn every_case_of_the_pool_can_be_carried_out_and_has_its_figure() {
    let wanted = [
        "pool_alloc_dense",
        "pool_release_dense",
        "pool_op_dense",
        "pool_alloc_fragmented",
        "pool_release_fragmented",
        "pool_op_fragmented",
        "pool_alloc_v6",
        "pool_op_v6",
        "pool_op_v6_fragmented",
        "pool_alloc_static_scattered",
        "pool_alloc_scattered",
        "pool_alloc_dual",
        "pool_free_random",
        "pool_subnet_v4_24",
        "pool_subnet_v4_8",
        "pool_subnet_v6_64",
        "pool_restart_100000",
        "pool_alloc_16_threads",
    ];
    assert_eq!(figures(pool::measure), wanted);
}

#[test]
fn the_case_of_the_responder_can_be_carried_out_and_has_its_figure() {
    assert_eq!(figures(responder::measure), ["dhcp_responder"]);
}

#[test]
fn every_case_of_the_memory_can_be_carried_out_with_fewer_addresses() {
    for case in CASES {
        let mut few = *case;
        few.held = 500;
        few.measure().unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
    }
}
