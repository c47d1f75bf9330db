//! A hub that tells its event log to who asks for what there is, and keeps silent towards who follows.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azimuth_clock::{Clock, SystemClock};
use azimuth_monitor::{Error, Hub, Request};
use azimuth_wire::time::Timestamp;
use reqwest::Response;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub struct Stub {
    port: u16,
    client: reqwest::Client,
    pub state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    events: Vec<(String, SystemTime)>,
    /// Sends at every request for events, a moment before it.
    pub steady: Option<String>,
    /// Not in the registry any more.
    pub deleted: Vec<String>,
    /// There, and may not send.
    pub disabled: Vec<String>,
    /// Ends each stream of who follows at once.
    pub short: bool,
    /// Answers nothing but 503.
    pub down: bool,
    pub refused: usize,
    /// Where reading was begun, in order.
    pub asked: Vec<String>,
}

impl Stub {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The client wants one even for http.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let stub = Self {
            port,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            state: Arc::default(),
        };
        let state = stub.state.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, state.clone()));
            }
        });
        stub
    }

    pub fn beat(&self, device: &str) {
        let now = SystemClock.utc();
        self.state.lock().unwrap().events.push((device.into(), now));
    }
}

impl Hub for Stub {
    fn name(&self) -> &str {
        "stub"
    }

    async fn ask(&self, request: Request<'_>) -> Result<Response, Error> {
        let query: Vec<_> = request
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let url = format!(
            "http://127.0.0.1:{}{}?{}",
            self.port,
            request.path,
            query.join("&")
        );
        let mut asked = self.client.request(request.method, url);
        if let Some(body) = request.body {
            asked = asked.body(body.to_string());
        }
        let answer = asked.send().await;
        answer.map_err(|error| Error::Unreachable(error.to_string()))
    }
}

async fn serve(mut socket: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut text = String::new();
    loop {
        let (head, body) = request(&mut socket, &mut text).await?;
        let follow = head.contains("follow=true");
        let answer = state.lock().unwrap().answer(&head, &body);
        socket.write_all(answer.as_bytes()).await.ok()?;
        if follow && answer.starts_with("HTTP/1.1 200") {
            if state.lock().unwrap().short {
                return None;
            }
            // Never a word; the end is the client's.
            socket.read_u8().await.ok()?;
        }
    }
}

async fn request(socket: &mut TcpStream, text: &mut String) -> Option<(String, String)> {
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if rest.len() >= length {
                let (head, body) = (head.to_owned(), rest[..length].to_owned());
                *text = rest[length..].to_owned();
                return Some((head, body));
            }
        }
        let read = socket
            .read(&mut buffer)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}

impl State {
    fn answer(&mut self, head: &str, body: &str) -> String {
        if self.down {
            self.refused += 1;
            return "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".into();
        }
        if head.starts_with("POST /devices/query") {
            return self.rows(body);
        }
        let now = SystemClock.utc();
        if let Some(steady) = &self.steady {
            self.events
                .push((steady.clone(), now - Duration::from_millis(1)));
        }
        let from = head.split("from=").nth(1).unwrap();
        let from = from.split('&').next().unwrap().to_owned();
        let begin = match from.strip_prefix("sequence:") {
            Some(number) => number.parse().unwrap(),
            None => 0,
        };
        self.asked.push(from);
        let place = format!(
            "azimuth-sequence-numbers: {begin}\r\nazimuth-time: {}\r\n",
            Timestamp::from(now)
        );
        if head.contains("follow=true") {
            return format!("HTTP/1.1 200 OK\r\n{place}\r\n");
        }
        let events = self.events.iter().enumerate().skip(begin);
        let lines: String = events
            .map(|(number, (device, at))| line(number, device, *at))
            .collect();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{place}\r\n{lines}",
            lines.len()
        )
    }

    /// Every device that the query names, unless it was deleted.
    fn rows(&self, query: &str) -> String {
        let named = query.split('\'').skip(1).step_by(2);
        let known = named.filter(|device| !self.deleted.iter().any(|gone| gone == device));
        let rows: Vec<_> = known
            .map(|device| {
                let may_send = !self.disabled.iter().any(|off| off == device);
                let status = if may_send { "enabled" } else { "disabled" };
                json!({ "deviceId": device, "status": status })
            })
            .collect();
        let rows = json!(rows).to_string();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{rows}",
            rows.len()
        )
    }
}

fn line(number: usize, device: &str, at: SystemTime) -> String {
    let line = json!({
        "partition": 0, "sequenceNumber": number, "enqueuedTimeUtc": Timestamp::from(at),
        "systemProperties": { "iothub-connection-device-id": device, "iothub-message-source": "Telemetry" },
    });
    format!("{line}\n")
}
