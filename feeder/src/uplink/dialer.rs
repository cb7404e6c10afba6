//! What a link is secured with, before and inside its handshake: TLS, and the shared key.

use std::io::{self, ErrorKind};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trough_protocol::LinkId;
use trough_protocol::link::{Challenge, LinkKey, Opening, Proof, Side};
use trough_runtime::random::random_bytes;
use trough_runtime::tls::ClientTls;
use trough_runtime::tls::explain::explain;

use super::connection::LinkEnd;

/// The name that an eater's certificate must have when the feeder connects by address: an address says nothing
/// about who listens there, and eaters come and go on them.
const NAME_BY_ADDRESS: &str = "trough-eater";

/// A connection that a link can run over.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// How links are secured; by default not at all.
#[derive(Debug, Clone, Default)]
pub struct LinkSecurity {
    /// Both sides show certificates.
    pub tls: Option<ClientTls>,
    /// Both sides show that they know a key.
    pub key: Option<LinkKey>,
}

/// The feeder's part in proving the key.
pub struct Proving<'a> {
    key: &'a LinkKey,
    challenge: Challenge,
}

impl LinkSecurity {
    /// Puts TLS around a connection to `address`, `host:port`, if links have it. Has no deadline of its own.
    pub async fn secure(&self, address: &str, stream: TcpStream) -> Result<Box<dyn Socket>, LinkEnd> {
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = server_name(address);
        let connected = TlsConnector::from(tls.config()).connect(name, stream).await;
        connected.map(|stream| Box::new(stream) as Box<dyn Socket>).map_err(|error| tls_end(&error))
    }

    /// Begins to prove the key; `None` if links have none.
    pub fn proving(&self) -> Option<Proving<'_>> {
        self.key.as_ref().map(|key| Proving { key, challenge: random_bytes() })
    }
}

impl Proving<'_> {
    /// What the eater must answer.
    pub fn challenge(&self) -> Challenge {
        self.challenge
    }

    /// Checks the eater's proof and gives ours; `None` if it is wrong.
    pub fn answer(
        &self,
        feeder: LinkId,
        eater: LinkId,
        challenge: Challenge,
        proof: &Proof,
    ) -> Option<Proof> {
        let opening = Opening { feeder, eater, feeder_challenge: self.challenge, eater_challenge: challenge };
        self.key.verify(Side::Eater, &opening, proof).then(|| self.key.prove(Side::Feeder, &opening))
    }
}

/// The end of a link whose handshake broke under TLS.
pub fn tls_end(error: &io::Error) -> LinkEnd {
    let text = explain(error);
    LinkEnd::Tls(match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
            format!("{text}; the eater's log says why: it may have no --link-tls-cert")
        }
        _ => text,
    })
}

/// Whom the certificate must name.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match ServerName::try_from(host.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => name,
        _ => ServerName::try_from(NAME_BY_ADDRESS).expect("it is a DNS name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_be_in_the_certificate_and_an_address_has_a_common_one() {
        for (address, name) in [
            ("eater.trough.svc:8082", "eater.trough.svc"),
            ("10.0.0.7:8082", NAME_BY_ADDRESS),
            ("[::1]:8082", NAME_BY_ADDRESS),
        ] {
            assert_eq!(server_name(address).to_str(), name, "{address}");
        }
    }

    #[test]
    fn only_an_eater_with_the_key_is_answered() {
        let key = |byte: u8| LinkKey::new(&[byte; 32]).unwrap();
        let ours = LinkSecurity { key: Some(key(1)), ..LinkSecurity::default() };
        let proving = ours.proving().unwrap();
        let (feeder, eater) = (LinkId([1; 16]), LinkId([2; 16]));
        let opening =
            Opening { feeder, eater, feeder_challenge: proving.challenge(), eater_challenge: [5; 32] };
        let answer = |key: LinkKey| proving.answer(feeder, eater, [5; 32], &key.prove(Side::Eater, &opening));
        let proof = answer(key(1)).unwrap();
        assert!(key(1).verify(Side::Feeder, &opening, &proof));
        assert_eq!(answer(key(2)), None);
        let reflected = key(1).prove(Side::Feeder, &opening);
        assert_eq!(proving.answer(feeder, eater, [5; 32], &reflected), None);
    }
}
