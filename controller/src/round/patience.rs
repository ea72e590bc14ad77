//! How long a round waits for the API: one write that is never answered must not hold
//! up everything else.
//!
//! ```text
//!  not answered in time    as if it had failed, though it may have been written
//!  the rest of that round  what is in flight has its own time; what would follow fails at once
//!  the next round          asks again
//! ```
//!
//! All requests of a round go by a client of this making, so that none can be forgotten.
//! What became of one that was given up its watch tells, and until then nobody relies on
//! either: blocks and instances are written for the version that was read, rows and IP
//! objects say the same when they are written again, and nothing is given back of which
//! the write has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;
use tracing::warn;

/// How long a request may take. An API server that is busy has queued it for a quarter of
/// a minute before it refuses it.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Whether there is any left in this round.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    is_out: Arc<AtomicBool>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the API did not answer within {} s; whether it has done it the watch will tell", .0.as_secs())]
    InTime(Duration),
    #[error("the API left another request of this round unanswered; it is asked again")]
    Another,
}

impl Patience {
    /// There is, again.
    pub(super) fn regain(&self) {
        self.is_out.store(false, Ordering::Relaxed);
    }

    /// A client whose requests, their answers' bodies included, end within `limit`.
    pub(super) fn bound(&self, client: &Client, limit: Duration) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (client, is_out) = (client.clone(), Arc::clone(&self.is_out));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, is_out) = (client.clone(), Arc::clone(&is_out));
            async move {
                if is_out.load(Ordering::Relaxed) {
                    return Err(Box::from(Unanswered::Another));
                }
                let path = request.uri().path().to_owned();
                match timeout(limit, whole(&client, request)).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        if !is_out.swap(true, Ordering::Relaxed) {
                            warn!(
                                path,
                                ?limit,
                                "The API does not answer; the round goes on without"
                            );
                        }
                        Err(Box::from(Unanswered::InTime(limit)))
                    }
                }
            }
        });
        Client::new(service, namespace)
    }
}

/// The answer with all of its body.
async fn whole(client: &Client, request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
    let (head, body) = client.send(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, Body::from(body)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use crds::kubeovn::Vpc;
    use kube::api::{Api, PostParams};
    use net::MacAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::bed;
    use super::*;
    use crate::decide::Decision;
    use crate::leave::Leave;
    use crate::ledger::VmKey;
    use crate::rows::Port;

    const SHORT: Duration = Duration::from_millis(300);
    /// Long before anything of ours gives up by itself.
    const SOON: Duration = Duration::from_secs(10);

    /// A server that takes every request, says this, and then nothing.
    async fn silent(says: &'static str) -> Client {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    let mut says = says.as_bytes();
                    while let Ok(1..) = connection.read(&mut request).await {
                        connection.write_all(std::mem::take(&mut says)).await.unwrap();
                    }
                });
            }
        });
        let config = kube::Config::new(format!("http://{at}").parse().unwrap());
        Client::try_from(config).unwrap()
    }

    /// An API that takes every object but that of the VM `stuck`, of which it says nothing.
    fn partly_silent() -> Client {
        Client::new(
            tower::service_fn(|request: Request<Body>| async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let text = String::from_utf8_lossy(&body);
                if text.contains("stuck.default") {
                    std::future::pending::<()>().await;
                }
                let response = Response::builder().status(201).body(Body::from(body.to_vec()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }),
            "default",
        )
    }

    async fn made(client: &Client, name: &str) -> Result<Vpc, kube::Error> {
        let vpc = Vpc::new(name, Default::default());
        Api::all(client.clone()).create(&PostParams::default(), &vpc).await
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let head =
            "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{";
        for says in ["", "HTTP/1.1 201 Cre", head] {
            let patience = Patience::default();
            let client = patience.bound(&silent(says).await, SHORT);
            let outcome = timeout(SOON, made(&client, "a")).await.expect("it is waited for");
            let said = outcome.unwrap_err().to_string();
            assert!(said.contains("did not answer"), "{said}");
        }
    }

    #[tokio::test]
    async fn after_one_that_is_never_answered_a_round_asks_no_more_and_the_next_does() {
        let patience = Patience::default();
        let client = patience.bound(&partly_silent(), SHORT);
        made(&client, "a").await.unwrap();
        made(&client, "stuck.default").await.unwrap_err();
        let begun = Instant::now();
        for _ in 0..1000 {
            made(&client, "a").await.unwrap_err();
        }
        assert!(begun.elapsed() < SOON);
        patience.regain();
        made(&client, "a").await.unwrap();
    }

    #[tokio::test]
    async fn an_object_that_is_never_written_holds_up_its_own_vm_alone() {
        let mut rounds = bed::rounds(partly_silent());
        rounds.edge.client = rounds.patience.bound(&partly_silent(), SHORT);
        let vm = |name: &str| VmKey { namespace: "default".to_owned(), name: name.to_owned() };
        let decision = |name: &str| Decision {
            ports: vec![Port {
                name: format!("{name}.default"),
                vm: vm(name),
                uid: name.to_owned(),
                network: None,
                subnet: "s".to_owned(),
                mac: MacAddr::derived_from(&[name]),
                addresses: vec!["10.0.0.5".parse().unwrap()],
                node: None,
                target: None,
                left: None,
                leave: Leave::default(),
                behind: None,
            }],
            ..Decision::nothing_for(vm(name))
        };
        let decisions = ["web", "stuck", "db"].map(decision);
        let written = timeout(SOON, rounds.write_ips(&decisions)).await;
        let (failed, refused) = written.expect("the round waits for it");
        assert_eq!((failed, refused.len()), (HashSet::from([vm("stuck")]), 0));
        let has = |name: &str| rounds.world.ips.get(&format!("{name}.default")).is_some();
        assert_eq!(["web", "stuck", "db"].map(has), [true, false, true]);
    }
}
