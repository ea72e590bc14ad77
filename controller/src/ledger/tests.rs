//! The ledger against a store that does what the API promises: a write with a
//! version that is no longer current fails.

use std::sync::{Arc, Mutex};

use crds::kubeovn::{Subnet, SubnetSpec};
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;

use super::*;

/// Blocks by name, each with a version; the part of an API server that counts
/// here.
#[derive(Clone, Debug, Default)]
struct Store {
    blocks: Arc<Mutex<BTreeMap<String, AddressBlock>>>,
    version: Arc<Mutex<u64>>,
}

impl Store {
    fn api(&self) -> Api<AddressBlock> {
        let store = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let store = store.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, value) = store.answer(&parts, &body);
                let body = Body::from(serde_json::to_vec(&value).unwrap());
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(code).body(body).unwrap(),
                )
            }
        });
        Api::all(Client::new(service, "default"))
    }

    fn answer(
        &self,
        request: &http::request::Parts,
        body: &[u8],
    ) -> (StatusCode, serde_json::Value) {
        let refuse = |code: StatusCode, reason: &str| {
            let status = serde_json::json!({
                "kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": reason,
            });
            (code, status)
        };
        let name = request.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let mut blocks = self.blocks.lock().unwrap();
        if request.method == http::Method::GET {
            return match blocks.get(&name) {
                Some(block) => (StatusCode::OK, serde_json::to_value(block).unwrap()),
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let mut block: AddressBlock = serde_json::from_slice(body).unwrap();
        let current = blocks.get(&block.name_any());
        let creating = request.method == http::Method::POST;
        if creating && current.is_some() {
            return refuse(StatusCode::CONFLICT, "AlreadyExists");
        }
        if !creating && current.and_then(|held| held.resource_version()) != block.resource_version()
        {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        let mut version = self.version.lock().unwrap();
        *version += 1;
        block.metadata.resource_version = Some(version.to_string());
        blocks.insert(block.name_any(), block.clone());
        (StatusCode::OK, serde_json::to_value(block).unwrap())
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(60);
        let spec =
            SubnetSpec { cidr_block: "10.0.0.0/29,fd00::/64".to_owned(), ..SubnetSpec::default() };
        ledger.set_network(Network::parse(&Subnet::new("s", spec)).unwrap());
        for block in self.blocks.lock().unwrap().values() {
            ledger.observe(block.clone());
        }
        ledger.settle();
        ledger
    }

    fn holders(&self) -> BTreeMap<IpAddr, String> {
        let blocks = self.blocks.lock().unwrap();
        let held = blocks.values().flat_map(|block| block.spec.held.clone());
        held.map(|(address, holder)| (address, holder.port)).collect()
    }
}

fn claimant(name: &str, uid: &str) -> Claimant {
    let vm = VmKey { namespace: "default".to_owned(), name: name.to_owned() };
    Claimant { port: format!("{name}.default"), vm, uid: uid.to_owned() }
}

#[tokio::test]
async fn a_claim_counts_once_it_is_written_and_survives_a_restart() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let web = claimant("web", "u1");
    let given = ledger.claim("s", &web, &[], 100).unwrap();
    assert!(store.holders().is_empty());
    assert!(ledger.commit(&store.api()).await.is_empty());
    assert_eq!(store.holders().len(), 2);
    let mut restarted = store.ledger();
    assert_eq!(restarted.addresses("s", &web), given);
    assert_eq!(restarted.claim("s", &web, &[], 200).unwrap(), given);
    let other = restarted.claim("s", &claimant("db", "u2"), &[], 200).unwrap();
    assert!(other.iter().all(|address| !given.contains(address)));
}

#[tokio::test]
async fn of_two_writers_one_fails_and_then_gets_another_address() {
    let store = Store::default();
    let (mut first, mut second) = (store.ledger(), store.ledger());
    let (web, db) = (claimant("web", "u1"), claimant("db", "u2"));
    let same = first.claim("s", &web, &[], 100).unwrap();
    assert_eq!(second.claim("s", &db, &[], 100).unwrap(), same, "both see it as free");
    assert!(first.commit(&store.api()).await.is_empty());
    assert_eq!(second.commit(&store.api()).await, HashSet::from([db.vm.clone()]));
    let other = second.claim("s", &db, &[], 100).unwrap();
    assert_ne!(other, same);
    assert!(second.commit(&store.api()).await.is_empty());
    assert_eq!(store.holders().len(), 4);
}

#[tokio::test]
async fn a_released_address_rests_also_over_a_restart() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let web = claimant("web", "u1");
    let address: IpAddr = "10.0.0.5".parse().unwrap();
    ledger.claim("s", &web, &[address], 100).unwrap();
    ledger.commit(&store.api()).await;
    ledger.release("s", &web, 200);
    ledger.commit(&store.api()).await;
    assert!(store.holders().is_empty());
    let mut restarted = store.ledger();
    let thief = claimant("thief", "u2");
    assert_eq!(
        restarted.claim("s", &thief, &[address], 230),
        Err(AddressError::Resting { subnet: "s".to_owned(), seconds: 30 })
    );
    assert_eq!(restarted.claim("s", &thief, &[address], 260).unwrap()[0], address);
}

