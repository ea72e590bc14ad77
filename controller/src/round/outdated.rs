//! Before something is taken away, the API is asked whether it is as we have seen it.
//!
//! Watches of different kinds are late by different times: the ledger may name the
//! holder of an address before the VM itself is seen, and somebody else may have
//! placed a VM that is seen as stopped. What is not seen yet looks as if it were gone.
//! Its address would go to another VM while it runs.

use std::collections::HashSet;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::Api;
use tracing::info;

use crds::cni::IpamClaim;
use crds::kubeovn::{Ip, Vip};
use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};

use super::PARALLEL_WRITES;
use crate::decide::Decision;
use crate::ledger::VmKey;
use crate::world::World;

/// Which version of an object there is: for this purpose its uid and what its spec
/// says. None if there is none.
type Version = Option<(Option<String>, Option<i64>)>;

fn version(meta: Option<&ObjectMeta>) -> Version {
    meta.map(|meta| (meta.uid.clone(), meta.generation))
}

/// The VMs of which a decision takes something away, though they or their instances
/// are not, or not known to be, as the world has them. They are to be decided again.
pub(super) async fn outdated(
    client: &Client,
    world: &World,
    decisions: &[Decision],
) -> HashSet<VmKey> {
    let taking = decisions
        .iter()
        .filter(|one| !one.release.is_empty() || !one.spare.is_empty() || !one.surplus.is_empty());
    let questions = taking.map(|decision| async move {
        match is_as_seen(client, world, decision).await {
            Ok(true) => None,
            Ok(false) => {
                info!(vm = %decision.vm, "The VM is not as its watches have it yet; waiting for them");
                Some(decision.vm.clone())
            }
            Err(error) => {
                info!(vm = %decision.vm, %error, "Whether the VM is gone could not be asked");
                Some(decision.vm.clone())
            }
        }
    });
    let answers = futures::stream::iter(questions).buffer_unordered(PARALLEL_WRITES);
    answers.filter_map(std::future::ready).collect().await
}

async fn is_as_seen(
    client: &Client,
    world: &World,
    decision: &Decision,
) -> Result<bool, kube::Error> {
    if let Some(vip) = decision.vm.vip() {
        let api: Api<Vip> = Api::all(client.clone());
        let there = api.get_metadata_opt(vip).await?;
        let there = version(there.as_ref().map(|one| &one.metadata));
        return Ok(there == version(world.vips.meta(&vip.to_owned())));
    }
    if let Some(claim) = decision.vm.claim() {
        let api: Api<IpamClaim> = Api::namespaced(client.clone(), &claim.namespace);
        let there = api.get_metadata_opt(&claim.name).await?;
        let there = version(there.as_ref().map(|one| &one.metadata));
        return Ok(there == version(world.claims.objects.meta(&claim)));
    }
    if let Some(node) = decision.vm.node() {
        let nodes: Api<Node> = Api::all(client.clone());
        let there = nodes.get_metadata_opt(node).await?.map(|one| one.metadata.uid);
        if there != world.nodes.meta(&node.to_owned()).map(|meta| meta.uid.clone()) {
            return Ok(false);
        }
    }
    // Without a namespace there is no VM to ask for: the IP object is all there is.
    if !decision.vm.namespace.is_empty() && !is_vm_as_seen(client, world, &decision.vm).await? {
        return Ok(false);
    }
    // What is held for nobody's uid is held for an IP object that a person made.
    let uid = |meta: &ObjectMeta| meta.uid.clone();
    let ips: Api<Ip> = Api::all(client.clone());
    for (reservation, _) in decision.release.iter().filter(|(holder, _)| holder.uid.is_empty()) {
        let ip = ips.get_metadata_opt(&reservation.port).await?;
        if ip.map(|one| uid(&one.metadata)) != world.ips.meta(&reservation.port).map(uid) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_vm_as_seen(client: &Client, world: &World, vm: &VmKey) -> Result<bool, kube::Error> {
    let VmKey { namespace, name } = vm;
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), namespace);
    let (machine, instance) =
        tokio::try_join!(machines.get_metadata_opt(name), instances.get_metadata_opt(name))?;
    let machine = version(machine.as_ref().map(|one| &one.metadata));
    // Of an instance the generation counts each status, too.
    let uid = |meta: &ObjectMeta| meta.uid.clone();
    let instance = instance.map(|one| uid(&one.metadata));
    Ok(machine == version(world.machines.meta(vm)) && instance == world.instances.meta(vm).map(uid))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;
    use crate::ledger::Claimant;

    /// An API that has these objects, by the end of their path, and no others.
    fn api(objects: &'static [(&'static str, &'static str)]) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let path = request.uri().path().to_owned();
            let found = objects.iter().find(|(end, _)| path.ends_with(end));
            let (code, body) = match found {
                Some((_, uid)) => (
                    StatusCode::OK,
                    serde_json::json!({
                        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                        "metadata": { "name": "web", "uid": uid },
                    }),
                ),
                None => (
                    StatusCode::NOT_FOUND,
                    serde_json::json!({
                        "kind": "Status", "status": "Failure", "reason": "NotFound",
                        "message": "not found", "code": 404,
                    }),
                ),
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap())
        });
        Client::new(service, "default")
    }

    /// A decision that gives back what a VM of this uid holds, of which the world has
    /// seen nothing.
    fn giving_back(uid: &str) -> Decision {
        let vm = VmKey { namespace: "default".to_owned(), name: "web".to_owned() };
        let port = "web.default".to_owned();
        let claimant = Claimant { port, vm: vm.clone(), uid: uid.to_owned() };
        let release = vec![(claimant, "blue".to_owned())];
        Decision { release, ..Decision::nothing_for(vm) }
    }

    async fn waits(uid: &str, objects: &'static [(&'static str, &'static str)]) -> bool {
        let (world, decisions) = (World::new(60), [giving_back(uid)]);
        !outdated(&api(objects), &world, &decisions).await.is_empty()
    }

    #[tokio::test]
    async fn nothing_is_taken_from_what_is_there_and_was_not_seen_yet() {
        assert!(!waits("u1", &[]).await, "it is gone");
        assert!(waits("u1", &[("/virtualmachines/web", "u1")]).await);
        assert!(waits("u1", &[("/virtualmachineinstances/web", "i1")]).await);
        assert!(!waits("", &[]).await, "its reservation is gone");
        let alone = &[("/virtualmachineinstances/web", "i1")];
        assert!(waits("i1", alone).await, "an instance without a VM is an owner");
        assert!(waits("", &[("/ips/web.default", "p1")]).await);
    }

    #[tokio::test]
    async fn who_gives_nothing_back_is_not_asked_about() {
        let nothing = Decision { release: Vec::new(), ..giving_back("u1") };
        let there = api(&[("/virtualmachines/web", "u1")]);
        assert!(outdated(&there, &World::new(60), &[nothing]).await.is_empty());
    }
}
