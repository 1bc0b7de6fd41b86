//! Bounds what one host receives from this server, however many clients name it. An address on the
//! Internet counts, and not a name: names are free.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::FetchError;

/// How many fetches from one host may run at the same time.
const AT_ONCE: u32 = 4;
/// The period in which fetches from one host are counted.
const PERIOD: Duration = Duration::from_mins(1);
/// From this many hosts on, those that were not asked within the period are forgotten.
const MANY: usize = 1024;

/// The hosts that were asked recently.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Fetches from one host in a minute; 0: no limit.
    per_minute: u64,
    known: Arc<Mutex<HashMap<IpAddr, Host>>>,
}

#[derive(Debug)]
struct Host {
    running: u32,
    begun: u64,
    since: Instant,
}

/// A fetch that is counted as running, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    hosts: Vec<IpAddr>,
    known: Arc<Mutex<HashMap<IpAddr, Host>>>,
}

impl Hosts {
    pub(super) fn new(per_minute: u64) -> Self {
        Self {
            per_minute,
            known: Arc::default(),
        }
    }

    /// Counts a fetch that begins at `now` from a host with these addresses.
    ///
    /// # Errors
    /// [`FetchError::HostBusy`]. Nothing was counted.
    pub(super) fn enter(&self, addresses: &[IpAddr], now: Instant) -> Result<Turn, FetchError> {
        let mut hosts: Vec<IpAddr> = addresses.iter().map(|address| host_of(*address)).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let mut known = locked(&self.known);
        if known.len() >= MANY {
            known.retain(|_, host| host.running > 0 || host.since + PERIOD > now);
        }
        for host in hosts.iter().filter_map(|host| known.get(host)) {
            if host.running >= AT_ONCE {
                let wait = Duration::from_secs(1);
                return Err(FetchError::HostBusy { wait });
            }
            let ends = host.since + PERIOD;
            if self.per_minute > 0 && host.begun >= self.per_minute && ends > now {
                let wait = ends - now;
                return Err(FetchError::HostBusy { wait });
            }
        }
        for host in &hosts {
            let host = known.entry(*host).or_insert(Host {
                running: 0,
                begun: 0,
                since: now,
            });
            if host.since + PERIOD <= now {
                (host.begun, host.since) = (0, now);
            }
            host.running += 1;
            host.begun += 1;
        }
        Ok(Turn {
            hosts,
            known: Arc::clone(&self.known),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut known = locked(&self.known);
        for host in &self.hosts {
            if let Some(host) = known.get_mut(host) {
                host.running = host.running.saturating_sub(1);
            }
        }
    }
}

/// The host that an address belongs to. A host may have every address of an IPv6 /64.
fn host_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

fn locked(known: &Mutex<HashMap<IpAddr, Host>>) -> MutexGuard<'_, HashMap<IpAddr, Host>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_addresses(text: &str) -> Vec<IpAddr> {
        text.split(' ').map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn one_host_has_four_fetches_at_once_and_its_number_a_minute() {
        let (hosts, now) = (Hosts::new(6), Instant::now());
        let enter = |text: &str, at| hosts.enter(&at_addresses(text), at);
        let mut running: Vec<Turn> = (0..4).map(|_| enter("8.8.8.8", now).unwrap()).collect();
        assert!(enter("8.8.8.8", now).is_err());
        // A name that has another address beside it is the same host.
        assert!(enter("9.9.9.9 8.8.8.8", now).is_err());
        drop(enter("9.9.9.9", now).unwrap());
        running.pop();
        drop(enter("8.8.8.8", now).unwrap());
        drop(enter("8.8.8.8", now).unwrap());
        drop(running);
        let Err(FetchError::HostBusy { wait }) = enter("8.8.8.8", now) else {
            panic!("a seventh fetch");
        };
        assert_eq!(wait, PERIOD);
        drop(enter("8.8.8.8", now + PERIOD).unwrap());
    }

    #[test]
    fn a_network_of_ipv6_is_one_host_and_unused_hosts_are_forgotten() {
        let (hosts, now) = (Hosts::new(1), Instant::now());
        let enter = |text: &str, at| hosts.enter(&at_addresses(text), at);
        drop(enter("2606:4700::1", now).unwrap());
        assert!(enter("2606:4700::2", now).is_err());
        drop(enter("2606:4700:0:1::2", now).unwrap());
        for number in 0..MANY {
            let number = u32::try_from(number).unwrap();
            drop(hosts.enter(&[IpAddr::V4(number.into())], now).unwrap());
        }
        drop(enter("9.9.9.9", now + PERIOD).unwrap());
        assert_eq!(locked(&hosts.known).len(), 1);
    }
}
