//! A hub that only tells events: what a monitor reads, as fast as it reads, without the cost of a hub.
//!
//! What may not enter: what is told.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use azimuth_certs::{Authority, ServerIdentity, ServerNames};
use azimuth_clock::{Clock, SystemClock};
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::credentials::bench_key;

/// Listens until it is dropped.
pub struct StubHub {
    pub address: SocketAddr,
    pub ca_file: PathBuf,
    streams: mpsc::Receiver<Follower>,
    accepting: tokio::task::JoinHandle<()>,
}

/// Somebody who follows the events.
pub struct Follower {
    stream: TlsStream<TcpStream>,
    sequence: u64,
    text: String,
}

impl StubHub {
    pub async fn start(folder: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let now = SystemClock.utc();
        let authority = Authority::load_or_create(folder, now)?;
        let names = ServerNames::parse([address.ip().to_string().as_str()])?;
        let identity = ServerIdentity::load_or_issue(folder, &authority, &names, now)?;
        let tls = identity.rustls_config(azimuth_certs::KeyChoice::Auto, false)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(address).await?;
        let (out, streams) = mpsc::channel(1);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, out) = (acceptor.clone(), out.clone());
                tokio::spawn(async move {
                    // Whoever waits for a follower sees that none comes.
                    let Ok(stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    let _ = serve(stream, out).await;
                });
            }
        });
        Ok(Self {
            address,
            ca_file: authority.path(),
            streams,
            accepting,
        })
    }

    /// Of a policy that may do everything.
    pub fn connection_string(&self) -> String {
        let host = self.address.ip().to_string();
        ConnectionString::policy(&host, "iothubowner", bench_key()).reveal()
    }

    /// The next one who follows.
    pub async fn follower(&mut self) -> anyhow::Result<Follower> {
        let follower =
            tokio::time::timeout(std::time::Duration::from_secs(30), self.streams.recv());
        follower.await?.context("the stub hub does not listen")
    }
}

impl Drop for StubHub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Follower {
    /// One heartbeat.
    pub async fn tell(&mut self, device: &str, body: &str, at: SystemTime) -> anyhow::Result<()> {
        let at = Timestamp::from(at);
        let number = self.sequence;
        self.sequence += 1;
        writeln!(
            self.text,
            "{{\"partition\":0,\"sequenceNumber\":{number},\"offset\":\"{number}\",\"enqueuedTimeUtc\":\"{at}\",\"systemProperties\":\
             {{\"iothub-connection-device-id\":\"{device}\",\"iothub-connection-auth-method\":\"{{}}\",\"iothub-connection-auth-generation-id\":\
             \"637612875240648717\",\"iothub-enqueuedtime\":\"{at}\",\"iothub-message-source\":\"Telemetry\"}},\"properties\":{{}},\"body\":\"{body}\"}}"
        )?;
        if self.text.len() > 60_000 {
            self.flush().await?;
        }
        Ok(())
    }

    pub async fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(self.text.as_bytes()).await?;
        self.text.clear();
        Ok(self.stream.flush().await?)
    }
}

/// Answers until somebody follows.
async fn serve(
    mut stream: TlsStream<TcpStream>,
    out: mpsc::Sender<Follower>,
) -> anyhow::Result<()> {
    loop {
        let head = head(&mut stream).await?;
        let line = head.lines().next().unwrap_or_default();
        let now = Timestamp::from(SystemClock.utc());
        // There is one partition; who asks from where gets no other place.
        let from = line.split("sequence%3A").nth(1).unwrap_or("0");
        let digits = from.chars().take_while(char::is_ascii_digit);
        let begin: u64 = digits.collect::<String>().parse().unwrap_or(0);
        let place = format!("azimuth-sequence-numbers: {begin}\r\nazimuth-time: {now}\r\n");
        if line.contains("follow=true") {
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{place}\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            let follower = Follower {
                stream,
                sequence: begin,
                text: String::new(),
            };
            return Ok(out.send(follower).await?);
        }
        ensure!(
            line.contains("follow=false"),
            "nothing else is asked: {line}"
        );
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{place}\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
    }
}

async fn head(stream: &mut TlsStream<TcpStream>) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 10_000, "the head of a request does not end");
        let Ok(byte) = stream.read_u8().await else {
            bail!("the client went");
        };
        head.push(byte);
    }
    Ok(String::from_utf8(head)?)
}
