//! What a round costs: as much as happens in it, whatever else there is.

use crds::kubeovn::{Subnet, SubnetSpec};
use http::{Request, Response};
use kube::client::Body;

use super::*;
use crate::decide::tests::{committed, decided, gone, listed, put, remove, started, vm};
use crate::ledger::asked;

const SUBNETS: usize = 1_000;

/// An API that takes each block that is written.
fn takes_blocks() -> Client {
    let service = tower::service_fn(|request: Request<Body>| async move {
        let body = request.into_body().collect_bytes().await.unwrap();
        let response = Response::builder().status(200).body(Body::from(body));
        Ok::<_, std::convert::Infallible>(response.unwrap())
    });
    Client::new(service, "default")
}

/// Many subnets of one VPC, all in force, of which one is that of the namespace.
fn many_subnets() -> World {
    let subnet = |number: usize| {
        let spec = SubnetSpec {
            cidr_block: format!("10.{}.{}.0/24,fd00:{number}::/64", number / 250, number % 250),
            namespaces: (number == 500).then(|| "default".to_owned()).into_iter().collect(),
            vpc: "v".to_owned(),
            ..SubnetSpec::default()
        };
        Subnet::new(&format!("s{number}"), spec)
    };
    let mut world = listed((0..SUBNETS).map(subnet).collect());
    world.take_dirty();
    assert_eq!(world.ledger.networks().len(), SUBNETS, "{:?}", world.refused);
    world
}

#[tokio::test]
async fn who_goes_is_looked_for_in_its_own_subnet_and_in_no_other_of_a_thousand() {
    let mut rounds = bed::rounds(takes_blocks());
    rounds.world = many_subnets();
    put(&mut rounds.world, vm("web", "u1", "Always", None));
    put(&mut rounds.world, vm("db", "u2", "Always", None));
    let blocks: Api<AddressBlock> = Api::all(rounds.edge.client.clone());
    for name in ["web", "db"] {
        started(&mut rounds.world, name);
    }
    committed(&mut rounds.world);
    let held = |rounds: &Rounds| rounds.world.ledger.counts("s500").map(|(held, _)| held);
    assert_eq!(held(&rounds), [2, 2]);

    remove(&mut rounds.world, vm("web", "u1", "Always", None));
    gone(&mut rounds.world, "web");
    let asked = asked::of_which(async {
        let decisions = [decided(&mut rounds.world, "web")];
        let lost = rounds.release(&decisions, &blocks, Timestamp::now()).await;
        assert!(lost.is_empty(), "{lost:?}");
    });
    let asked = asked.await;
    let first: Vec<&str> = asked.iter().map(String::as_str).take(3).collect();
    assert_eq!((asked.len(), first), (1, vec!["s500"]));
    assert_eq!(held(&rounds), [1, 1]);
}

#[test]
fn before_everybody_was_looked_at_nothing_is_taken_for_nobodys_and_no_vip_loses_a_port() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let mut rounds = bed::rounds(takes_blocks());
    rounds.world = many_subnets();
    for number in 0..2_500 {
        put(&mut rounds.world, vm(&format!("web-{number}"), &format!("u{number}"), "Halted", None));
    }
    let mut extents = Vec::new();
    for news in [true, false, false, true] {
        let (dirty, _) = rounds.world.take_dirty();
        let count = rounds.decide_part(dirty, Timestamp::now()).len();
        extents.push((count, rounds.extent(news)));
    }
    let whole = Extent::All;
    assert_eq!(
        extents,
        [(2_000, Extent::Networks), (500, whole), (0, Extent::Guests), (0, whole)],
        "what is nobody's is known once everybody was looked at, and from then on"
    );
}
