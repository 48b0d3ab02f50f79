//! Which addresses may be called: those of the public Internet, and networks that the deployment names. A URL is somebody
//! else's word, and what stands behind the firewall is not for them to call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The IPv4 networks that are not public, by IANA's registry of special purposes; with multicast and the reserved rest.
const NOT_PUBLIC: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// Of IPv6 only global unicast is public,
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0], 3);
/// without what is set apart in it: protocols (Teredo is one), documentation, 6to4, which holds an IPv4 address.
const SET_APART: [Ipv6Net; 4] =
    [v6([0x2001, 0, 0], 23), v6([0x2001, 0xdb8, 0], 32), v6([0x2002, 0, 0], 16), v6([0x3fff, 0, 0], 20)];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c]: [u16; 3], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL.contains(&address) && !SET_APART.iter().any(|network| network.contains(&address))
        }
    }
}

/// Why a URL is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It cannot be read, or has another scheme.
    #[error("is no https URL")]
    Scheme,
    /// It holds a user or a password.
    #[error("holds a user or a password; the signature tells the receiver who calls")]
    Credentials,
    /// Its port is that of another service.
    #[error("names a port below 1024 that is not the scheme's own")]
    Port,
    /// Its host is an address that may not be called.
    #[error("names an address that is not public; an operator may list its network in webhook.networks")]
    Address,
}

/// The rules about URLs and addresses.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    networks: Arc<[IpNet]>,
}

impl Rules {
    /// The public addresses by https; those in `networks` also, and these by plain http as well.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self { networks: networks.into() }
    }

    /// Reads a URL that is to be called. What its host's name stands for is looked at when it is called.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn check(&self, text: &str) -> Result<Url, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::Scheme)?;
        let plain = url.scheme() == "http" && !self.networks.is_empty();
        if !(plain || url.scheme() == "https") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        // The scheme's own port is none to the parser.
        if url.port().is_some_and(|port| port < 1024) {
            return Err(UrlError::Port);
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse::<IpAddr>() {
            Ok(address) if !self.reach(plain).allows(address) => Err(UrlError::Address),
            _ => Ok(url),
        }
    }

    /// What may be reached: with `plain` http the listed networks alone.
    pub(crate) fn reach(&self, plain: bool) -> Reach {
        Reach { rules: self.clone(), plain }
    }
}

/// The addresses that a client may connect to. It resolves names itself, so that the address that was looked at is the one
/// that is connected to, whatever the name stands for a moment later.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    rules: Rules,
    plain: bool,
}

impl Reach {
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let listed = self.rules.networks.iter().any(|network| network.contains(&address));
        listed || (!self.plain && is_public(address))
    }
}

/// A name stands for no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("its name stands for no public address")]
pub(crate) struct Forbidden;

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|address| reach.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Forbidden.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}
