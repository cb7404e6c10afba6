//! Looks up where a webhook leads to, and lets it lead nowhere else.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use trough_store::webhook::network::{NotPublic, is_public};

/// Looks names up, and gives only addresses that may be connected to. What it gives is what is connected to: there is no
/// second look-up that could say something else.
pub(super) struct CheckedResolver {
    pub private_networks: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private_networks = self.private_networks;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(allowed(name.as_str(), found, private_networks)?)
        })
    }
}

fn allowed(host: &str, found: Vec<SocketAddr>, private_networks: bool) -> Result<Addrs, NotPublic> {
    let refused = found.first().map(SocketAddr::ip);
    let may: Vec<_> = found.into_iter().filter(|at| private_networks || is_public(at.ip())).collect();
    match refused {
        Some(address) if may.is_empty() => Err(NotPublic { host: host.to_owned(), address }),
        _ => Ok(Box::new(may.into_iter())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_of_a_name_are_given() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let both = vec![at("10.0.0.1"), at("1.1.1.1")];
        assert_eq!(allowed("h", both.clone(), false).unwrap().collect::<Vec<_>>(), [at("1.1.1.1")]);
        assert_eq!(allowed("h", both, true).unwrap().count(), 2);
        let refused = allowed("h", vec![at("10.0.0.1")], false).err().unwrap().to_string();
        assert!(refused.contains("h is 10.0.0.1") && refused.contains("--webhook-private-networks"));
    }
}
