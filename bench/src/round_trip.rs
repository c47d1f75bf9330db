//! Clients that ask and wait for the answer, which may come before or after the PUBACK.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use azimuth_wire::topic::dps::{RESPONSES, RequestTopic};
use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::credentials::device_id;
use crate::line::{Line, Target};
use crate::plan::Plan;
use crate::server::Server;
use crate::telemetry::{Acknowledged, Tally, early};

/// A client and what it asks.
pub struct Asker {
    line: Line,
    request: Publish,
}

impl Asker {
    /// Registers at a DPS and waits until it is assigned; then asks for the state of that operation.
    pub async fn at_dps(target: &Target, client: usize) -> anyhow::Result<Self> {
        let mut line = target.enter(client).await?;
        line.subscribe(&[RESPONSES.to_owned()]).await?;
        let operation_id = register(&mut line, client, Duration::ZERO)
            .await?
            .operation_id;
        let topic = RequestTopic::OperationStatus {
            request_id: "2",
            operation_id: &operation_id,
        }
        .to_string();
        Ok(Self {
            line,
            request: Publish::new(topic, QoS::AtLeastOnce, Vec::new()),
        })
    }

    /// Asks the responder behind a broker.
    pub async fn at_broker(target: &Target, client: usize) -> anyhow::Result<Self> {
        let mut line = target.enter(client).await?;
        line.subscribe(&[format!("res/{}/#", device_id(client))])
            .await?;
        let request = Publish::new(
            format!("req/{}", device_id(client)),
            QoS::AtLeastOnce,
            vec![b'x'; 100],
        );
        Ok(Self { line, request })
    }

    async fn ask_and_ask(mut self, tally: Arc<Tally>) -> anyhow::Result<Line> {
        let mut bytes = BytesMut::new();
        let mut id = 0u16;
        while !tally.stopped() {
            id = id.checked_add(1).unwrap_or(1);
            self.request.pkid = id;
            self.request.write(&mut bytes)?;
            let sent = Instant::now();
            self.line.send(&bytes).await?;
            bytes.clear();
            let (mut acknowledged, mut answered) = (false, false);
            while !(acknowledged && answered) {
                match self.line.next().await? {
                    Packet::PubAck(ack) => acknowledged |= ack.pkid == id,
                    Packet::Publish(answer) => {
                        answered = true;
                        // Goes out together with the next question.
                        if answer.qos != QoS::AtMostOnce {
                            PubAck::new(answer.pkid).write(&mut bytes)?;
                        }
                    }
                    _ => {}
                }
            }
            tally.record(sent.elapsed());
        }
        self.line.send(&bytes).await?;
        Ok(self.line)
    }
}

/// A registration that came to its end.
pub struct Registered {
    pub operation_id: String,
    pub polls: u16,
}

/// Registers one device and polls, each time after `pause`, until it is assigned.
pub async fn register(
    line: &mut Line,
    client: usize,
    pause: Duration,
) -> anyhow::Result<Registered> {
    let body = serde_json::json!({ "registrationId": device_id(client) }).to_string();
    let mut topic = RequestTopic::Register { request_id: "1" }.to_string();
    let mut body = body.into_bytes();
    for id in 1..=1_000u16 {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, std::mem::take(&mut body));
        publish.pkid = id;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes)?;
        line.send(&bytes).await?;
        let answer = line.next_publish().await?;
        let state: serde_json::Value =
            serde_json::from_slice(&answer.payload).context("the DPS did not answer JSON")?;
        let operation_id = state["operationId"].as_str().unwrap_or_default();
        match state["status"].as_str() {
            Some("assigned") => {
                return Ok(Registered {
                    operation_id: operation_id.to_owned(),
                    polls: id - 1,
                });
            }
            Some("assigning" | "unassigned") => {}
            _ => bail!(
                "client {client} was not registered: {} {state}",
                answer.topic
            ),
        }
        topic = RequestTopic::OperationStatus {
            request_id: "1",
            operation_id,
        }
        .to_string();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    bail!("client {client} was still not assigned after 1,000 polls")
}

/// Registers with a credential that the DPS must not take.
pub async fn be_refused(line: &mut Line) -> anyhow::Result<()> {
    let topic = RequestTopic::Register { request_id: "1" }.to_string();
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, Vec::new());
    publish.pkid = 1;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes)?;
    line.send(&bytes).await?;
    let answer = line.next_publish().await?;
    ensure!(
        answer.topic.starts_with("$dps/registrations/res/401"),
        "a wrong credential was answered on {}",
        answer.topic
    );
    Ok(())
}

/// All ask, each again when it was answered.
pub async fn measure(
    server: &Server,
    askers: Vec<Asker>,
    plan: &Plan,
) -> anyhow::Result<Acknowledged> {
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for asker in askers {
        clients.spawn(asker.ask_and_ask(tally.clone()));
    }
    let measured = tokio::select! {
        measured = tally.measure(server, plan) => measured?,
        Some(ended) = clients.join_next() => return Err(early(ended)),
    };
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(measured)
}

/// A client that answers every `req/X` on `res/X/`, acknowledgements and answers of one read in one write.
pub async fn responder(
    target: &Target,
    client: usize,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let mut line = target.enter(client).await?;
    line.subscribe(&["req/#".to_owned()]).await?;
    Ok(tokio::spawn(async move {
        let (mut bytes, mut id) = (BytesMut::new(), 0u16);
        loop {
            line.fill().await?;
            while let Some(packet) = line.buffered()? {
                let Packet::Publish(request) = packet else {
                    continue;
                };
                PubAck::new(request.pkid).write(&mut bytes)?;
                let name = request.topic.strip_prefix("req/").unwrap_or_default();
                let mut answer =
                    Publish::from_bytes(format!("res/{name}/"), QoS::AtLeastOnce, request.payload);
                id = id.checked_add(1).unwrap_or(1);
                answer.pkid = id;
                answer.write(&mut bytes)?;
            }
            line.send(&bytes).await?;
            bytes.clear();
        }
    }))
}
