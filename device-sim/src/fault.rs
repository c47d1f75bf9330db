//! What went wrong for a device, counted by kind and told in a sentence that says what to do.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// One thing that went wrong. The sentence holds no key and no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub sentence: String,
}

/// Faults of one kind are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// The name has no address.
    Dns,
    /// Nobody listens at the address.
    ConnectRefused,
    /// No route, no source address, no free port.
    Unreachable,
    /// The process has no descriptors left.
    Descriptors,
    /// TCP or TLS did not come about in time.
    ConnectTimeout,
    /// The server's certificate does not chain to a CA that is trusted here.
    TlsUntrusted,
    /// The server's certificate is for other names.
    TlsName,
    /// The server's certificate is not valid at this time.
    TlsExpired,
    /// Anything else of TLS.
    Tls,
    /// The server ended the connection in good order: it stops, refuses, or the device came twice.
    Closed,
    /// The stream ended without TLS's goodbye: the server's process is gone.
    Cut,
    /// TCP was reset.
    Reset,
    /// A PINGREQ was not answered in time.
    PingLost,
    /// An answer did not come in time.
    NoAnswer,
    /// What came is not MQTT 3.1.1, or not what Azure answers.
    Protocol,
    /// The DPS refused the CONNECT with this return code.
    ProvisioningConnack(u8),
    /// The DPS answered the registration with this status.
    ProvisioningStatus(u16),
    /// The registration ended in `failed`.
    ProvisioningFailed,
    /// The enrollment is disabled.
    ProvisioningDisabled,
    /// The hub refused the CONNECT with this return code.
    HubConnack(u8),
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            sentence: sentence.into(),
        }
    }

    /// A TCP connection from which nothing came. `place` is `name (address:port)`.
    pub(crate) fn dialling(place: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::new(
                FaultKind::ConnectRefused,
                format!(
                    "{place} refuses the connection: nobody listens at this address. Is it started, and is the port right? A container that started anew may have another address; names are asked for again at the next try"
                ),
            ),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::new(
                FaultKind::Unreachable,
                format!(
                    "no free port towards {place}: {error}. Give more source addresses, for example 127.0.1.0/24"
                ),
            ),
            // ENFILE and EMFILE have no ErrorKind of their own.
            _ if matches!(error.raw_os_error(), Some(23 | 24)) => Self::new(
                FaultKind::Descriptors,
                format!(
                    "no descriptor left for {place}: {error}. Use fewer devices or `--shard i/n`"
                ),
            ),
            io::ErrorKind::TimedOut => Self::timeout(place),
            _ => Self::unreachable(place, error),
        }
    }

    fn unreachable(place: &str, error: &io::Error) -> Self {
        Self::new(
            FaultKind::Unreachable,
            format!(
                "{place} cannot be reached: {error}. Is there a route to it? In a container: is this one attached to a network that the server is in, and does the server run?"
            ),
        )
    }

    /// A name without an address.
    pub(crate) fn unknown_name(host: &str, reason: &str) -> Self {
        Self::new(
            FaultKind::Dns,
            format!(
                "the name {host} cannot be resolved: {reason}. In a container: is this one attached to the network that has {host} as an alias, and does the server run? Elsewhere: add it to the hosts file, or say which address to dial with `--resolve {host}=ADDRESS`"
            ),
        )
    }

    pub(crate) fn timeout(place: &str) -> Self {
        Self::new(
            FaultKind::ConnectTimeout,
            format!(
                "{place} did not finish TCP and TLS in time: a firewall or a cut network drops packets, or it is overloaded. In a container: is the server still attached to this network? Under load: use a slower ramp"
            ),
        )
    }

    /// A handshake that failed, or a connection that broke later.
    pub(crate) fn broken(place: &str, error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => Self::tls(place, tls),
            None => Self::broken_below_tls(place, error),
        }
    }

    fn broken_below_tls(place: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::new(
                FaultKind::Cut,
                format!(
                    "{place} ended the stream without a goodbye of TLS: its process was killed, something between cut the line, or the port does not speak TLS"
                ),
            ),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::new(
                FaultKind::Reset,
                format!(
                    "{place} reset the connection: its process was killed, or something between cut the line"
                ),
            ),
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::unreachable(place, error),
            _ => Self::new(
                FaultKind::Closed,
                format!(
                    "{place} broke the connection: {error}. `azimuth why` tells Azimuth's reasons"
                ),
            ),
        }
    }

    fn tls(place: &str, error: &rustls::Error) -> Self {
        use rustls::CertificateError as Bad;
        let rustls::Error::InvalidCertificate(reason) = error else {
            return Self::new(
                FaultKind::Tls,
                format!("TLS with {place} failed: {error}. Is the port one that speaks TLS?"),
            );
        };
        match reason {
            Bad::UnknownIssuer | Bad::BadSignature => Self::new(
                FaultKind::TlsUntrusted,
                format!(
                    "the certificate of {place} is signed by a CA that is not trusted here: give its CA file with `--ca`. In a container: does the volume with the CA belong to this server, and was the CA made anew since?"
                ),
            ),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::new(
                FaultKind::TlsName,
                format!(
                    "the certificate of {place} does not name this host: {reason}. Dial it by a name that the certificate has, or add the name to `host-names` of the service; a container that took over an old address answers so, too"
                ),
            ),
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. } => Self::new(
                FaultKind::TlsExpired,
                format!("the certificate of {place} is not valid now: {reason}. Check both clocks"),
            ),
            // rustls may add reasons at any time.
            other => Self::new(
                FaultKind::Tls,
                format!("the certificate of {place} is not accepted: {other}"),
            ),
        }
    }

    /// The peer ended the stream in good order.
    pub(crate) fn closed(place: &str) -> Self {
        Self::new(
            FaultKind::Closed,
            format!(
                "{place} closed the connection: it stops, or the same device connected elsewhere, or a rule was broken; `azimuth why` tells Azimuth's reasons"
            ),
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The kind as reports name it: `dns`, `connect-refused`, `provisioning-401` …
impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: Cow<'_, str> = match self {
            Self::Dns => "dns".into(),
            Self::ConnectRefused => "connect-refused".into(),
            Self::Unreachable => "unreachable".into(),
            Self::Descriptors => "descriptors".into(),
            Self::ConnectTimeout => "connect-timeout".into(),
            Self::TlsUntrusted => "tls-untrusted".into(),
            Self::TlsName => "tls-name".into(),
            Self::TlsExpired => "tls-expired".into(),
            Self::Tls => "tls".into(),
            Self::Closed => "closed".into(),
            Self::Cut => "cut".into(),
            Self::Reset => "reset".into(),
            Self::PingLost => "ping-lost".into(),
            Self::NoAnswer => "no-answer".into(),
            Self::Protocol => "protocol".into(),
            Self::ProvisioningConnack(code) => format!("provisioning-connack-{code}").into(),
            Self::ProvisioningStatus(status) => format!("provisioning-{status}").into(),
            Self::ProvisioningFailed => "provisioning-failed".into(),
            Self::ProvisioningDisabled => "provisioning-disabled".into(),
            Self::HubConnack(code) => format!("hub-connack-{code}").into(),
        };
        f.write_str(&name)
    }
}
