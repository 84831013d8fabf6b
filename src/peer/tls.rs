//! Whom a peer trusts to be the host that it claims to be: whom the system trusts, as `SSL_CERT_FILE` or `SSL_CERT_DIR`
//! may say, and the roots that Mozilla trusts, which are built in.

use std::sync::Arc;

use log::debug;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// How TLS connections are made. It reads files.
pub fn config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let native = rustls_native_certs::load_native_certs();
    // The built-in ones are there in any case.
    native.errors.iter().for_each(|error| debug!("certificates of the system: {error}"));
    roots.add_parsable_certificates(native.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of these versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