#[tokio::test]
async fn a_claim_that_fails_in_one_family_takes_nothing_in_the_other() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let v6: IpAddr = "fd00::9".parse().unwrap();
    ledger.claim("s", &claimant("web", "u1"), &[v6], 100).unwrap();
    let free = ledger.counts("s");
    let refused = ledger.claim("s", &claimant("db", "u2"), &[v6], 100);
    let Err(AddressError::Held { holder, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(holder, "web.default");
    assert_eq!(ledger.counts("s"), free);
}

#[tokio::test]
async fn a_reservation_is_handed_over_whole() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let (reserved, web) = (claimant("web", ""), claimant("web", "u1"));
    let given = ledger.claim("s", &reserved, &[], 100).unwrap();
    ledger.commit(&store.api()).await;
    ledger.adopt("s", &reserved, &web, 200);
    ledger.commit(&store.api()).await;
    assert_eq!(ledger.addresses("s", &web), given);
    assert_eq!(store.ledger().addresses("s", &web), given);
    assert!(store.ledger().addresses("s", &reserved).is_empty());
}

#[tokio::test]
async fn a_block_that_somebody_else_wrote_is_believed() {
    let store = Store::default();
    let (mut ours, mut theirs) = (store.ledger(), store.ledger());
    let address: IpAddr = "10.0.0.5".parse().unwrap();
    theirs.claim("s", &claimant("web", "u1"), &[address], 100).unwrap();
    theirs.commit(&store.api()).await;
    let blocks = store.blocks.lock().unwrap().clone();
    blocks.into_values().for_each(|block| drop(ours.observe(block)));
    ours.settle();
    let refused = ours.claim("s", &claimant("db", "u2"), &[address], 100);
    let Err(AddressError::Held { holder, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(holder, "web.default");
}

#[tokio::test]
async fn a_pool_made_anew_amid_edits_says_what_they_say() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let (web, db) = (claimant("web", "u1"), claimant("db", "u2"));
    let (low, high): (IpAddr, IpAddr) = ("10.0.0.3".parse().unwrap(), "10.0.0.6".parse().unwrap());
    ledger.claim("s", &web, &[high], 100).unwrap();
    ledger.commit(&store.api()).await;
    // web moves down; then a claim that fails half way has the pools rebuilt.
    ledger.claim("s", &web, &[low], 200).unwrap();
    let v6 = ledger.addresses("s", &web)[1];
    ledger.claim("s", &db, &[v6], 200).unwrap_err();
    assert!(matches!(ledger.claim("s", &db, &[low], 200), Err(AddressError::Held { .. })));
    assert!(ledger.commit(&store.api()).await.is_empty());
    assert_eq!(store.holders()[&low], "web.default");
}

#[tokio::test]
async fn an_edit_that_would_take_an_address_from_its_holder_is_not_written() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let address: IpAddr = "10.0.0.5".parse().unwrap();
    ledger.claim("s", &claimant("web", "u1"), &[address], 100).unwrap();
    ledger.commit(&store.api()).await;
    let thief = claimant("thief", "u2");
    ledger.note("s", address, Change::Hold(thief.clone()));
    assert_eq!(ledger.commit(&store.api()).await, HashSet::from([thief.vm]));
    assert_eq!(store.holders()[&address], "web.default");
}

