//! `wss`: a TLS terminator of the test's own in front of the server, as nginx is one.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::{Folder, Program, Server};

/// Takes TLS connections on a free port and passes their bytes on to `target`. Returns the port, and the certificate in
/// PEM.
pub fn terminator(target: String) -> (u16, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
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
    (port, certified.cert.pem())
}

fn pass_on(stream: TcpStream, config: Arc<ServerConfig>, target: &str) {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut front = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut back = TcpStream::connect(target).unwrap();
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

#[test]
fn a_chat_goes_through_tls_and_an_unknown_certificate_is_refused() {
    let server = Server::start();
    let (port, certificate) = terminator(server.address.clone());
    let folder = Folder::new("tls");
    let file = folder.0.join("certificate.pem");
    std::fs::write(&file, certificate).unwrap();
    let url = format!("wss://localhost:{port}");
    // The system's roots are taken from where this variable says, as OpenSSL's users know it.
    let trust = [("SSL_CERT_FILE", file.to_str().unwrap())];
    let mut bot = Program::start("lowkey-bot", &["--server", &url], &trust);
    bot.stderr.find("online as echo");
    let mut alice = Program::start("lowkey", &["--server", &url, "--name", "alice", "echo"], &trust);
    alice.write("through TLS");
    assert_eq!(alice.stdout.next(), "echo: through TLS");
    let mut doubter = Program::start("lowkey-bot", &["--server", &url, "--name", "doubter"], &[]);
    let line = doubter.stderr.find("no server");
    assert!(line.contains("certificate"), "{line}");
}

#[test]
fn a_server_without_tls_and_a_taken_name_are_told_in_words() {
    let server = Server::start();
    let url = format!("wss://{}", server.address);
    let mut bot = Program::start("lowkey-bot", &["--server", &url], &[]);
    bot.stderr.find("the server does not speak TLS, or not there; one without it is reached by ws://");
    let url = format!("ws://{}", server.address);
    let (mine, yours) = (Folder::new("mine"), Folder::new("yours"));
    let start = |folder: &Folder| {
        let home = [("XDG_CONFIG_HOME", folder.0.to_str().unwrap())];
        Program::start("lowkey", &["--server", &url, "--name", "alice"], &home)
    };
    let mut first = start(&mine);
    first.stderr.find("online");
    start(&yours).stderr.find("the name is taken; --name chooses another one");
}
