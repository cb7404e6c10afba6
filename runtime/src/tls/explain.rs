//! Handshake errors in the words of whoever must mend them.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// What went wrong in a handshake, and what to do; other errors as they are.
pub fn explain(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return error.to_string();
    };
    let remedy = match tls {
        Error::InvalidMessage(_) => {
            "the other side does not speak TLS: give both sides certificates, or neither"
        }
        Error::NoCertificatesPresented => "the other side shows no certificate: give it one",
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the other side's certificate has expired: issue a new one there"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the other side's certificate is not valid yet: check the clocks"
            }
            // A bad signature is that of an authority which only has the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the other side's certificate is not of an authority trusted here: check the CA files of both sides"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the other side's certificate is for other names: issue one with this name, or connect by another"
            }
            _ => "the other side's certificate cannot be used: issue a new one there",
        },
        Error::AlertReceived(alert) => match *alert {
            AlertDescription::CertificateExpired => {
                "the other side says that our certificate has expired: issue a new one here"
            }
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "the other side does not trust the authority of our certificate: check the CA files of both sides"
            }
            AlertDescription::CertificateRequired => {
                "the other side wants a certificate from us: give this side one"
            }
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                "the other side refuses our certificate: its log says why"
            }
            AlertDescription::DecodeError | AlertDescription::UnexpectedMessage => {
                "the other side does not understand: is it the right port?"
            }
            _ => return tls.to_string(),
        },
        _ => return tls.to_string(),
    };
    format!("{remedy} ({tls})")
}
