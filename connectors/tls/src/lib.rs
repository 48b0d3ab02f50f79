//! Whom Hansard trusts where it calls a service over TLS: the system's authorities, and those that an operator names beside
//! them; and what a failure says about a certificate. It never opens a connection, and knows no service.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// The authorities whose certificates are accepted: the system's, and by default no others.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Authorities {
    pem: Arc<[u8]>,
    named: Vec<CertificateDer<'static>>,
}

/// Why no authorities could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesError {
    /// No certificate stands there.
    #[error("it holds no certificate in PEM")]
    None,
    /// What stands between the lines of PEM is no certificate, or no authority's.
    #[error("certificate {number} cannot be read: {cause}")]
    Unreadable {
        /// Which one, from 1.
        number: usize,
        /// Why.
        cause: String,
    },
}

/// How many there are beside the system's.
impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").field("named", &self.named.len()).finish_non_exhaustive()
    }
}

impl Authorities {
    /// The system's, and those whose certificates stand in a text: one or more, in PEM.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn with(pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let (mut named, mut roots) = (Vec::new(), RootCertStore::empty());
        for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem)) {
            let wrong = |cause: String| AuthoritiesError::Unreadable { number, cause };
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
            named.push(certificate);
        }
        if named.is_empty() {
            return Err(AuthoritiesError::None);
        }
        Ok(Self { pem: pem.into(), named })
    }

    /// The text of those beside the system's; empty where there are none.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// How a client accepts their certificates, and only for the name that it called.
    ///
    /// # Errors
    /// The cryptography is without a version of the protocol.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        // Of the system's, one that cannot be read is passed over, as everybody does.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.named.iter().cloned());
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// What is wrong with the other side's certificate, where that is what an error tells of; with the setting that names
/// authorities, where another one would be its remedy.
#[must_use]
pub fn refusal(error: &(dyn Error + 'static), setting: &str) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(cause)) = error.downcast_ref() {
            return Some(match cause {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    format!("no authority that is trusted has signed its certificate; check {setting}")
                }
                _ => format!("its certificate is refused: {cause}"),
            });
        }
        // What an I/O error carries is not called its source.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = carried.map(|carried| carried as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "none", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(Authorities::with(text.as_bytes()), Err(AuthoritiesError::None), "{text:?}");
        }
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = Authorities::with(text.as_bytes()).expect_err("three zeros are no certificate");
        assert!(matches!(error, AuthoritiesError::Unreadable { number: 1, .. }), "{error}");
    }

    #[test]
    fn a_refused_certificate_is_found_within_other_errors() {
        let refused = |cause| io::Error::other(rustls::Error::InvalidCertificate(cause));
        let nested = io::Error::other(refused(CertificateError::UnknownIssuer));
        let told = refusal(&nested, "s3.ca").expect("it is found");
        assert_eq!(told, "no authority that is trusted has signed its certificate; check s3.ca");
        let told = refusal(&refused(CertificateError::Expired), "s3.ca").expect("it is found");
        assert!(told.starts_with("its certificate is refused: ") && !told.contains("s3.ca"), "{told}");
        assert_eq!(refusal(&io::Error::other("reset"), "s3.ca"), None);
        assert_eq!(refusal(&rustls::Error::DecryptError, "s3.ca"), None);
    }
}
