//! What a cluster has from its first start: the default VPC, and a subnet in it for
//! VMs that are told of no other.
//!
//! Made once, where they are asked for (`--default-cidr`) and absent. Whoever edits
//! them afterwards is right, and whoever deletes them gets them anew with the next
//! start.

use std::time::Duration;

use crds::kubeovn::{DEFAULT_VPC, Subnet, SubnetSpec, Vpc, VpcSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use net::Cidrs;
use tracing::{info, warn};

/// The subnet, as Kube-OVN calls it.
pub const DEFAULT_SUBNET: &str = "ovn-default";
/// Delay before the API is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The default VPC and subnet as they are made.
#[must_use]
pub fn objects(cidrs: Cidrs) -> (Vpc, Subnet) {
    let spec = SubnetSpec {
        vpc: DEFAULT_VPC.to_owned(),
        cidr_block: cidrs.to_string(),
        default: true,
        ..SubnetSpec::default()
    };
    (Vpc::new(DEFAULT_VPC, VpcSpec::default()), Subnet::new(DEFAULT_SUBNET, spec))
}

/// Makes what is absent; asks until the API answers, refusals included: its
/// definitions may come after us.
pub async fn make(client: Client, cidrs: Cidrs) {
    let (vpc, subnet) = objects(cidrs);
    let vpcs: Api<Vpc> = Api::all(client.clone());
    let subnets: Api<Subnet> = Api::all(client);
    let params = PostParams::default();
    loop {
        let made = match there(vpcs.create(&params, &vpc).await) {
            Ok(()) => there(subnets.create(&params, &subnet).await),
            Err(error) => Err(error),
        };
        match made {
            Ok(()) => break,
            Err(error) => warn!(%error, "The default subnet could not be made; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
    info!(subnet = DEFAULT_SUBNET, "The default subnet is there");
}

/// Made now or before.
fn there<T>(outcome: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn the_default_subnet_can_be_in_force_and_serves_every_namespace() {
        let (vpc, subnet) = objects("10.16.0.0/16,fd16::/112".parse().unwrap());
        let network = Network::parse(&subnet).unwrap();
        assert_eq!(Some(&network.vpc), vpc.metadata.name.as_ref());
        assert!(network.default && network.namespaces.is_empty());
    }
}
