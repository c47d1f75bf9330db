//! A server of one page: TLS, and for each packet that comes what a closure says.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub enum Reply {
    Send(Packet),
    /// Drop the socket without a word.
    Kill,
}

/// Told the number of the connection, from 1, and what came on it.
pub type Manner = dyn Fn(usize, &Packet) -> Vec<Reply> + Send + Sync;

pub struct Mini {
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    pub seen: Arc<Mutex<Vec<(usize, Packet)>>>,
}

pub fn identity(names: &[&str]) -> (CertificateDer<'static>, Vec<u8>) {
    let names = names
        .iter()
        .map(|name| name.to_string())
        .collect::<Vec<_>>();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.der().clone(), made.signing_key.serialize_der())
}

pub fn acceptor(certificate: CertificateDer<'static>, key: Vec<u8>) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub fn trusting(certificates: &[CertificateDer<'static>]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

impl Mini {
    pub async fn start(names: &[&str], manner: Arc<Manner>) -> Self {
        let (certificate, key) = identity(names);
        let tls = acceptor(certificate.clone(), key);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let log = seen.clone();
        tokio::spawn(async move {
            for number in 1.. {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, log, manner) = (tls.clone(), log.clone(), manner.clone());
                tokio::spawn(async move {
                    serve(socket, tls, number, &log, &*manner).await;
                });
            }
        });
        Self {
            address,
            certificate,
            seen,
        }
    }

    pub fn seen(&self) -> Vec<(usize, Packet)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    socket: TcpStream,
    tls: TlsAcceptor,
    number: usize,
    log: &Mutex<Vec<(usize, Packet)>>,
    manner: &Manner,
) {
    socket.set_nodelay(true).unwrap();
    let Ok(mut stream) = tls.accept(socket).await else {
        return;
    };
    let mut buffer = BytesMut::new();
    loop {
        while let Ok(packet) = Packet::read(&mut buffer, 1 << 20) {
            log.lock().unwrap().push((number, packet.clone()));
            let mut answer = BytesMut::new();
            for reply in manner(number, &packet) {
                match reply {
                    Reply::Send(packet) => drop(packet.write(&mut answer, 1 << 20).unwrap()),
                    Reply::Kill => return,
                }
            }
            if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

pub fn connack(code: ConnectReturnCode) -> Vec<Reply> {
    vec![Reply::Send(Packet::ConnAck(ConnAck::new(code, false)))]
}

/// Lets everyone in and acknowledges everything.
pub fn polite(packet: &Packet) -> Vec<Reply> {
    let reply = match packet {
        Packet::Connect(_) => return connack(ConnectReturnCode::Success),
        Packet::Subscribe(subscribe) => Packet::SubAck(SubAck::new(
            subscribe.pkid,
            vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()],
        )),
        Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
            Packet::PubAck(PubAck::new(publish.pkid))
        }
        Packet::PingReq => Packet::PingResp,
        _ => return vec![],
    };
    vec![Reply::Send(reply)]
}

/// An answer of a DPS to the request `publish`.
pub fn answer(publish: &Publish, status: u16, retry_after: &str, body: &str) -> Vec<Reply> {
    let request = publish.topic.split_once("$rid=").unwrap().1;
    let request = request.split('&').next().unwrap();
    let topic = format!("$dps/registrations/res/{status}/?$rid={request}{retry_after}");
    let mut response = Publish::new(topic, QoS::AtLeastOnce, body);
    response.pkid = 2;
    vec![
        Reply::Send(Packet::PubAck(PubAck::new(publish.pkid))),
        Reply::Send(Packet::Publish(response)),
    ]
}
