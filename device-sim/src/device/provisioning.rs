//! The device at the DPS: subscribe, register, poll until assigned, and obey `retry-after`.

use std::time::Instant;

use azimuth_wire::topic::dps::{RESPONSES, RequestTopic, ResponseTopic};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnectReturnCode, Packet, PubAck, Publish, Subscribe, SubscribeReasonCode,
};

use super::registration::Answer;
use super::{Aim, Device, Now, Output, PATIENCE, State};
use crate::fault::{Fault, FaultKind};
use crate::hello;
use crate::step::Step;

/// How far a registration has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Dialling,
    /// CONNECT sent.
    Greeting {
        by: Instant,
    },
    /// SUBSCRIBE sent.
    Subscribing {
        by: Instant,
    },
    /// A request sent; its number is its `$rid`.
    Asking {
        request: u16,
        about: Option<Box<str>>,
        by: Instant,
    },
    /// The next request, number `request`, is sent at `until`.
    Pausing {
        request: u16,
        about: Option<Box<str>>,
        until: Instant,
    },
}

impl Stage {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Dialling => None,
            Self::Greeting { by } | Self::Subscribing { by } | Self::Asking { by, .. } => Some(*by),
            Self::Pausing { until, .. } => Some(*until),
        }
    }

    /// A wait that the DPS asked for outlives the line.
    pub(super) fn not_before(&self) -> Option<Instant> {
        match self {
            Self::Pausing { until, .. } => Some(*until),
            Self::Dialling
            | Self::Greeting { .. }
            | Self::Subscribing { .. }
            | Self::Asking { .. } => None,
        }
    }
}

impl Device {
    pub(super) fn greet_dps(&mut self, now: Now) {
        if let Some(dps) = &self.plan.provisioning {
            let connect = hello::dps(&self.plan, dps, &self.name, now.unix);
            self.send(Packet::Connect(connect));
        }
    }

