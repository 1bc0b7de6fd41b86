//! Resolves the host of a URL and decides whether its addresses may be connected to.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::NotAllowed;
use super::target::Target;
use crate::system::addresses::is_global;

/// The most addresses of one host that are tried.
const MOST_TRIED: usize = 4;

/// Resolves names. Tests replace it by one that answers differently each time.
#[async_trait::async_trait]
pub trait Names: std::fmt::Debug + Send + Sync {
    /// The addresses of a name; none if it can't be resolved.
    async fn resolve(&self, name: &str) -> Vec<IpAddr>;
}

/// The resolver of the operating system.
#[derive(Debug)]
pub struct SystemNames;

#[async_trait::async_trait]
impl Names for SystemNames {
    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        match tokio::net::lookup_host((name, 0)).await {
            Ok(addresses) => addresses.map(|address| address.ip()).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// The addresses of a target, if every one of them may be connected to. One forbidden address
/// refuses a name: a name that mixes them was made to get through.
pub(super) async fn addresses(
    target: &Target,
    names: &dyn Names,
    allow: &[IpNet],
) -> Result<Vec<IpAddr>, NotAllowed> {
    let found = match target.host() {
        Ok(literal) => vec![literal],
        Err(name) => names.resolve(name).await,
    };
    if found.is_empty() || !found.iter().all(|address| may_reach(*address, allow)) {
        return Err(NotAllowed::Address);
    }
    Ok(found.into_iter().take(MOST_TRIED).collect())
}

/// Whether the server connects to an address: to global unicast ones and to those of `allow`.
pub(super) fn may_reach(address: IpAddr, allow: &[IpNet]) -> bool {
    is_global(address) || allow.iter().any(|range| range.contains(&address))
}
