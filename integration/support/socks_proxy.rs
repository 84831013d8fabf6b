//! A SOCKS5 proxy of the test's own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// It leads every name to loopback, and tells which were asked for.
pub struct Proxy {
    pub url: String,
    /// Which names were asked for, each with its port.
    pub asked: Receiver<String>,
}

impl Proxy {
    /// One that everybody may use, or whoever knows user and secret.
    pub fn start(login: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let user = login.map_or(String::new(), |(user, secret)| format!("{user}:{secret}@"));
        let url = format!("socks5://{user}{}", listener.local_addr().unwrap());
        let (sender, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || {
                    // Whoever breaks off is of no interest.
                    let _ = serve(stream.unwrap(), login, |name| {
                        let _ = sender.send(name);
                    });
                });
            }
        });
        Self { url, asked }
    }
}

/// So many bytes.
pub fn take<const LENGTH: usize>(stream: &mut TcpStream) -> std::io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn counted(stream: &mut TcpStream) -> std::io::Result<String> {
    let [length] = take(stream)?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn serve(mut stream: TcpStream, login: Option<(&str, &str)>, asked: impl Fn(String)) -> std::io::Result<()> {
    let [5, count] = take(&mut stream)? else { panic!("no SOCKS5") };
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods)?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]);
    }
    stream.write_all(&[5, method])?;
    if let Some((user, secret)) = login {
        let [1] = take(&mut stream)? else { panic!("no username and password") };
        let is_right = counted(&mut stream)? == user && counted(&mut stream)? == secret;
        stream.write_all(&[1, u8::from(!is_right)])?;
        if !is_right {
            return Ok(());
        }
    }
    let [5, 1, 0, kind] = take(&mut stream)? else { panic!("no connect") };
    let host = match kind {
        1 => take::<4>(&mut stream)?.map(|byte| byte.to_string()).join("."),
        3 => counted(&mut stream)?,
        kind => panic!("an address of kind {kind}"),
    };
    let port = u16::from_be_bytes(take(&mut stream)?);
    asked(format!("{host}:{port}"));
    let Ok(target) = TcpStream::connect(("127.0.0.1", port)) else {
        return stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
    };
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
    let (mut there, mut back) = (target.try_clone()?, stream.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut there, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut target = target;
    let _ = std::io::copy(&mut stream, &mut target);
    target.shutdown(Shutdown::Both)
}