    pub(super) fn hear_dps(&mut self, packet: Packet, now: Now) {
        let State::Provisioning { since, stage } = &self.state else {
            return;
        };
        let since = *since;
        match (stage.clone(), packet) {
            (Stage::Greeting { .. }, Packet::ConnAck(ack))
                if ack.code == ConnectReturnCode::Success =>
            {
                let mut subscribe = Subscribe::new(RESPONSES, QoS::AtLeastOnce);
                subscribe.pkid = 1;
                self.send(Packet::Subscribe(subscribe));
                self.enter(
                    since,
                    Stage::Subscribing {
                        by: now.at + PATIENCE,
                    },
                );
            }
            (Stage::Greeting { .. }, Packet::ConnAck(ack)) => self.refused_by_dps(ack.code, now),
            (Stage::Subscribing { .. }, Packet::SubAck(ack)) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    let sentence = "the DPS refused the subscription to its answers";
                    return self.fail_at_dps(Fault::new(FaultKind::Protocol, sentence), now);
                }
                self.say(Step::ProvisioningConnected);
                self.ask(since, 1, None, now);
            }
            (Stage::Asking { request, about, .. }, Packet::Publish(publish)) => {
                if publish.qos == QoS::AtLeastOnce {
                    self.send(Packet::PubAck(PubAck::new(publish.pkid)));
                }
                self.hear_answer(since, request, about, &publish, now);
            }
            (Stage::Pausing { .. }, Packet::Publish(publish))
                if publish.qos == QoS::AtLeastOnce =>
            {
                self.send(Packet::PubAck(PubAck::new(publish.pkid)));
            }
            // PUBACKs of requests say nothing: the answer counts.
            _ => {}
        }
    }

    pub(super) fn provisioning_timeout(&mut self, now: Now) {
        let State::Provisioning { since, stage } = &self.state else {
            return;
        };
        if stage.deadline().is_none_or(|by| by > now.at) {
            return;
        }
        match stage.clone() {
            Stage::Pausing { request, about, .. } => self.ask(*since, request, about, now),
            Stage::Dialling
            | Stage::Greeting { .. }
            | Stage::Subscribing { .. }
            | Stage::Asking { .. } => {
                self.give_up_waiting(now);
            }
        }
    }

    /// Registers, or asks `about` an operation.
    pub(super) fn ask(&mut self, since: Instant, request: u16, about: Option<Box<str>>, now: Now) {
        let by = now.at + PATIENCE;
        if self.tpm.is_some() {
            self.ask_over_https(about.as_deref());
            return self.enter(since, Stage::Asking { request, about, by });
        }
        let id = request.to_string();
        let topic = match &about {
            None => RequestTopic::Register { request_id: &id },
            Some(operation) => RequestTopic::OperationStatus {
                request_id: &id,
                operation_id: operation,
            },
        };
        let body = format!(r#"{{"registrationId":"{}"}}"#, self.name);
        let mut publish = Publish::new(topic.to_string(), QoS::AtLeastOnce, body);
        publish.pkid = request.saturating_add(1);
        self.send(Packet::Publish(publish));
        self.enter(since, Stage::Asking { request, about, by });
    }

    fn hear_answer(
        &mut self,
        since: Instant,
        request: u16,
        about: Option<Box<str>>,
        publish: &Publish,
        now: Now,
    ) {
        let Some(topic) = ResponseTopic::parse(&publish.topic) else {
            return;
        };
        if topic.request_id != request.to_string() {
            return;
        }
        let answer = Answer::read(topic.status, topic.retry_after, &publish.payload);
        self.obey(since, request, about, answer, now);
    }

    /// Does what an answer to `request` says, whichever way it came.
    pub(super) fn obey(
        &mut self,
        since: Instant,
        request: u16,
        about: Option<Box<str>>,
        answer: Answer,
        now: Now,
    ) {
        let request = request.checked_add(1).unwrap_or(1);
        match answer {
            Answer::Assigned { to, tpm } => {
                let assignment = match self.with_key(to, tpm) {
                    Ok(assignment) => assignment,
                    Err(fault) => return self.fail_at_dps(fault, now),
                };
                self.say(Step::Assigned {
                    hub: assignment.hub.to_string(),
                    device_id: assignment.device.to_string(),
                    took: now.at.saturating_duration_since(since),
                });
                self.assignment = Some(assignment);
                self.send(Packet::Disconnect);
                self.outbox.push_back(Output::Hang);
                self.begin(Aim::Connect, now, now.at);
            }
            Answer::Assigning { operation, wait } => {
                self.say(Step::Assigning { retry_after: wait });
                let until = now.at + wait;
                let about = Some(operation);
                self.enter(
                    since,
                    Stage::Pausing {
                        request,
                        about,
                        until,
                    },
                );
            }
            Answer::Again {
                wait: Some(wait),
                fault,
            } => {
                self.tries = self.tries.saturating_add(1);
                if self
                    .plan
                    .give_up_after
                    .is_some_and(|most| self.tries >= most)
                {
                    return self.fail_at_dps(fault, now);
                }
                self.say(Step::Throttled { retry_after: wait });
                let until = now.at + wait;
                self.enter(
                    since,
                    Stage::Pausing {
                        request,
                        about,
                        until,
                    },
                );
            }
            Answer::Again { wait: None, fault } => {
                self.send(Packet::Disconnect);
                self.outbox.push_back(Output::Hang);
                self.retry(Aim::Provision, fault, None, now);
            }
            Answer::Never(fault) => self.fail_at_dps(fault, now),
        }
    }

    fn refused_by_dps(&mut self, code: ConnectReturnCode, now: Now) {
        let number = code as u8;
        let kind = FaultKind::ProvisioningConnack(number);
        self.outbox.push_back(Output::Hang);
        match code {
            // Azure answers 3 to an unknown id scope, but a service that is down says the same.
            ConnectReturnCode::ServiceUnavailable => {
                let sentence = format!(
                    "{} refused the CONNECT with return code 3: it does not know the id scope, or is not ready",
                    self.peer()
                );
                self.retry(Aim::Provision, Fault::new(kind, sentence), None, now);
            }
            _ => {
                let sentence = format!(
                    "{} refused the CONNECT with return code {number}: it does not accept user name or client id. `azimuth why` tells Azimuth's reasons",
                    self.peer()
                );
                self.fail(Fault::new(kind, sentence), now);
            }
        }
    }

    pub(super) fn fail_at_dps(&mut self, fault: Fault, now: Now) {
        self.send(Packet::Disconnect);
        self.outbox.push_back(Output::Hang);
        self.fail(fault, now);
    }

    pub(super) fn enter(&mut self, since: Instant, stage: Stage) {
        self.state = State::Provisioning { since, stage };
    }
}
