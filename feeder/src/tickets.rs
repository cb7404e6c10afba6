//! Tickets: for clients that cannot set headers (browsers), a word that opens one session within a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};
use trough_protocol::Micros;
use trough_runtime::clock::micros;
use trough_runtime::random::random_bytes;
use trough_store::DeviceGrant;

/// How long a ticket is good.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// What every ticket begins with, so that it is not taken for a token.
pub const PREFIX: &str = "tkt_";
/// Most tickets at once: about 20 MB.
const TICKETS_MAX: usize = 100_000;

/// The tickets of this feeder. Only their hashes are kept.
#[derive(Debug, Default)]
pub struct Tickets {
    open: Mutex<HashMap<[u8; 32], (DeviceGrant, Micros)>>,
}

/// No more tickets for now.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Tickets {
    /// A ticket for what `grant` allows.
    ///
    /// # Errors
    /// [`Full`] if there are [`TICKETS_MAX`] unused ones.
    pub fn issue(&self, grant: DeviceGrant, now: Micros) -> Result<String, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= TICKETS_MAX {
            open.retain(|_, (_, until)| *until > now);
        }
        if open.len() >= TICKETS_MAX {
            return Err(Full);
        }
        let ticket = format!("{PREFIX}{}", BASE64.encode(random_bytes::<32>()));
        open.insert(hash(&ticket), (grant, now + micros(LIFETIME)));
        Ok(ticket)
    }

    /// What the ticket allows; it is used up by this. Found by its hash, so that the time this takes tells
    /// nothing of other tickets.
    pub fn redeem(&self, ticket: &str, now: Micros) -> Option<DeviceGrant> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (grant, until) = open.remove(&hash(ticket))?;
        (until > now).then_some(grant)
    }
}

fn hash(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trough_protocol::DeviceId;
    use trough_store::TokenId;

    #[test]
    fn a_ticket_is_good_once_and_for_a_minute() {
        let tickets = Tickets::default();
        let device = DeviceId::new("d").unwrap();
        let grant = DeviceGrant { device, token_id: TokenId::random(), query_token: false, expires_at: None };
        let ticket = tickets.issue(grant.clone(), 0).unwrap();
        assert_eq!(tickets.redeem(&ticket, 59_999_999), Some(grant.clone()));
        assert_eq!(tickets.redeem(&ticket, 0), None, "used up");
        let ticket = tickets.issue(grant, 0).unwrap();
        assert_eq!(tickets.redeem(&ticket, 60_000_000), None, "too late");
        assert_eq!(tickets.redeem("tkt_", 0), None);
    }
}
