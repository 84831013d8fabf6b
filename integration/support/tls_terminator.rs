//! A TLS terminator in front of a server, as nginx is one.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Takes TLS connections on a free port and passes their bytes on to `target`. Returns the port, and the certificate in
/// PEM.
pub fn terminator(target: String) -> (u16, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    (terminating(certified.cert.der().clone(), key, target), certified.cert.pem())
}

/// One with this certificate; the port.
pub fn terminating(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>, target: String) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, target) = (config.clone(), target.clone());
            thread::spawn(move || pass_on(stream.unwrap(), config, &target));
        }
    });
    port
}

fn pass_on(stream: TcpStream, config: Arc<ServerConfig>, target: &str) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut front = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let Ok(mut back) = TcpStream::connect(target) else {
        // There is nothing behind it, and the handshake alone is of interest.
        while copy(&mut front, &mut std::io::sink()) {}
        return;
    };
    back.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    while copy(&mut front, &mut back) && copy(&mut back, &mut front) {}
}

/// Copies what is there; whether more may come.
fn copy(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut buffer = [0; 16 * 1024];
    match from.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted),
    }
}