#[tokio::test]
async fn a_release_that_the_pool_has_forgotten_leaves_its_block_with_the_next_write() {
    // As many as a pool remembers.
    const RELEASES: u64 = 65_536;
    let store = Store::default();
    let mut ledger = Ledger::new(60);
    let spec = SubnetSpec { cidr_block: "fd00::/64".to_owned(), ..SubnetSpec::default() };
    ledger.set_network(Network::parse(&Subnet::new("s", spec)).unwrap());
    ledger.settle();
    for n in 0..RELEASES {
        let passer_by = claimant("web", &n.to_string());
        ledger.claim("s", &passer_by, &[], n).unwrap();
        ledger.release("s", &passer_by, n);
        if n == 1000 {
            ledger.commit(&store.api()).await;
        }
    }
    let four = [1, 2, 3, 4].map(|n| claimant("more", &n.to_string()));
    four.iter().for_each(|one| drop(ledger.claim("s", one, &[], RELEASES).unwrap()));
    four.iter().for_each(|one| drop(ledger.release("s", one, RELEASES)));
    ledger.commit(&store.api()).await;
    let low: Vec<IpAddr> = (2..8).map(|n| format!("fd00::{n}").parse().unwrap()).collect();
    let first = block_name("s", low[0]);
    let first_block = || store.blocks.lock().unwrap()[&first].clone();
    assert!(low.iter().all(|address| first_block().spec.resting.contains_key(address)));
    let (blocks, version) = (store.blocks.lock().unwrap().len(), *store.version.lock().unwrap());

    // The four released first count as never used; one of them is held again.
    let kept = claimant("db", "kept");
    let given = ledger.claim("s", &kept, &[], RELEASES).unwrap();
    assert_eq!(given, low[..1]);
    ledger.commit(&store.api()).await;
    let written = first_block().spec;
    let resting = |address: &IpAddr| written.resting.contains_key(address);
    assert!(!low[1..4].iter().any(resting), "{:?}", written.resting);
    assert!(low[4..].iter().all(resting), "{:?}", written.resting);
    assert_eq!(*store.version.lock().unwrap(), version + 1, "nothing is written for that alone");
    assert_eq!(store.blocks.lock().unwrap().len(), blocks);
}

#[tokio::test]
async fn an_attempt_that_is_undone_leaves_no_trace() {
    let store = Store::default();
    let mut ledger = store.ledger();
    let (reserved, web) = (claimant("web", ""), claimant("web", "u1"));
    ledger.claim("s", &reserved, &["10.0.0.5".parse().unwrap()], 100).unwrap();
    ledger.commit(&store.api()).await;
    let (held, free) = (ledger.held_for(&web.vm), ledger.counts("s"));
    let written = store.holders();

    ledger.attempt();
    ledger.adopt("s", &reserved, &web, 200);
    ledger.claim("s", &web, &["10.0.0.6".parse().unwrap()], 200).unwrap();
    let db = ledger.claim("s", &claimant("db", "u2"), &[], 200).unwrap();
    ledger.undo(200);
    assert_eq!(ledger.held_for(&web.vm), held);
    assert!(ledger.edits.is_empty(), "{:?}", ledger.edits);
    assert!(ledger.commit(&store.api()).await.is_empty());
    assert_eq!(store.holders(), written);

    ledger.settle();
    assert_eq!(ledger.counts("s"), free);
    let other = ledger.claim("s", &claimant("other", "u3"), &[], 200).unwrap();
    assert_eq!(other, db, "as if nobody had asked before");
}
