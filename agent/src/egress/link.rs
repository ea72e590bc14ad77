//! The link of the node's port: up, with its addresses, and routes by it to the
//! networks of the VPC.
//!
//! The routes bear a protocol number of ours. A route of somebody else to one of
//! the networks stays, and is told of: it may be what the node itself lives by.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use ipnetwork::IpNetwork;
use nix::libc::{EEXIST, ENODEV};
use rtnetlink::packet_route::address::{AddressAttribute, AddressScope};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Error, Handle, LinkUnspec, RouteMessageBuilder};

use super::wanted::Wanted;
use crate::tap::GATEWAY_LINK;

/// Tells our routes from those of others.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(98);

/// Why the link is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("ovs-vswitchd has not made {GATEWAY_LINK} yet")]
    NotYet,
    #[error("{what}: {error}")]
    Kernel { what: String, error: Error },
    #[error("{setting} cannot be set: {error}")]
    Setting { setting: String, error: io::Error },
    #[error("the node has a route to {0} of its own, which is a subnet's: remove one of them")]
    Taken(IpNetwork),
}

/// Makes the link what it is to be, where it is not.
pub(super) async fn bring_about(links: &Handle, wanted: &Wanted) -> Result<(), LinkError> {
    let (index, is_up) = find(links).await?;
    let v6 = wanted.addresses.iter().any(IpNetwork::is_ipv6);
    if v6 {
        set(&format!("net/ipv6/conf/{GATEWAY_LINK}/disable_ipv6"), "0").await?;
    }
    if !is_up {
        let up = LinkUnspec::new_with_index(index).up().build();
        let outcome = links.link().change(up).execute().await;
        outcome.map_err(kernel(format!("{GATEWAY_LINK} cannot be put up")))?;
    }
    let forwards = |v4: bool| wanted.translated.iter().any(|one| one.is_ipv4() == v4);
    if forwards(true) {
        set("net/ipv4/ip_forward", "1").await?;
    }
    if forwards(false) {
        set("net/ipv6/conf/all/forwarding", "1").await?;
    }
    addresses(links, index, &wanted.addresses).await?;
    routes(links, index, wanted).await
}

async fn find(links: &Handle) -> Result<(u32, bool), LinkError> {
    let found = links.link().get().match_name(GATEWAY_LINK.to_owned()).execute().try_next().await;
    match found {
        Ok(Some(link)) => Ok((link.header.index, link.header.flags.contains(LinkFlags::Up))),
        Ok(None) => Err(LinkError::NotYet),
        Err(error) if is(&error, ENODEV) => Err(LinkError::NotYet),
        Err(error) => Err(kernel(format!("{GATEWAY_LINK} cannot be looked at"))(error)),
    }
}

async fn addresses(links: &Handle, index: u32, wanted: &[IpNetwork]) -> Result<(), LinkError> {
    let what = || kernel(format!("the addresses of {GATEWAY_LINK} cannot be changed"));
    let request = links.address().get().set_link_index_filter(index);
    let have: Vec<_> = request.execute().try_collect().await.map_err(what())?;
    let mut missing: BTreeSet<IpNetwork> = wanted.iter().copied().collect();
    for message in have {
        let said = message.attributes.iter().find_map(|one| match one {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let network = said.and_then(|one| IpNetwork::new(one, message.header.prefix_len).ok());
        let known = network.is_some_and(|network| missing.remove(&network));
        if !known && message.header.scope == AddressScope::Universe {
            links.address().del(message).execute().await.map_err(what())?;
        }
    }
    for one in missing {
        let outcome = links.address().add(index, one.ip(), one.prefix()).execute().await;
        outcome.map_err(what())?;
    }
    Ok(())
}

async fn routes(links: &Handle, index: u32, wanted: &Wanted) -> Result<(), LinkError> {
    let what = |to: IpNetwork| kernel(format!("the route to {to} cannot be changed"));
    let mut missing: BTreeSet<(IpNetwork, IpAddr)> = BTreeSet::new();
    for gateway in &wanted.gateways {
        let here = wanted.routed.iter().filter(|one| one.is_ipv4() == gateway.is_ipv4());
        missing.extend(here.map(|one| (*one, *gateway)));
    }
    let all_v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let all_v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for all in [all_v4, all_v6] {
        let have: Vec<_> = links
            .route()
            .get(all)
            .execute()
            .try_collect()
            .await
            .map_err(kernel("the routes cannot be listed".to_owned()))?;
        for message in have.into_iter().filter(|one| one.header.protocol == PROTOCOL) {
            let Some((to, via, by)) = said(&message) else { continue };
            if by != index || !missing.remove(&(to, via)) {
                links.route().del(message).execute().await.map_err(what(to))?;
            }
        }
    }
    let mut taken = None;
    for (to, via) in missing {
        match links.route().add(route(index, to, via)).execute().await {
            Ok(()) => {}
            Err(error) if is(&error, EEXIST) => taken = Some(LinkError::Taken(to)),
            Err(error) => return Err(what(to)(error)),
        }
    }
    taken.map_or(Ok(()), Err)
}

fn route(index: u32, to: IpNetwork, via: IpAddr) -> RouteMessage {
    match (to, via) {
        (IpNetwork::V4(to), IpAddr::V4(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix())
            .gateway(via)
            .output_interface(index)
            .protocol(PROTOCOL)
            .build(),
        (to, via) => {
            let v6 = |one: IpAddr| match one {
                IpAddr::V4(one) => one.to_ipv6_mapped(),
                IpAddr::V6(one) => one,
            };
            RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(v6(to.network()), to.prefix())
                .gateway(v6(via))
                .output_interface(index)
                .protocol(PROTOCOL)
                .build()
        }
    }
}

/// Where a route of ours leads, by which gateway and link.
fn said(route: &RouteMessage) -> Option<(IpNetwork, IpAddr, u32)> {
    let plain = |one: &RouteAddress| match one {
        RouteAddress::Inet(one) => Some(IpAddr::V4(*one)),
        RouteAddress::Inet6(one) => Some(IpAddr::V6(*one)),
        _ => None,
    };
    let (mut to, mut via, mut by) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(one) => to = plain(one),
            RouteAttribute::Gateway(one) => via = plain(one),
            RouteAttribute::Oif(index) => by = Some(*index),
            _ => {}
        }
    }
    let to = IpNetwork::new(to?, route.header.destination_prefix_length).ok()?;
    Some((to, via?, by?))
}

/// Has a setting of this network namespace say `value`.
async fn set(setting: &str, value: &str) -> Result<(), LinkError> {
    let path = format!("/proc/sys/{setting}");
    let failed = |error| LinkError::Setting { setting: setting.to_owned(), error };
    if tokio::fs::read_to_string(&path).await.map_err(failed)?.trim() == value {
        return Ok(());
    }
    let failed = |error| LinkError::Setting { setting: setting.to_owned(), error };
    tokio::fs::write(&path, value).await.map_err(failed)
}

fn kernel(what: String) -> impl FnOnce(Error) -> LinkError {
    |error| LinkError::Kernel { what, error }
}

fn is(error: &Error, code: i32) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -code)
}
