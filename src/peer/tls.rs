//! Whom a peer trusts to be the host that it claims to be: whom the system trusts, as `SSL_CERT_FILE` or `SSL_CERT_DIR`
//! may say, and the roots that Mozilla trusts, which are built in.

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::debug;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::trouble;

/// How TLS connections are made, and what of the files that the user has named could not be used, for people. It reads
/// files.
pub fn config() -> (Arc<ClientConfig>, Option<String>) {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // The built-in ones are there in any case.
    let (certificates, fault) = named().unwrap_or_else(|| {
        let native = rustls_native_certs::load_native_certs();
        native.errors.iter().for_each(|error| debug!("certificates of the system: {error}"));
        (native.certs, None)
    });
    roots.add_parsable_certificates(certificates);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of these versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(config), fault)
}

/// The certificates that the user has named in place of the system's.
fn named() -> Option<(Vec<CertificateDer<'static>>, Option<String>)> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    let (file, folders) = (variable("SSL_CERT_FILE").map(PathBuf::from), variable("SSL_CERT_DIR"));
    if file.is_none() && folders.is_none() {
        return None;
    }
    let (mut certificates, mut faults) = (Vec::new(), Vec::new());
    if let Some(file) = file {
        match read(&file) {
            Ok(read) => certificates.extend(read),
            Err(fault) => faults.push(format!("SSL_CERT_FILE={}: {fault}", file.display())),
        }
    }
    for folder in folders.iter().flat_map(env::split_paths).filter(|folder| !folder.as_os_str().is_empty()) {
        match fs::read_dir(&folder) {
            // What else is there may be anything.
            Ok(entries) => {
                certificates.extend(entries.flatten().filter_map(|entry| read(&entry.path()).ok()).flatten())
            }
            Err(error) => faults.push(format!("SSL_CERT_DIR={}: {}", folder.display(), trouble::why(&error))),
        }
    }
    certificates.sort_unstable_by(|a, b| a[..].cmp(&b[..]));
    certificates.dedup();
    Some((certificates, (!faults.is_empty()).then(|| faults.join("; "))))
}

/// The certificates in a regular file: to open anything else could take for ever.
fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let metadata = fs::metadata(path).map_err(|error| trouble::why(&error))?;
    if metadata.is_dir() {
        return Err(trouble::why(&ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err("it is a pipe, a socket or a device, and no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    if opened.map_err(|error| trouble::why(&error))? as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    if certificates.is_empty() {
        return Err("it has no certificate in PEM in it; is it the right file?".to_owned());
    }
    Ok(certificates)
}

/// All that a system trusts is a quarter of a megabyte; more is the wrong file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_certificates_is_told_at_once() {
        let fault = |path: &str| read(Path::new(path)).unwrap_err();
        assert!(fault("/dev/zero").contains("no regular file") && fault("/dev/null").contains("no regular file"));
        assert!(fault("/proc").contains("it is a folder"));
        assert!(fault("/nowhere/at.all").contains("is not there"));
        assert!(fault(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).contains("no certificate in PEM"));
        let long = env::temp_dir().join(format!("lowkey-long-{}", std::process::id()));
        File::create(&long).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let said = read(&long).unwrap_err();
        fs::remove_file(&long).unwrap();
        assert!(said.contains("more than 4194304 bytes"), "{said}");
    }
}
