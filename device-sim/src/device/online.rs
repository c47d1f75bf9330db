//! The device at its hub: heartbeats, acknowledgements, pings, and a new token in time.

use std::time::{Duration, Instant};

use azimuth_wire::topic::hub::{DeviceTopic, HubTopic};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnectReturnCode, Packet, PubAck, Publish, Subscribe, SubscribeFilter,
};

use super::heartbeats::{Heartbeats, packet_id_of};
use super::{Aim, Count, Device, Now, Output, PING_PATIENCE, State};
use crate::body;
use crate::fault::{Fault, FaultKind};
use crate::hello;
use crate::step::Step;

/// Beyond the ids that messages take.
const SUBSCRIBE_ID: u16 = u16::MAX;

impl Device {
    pub(super) fn greet_hub(&mut self, now: Now) {
        if let Some(to) = &self.assignment {
            let connect = hello::hub(
                &self.plan,
                &to.hub,
                &self.name,
                to.device.as_str(),
                to.key.as_ref(),
                now.unix,
            );
            self.send(Packet::Connect(connect));
        }
    }

    /// The hub's answer to CONNECT.
    pub(super) fn hear_verdict(&mut self, packet: Packet, now: Now) {
        let State::Connecting { since, .. } = self.state else {
            return;
        };
        let Packet::ConnAck(ack) = packet else {
            self.outbox.push_back(Output::Hang);
            let sentence = format!(
                "{} answered CONNECT with something other than CONNACK",
                self.peer()
            );
            return self.retry(
                Aim::Connect,
                Fault::new(FaultKind::Protocol, sentence),
                None,
                now,
            );
        };
        if ack.code != ConnectReturnCode::Success {
            return self.refused_by_hub(ack.code, now);
        }
        self.tries = 0;
        self.refusals = 0;
        self.state = State::Online {
            renew_at: hello::use_of_token(&self.plan).map(|used| now.at + used),
            spoke_at: now.at,
            heard_at: now.at,
            pong_by: None,
        };
        if let Some(to) = &self.assignment {
            let hub = to.hub.to_string();
            let took = now.at.saturating_duration_since(since);
            self.say(Step::Connected { hub, took });
        }
        if let Some(since) = self.out_since.take() {
            let took = now.at.saturating_duration_since(since);
            self.count(Count::Outage { took, over: true });
        }
        if self.plan.subscribe {
            self.subscribe();
        }
        if self.heartbeats.is_none() {
            self.heartbeats = Some(Heartbeats::starting(now.at));
        }
        self.resend();
        self.beat(now);
    }

    pub(super) fn hear_hub(&mut self, packet: Packet, now: Now) {
        if let State::Online {
            heard_at, pong_by, ..
        } = &mut self.state
        {
            *heard_at = now.at;
            if packet == Packet::PingResp {
                *pong_by = None;
            }
        }
        match packet {
            Packet::PubAck(ack) => self.acknowledged(ack.pkid, now),
            Packet::Publish(publish) => self.hear_message(&publish),
            // PINGRESP and SUBACK; anything else is none of a server's packets, and does no harm.
            _ => {}
        }
        self.pump(now);
    }

    pub(super) fn online_timeout(&mut self, now: Now) {
        let State::Online {
            renew_at,
            spoke_at,
            heard_at,
            pong_by,
        } = self.state
        else {
            return;
        };
        if pong_by.is_some_and(|by| by <= now.at) {
            return self.half_open(now);
        }
        if renew_at.is_some_and(|at| at <= now.at) {
            self.say(Step::Renewing);
            self.send(Packet::Disconnect);
            self.outbox.push_back(Output::Hang);
            return self.begin(Aim::Connect, now, now.at);
        }
        if pong_by.is_none() && self.ping_at(spoke_at, heard_at) <= now.at {
            let by = now.at + self.ping_patience();
            if let State::Online { pong_by, .. } = &mut self.state {
                *pong_by = Some(by);
            }
            self.send(Packet::PingReq);
            self.spoke(now);
        }
    }

    /// Keep-alive counts from the last packet that was sent [MQTT-3.1.2-23]. A hub that is not heard
    /// is pinged as well: what is written into a cut network looks sent for a quarter of an hour.
    pub(super) fn ping_at(&self, spoke_at: Instant, heard_at: Instant) -> Instant {
        spoke_at.min(heard_at) + self.plan.keep_alive.mul_f64(0.75)
    }

    fn ping_patience(&self) -> Duration {
        PING_PATIENCE.min(self.plan.keep_alive / 2)
    }

    /// Nothing came for a PINGREQ: the line is there on this side only.
    fn half_open(&mut self, now: Now) {
        self.outbox.push_back(Output::Hang);
        let fault = Fault::new(
            FaultKind::PingLost,
            format!(
                "{} did not answer a PINGREQ within {} s: the network between is cut, or the hub hangs. In a container: is it still attached to the hub's network?",
                self.peer(),
                self.ping_patience().as_secs_f64()
            ),
        );
        self.handle_lost(fault, now);
    }

    /// Notes which messages have become due, and sends them while there is room.
    pub(super) fn beat(&mut self, now: Now) {
        let stopped = self.stop_by.is_some() || self.over();
        if let Some(beats) = &mut self.heartbeats
            && !stopped
        {
            let due = beats.note_due(&self.plan, self.chance, now.at);
            if due > 0 {
                self.count(Count::Due(due));
            }
        }
        self.pump(now);
    }

    /// Sends what is due while there is room, and leaves when nothing is left to do.
    fn pump(&mut self, now: Now) {
        if !self.online() {
            return;
        }
        while let Some(number) = self.next_to_send() {
            self.publish(number, false);
            self.spoke(now);
        }
        let beats = self.heartbeats.as_ref();
        let complete = beats.is_some_and(|beats| beats.complete(&self.plan));
        if complete || (self.stop_by.is_some() && self.settled()) {
            self.leave(now);
        }
    }

    pub(super) fn settled(&self) -> bool {
        self.heartbeats.as_ref().is_none_or(Heartbeats::settled)
    }

    fn next_to_send(&mut self) -> Option<u64> {
        self.heartbeats.as_mut()?.take(&self.plan)
    }

    fn publish(&mut self, number: u64, again: bool) {
        let Some(identity) = self.identity() else {
            return;
        };
        let mut publish = body::heartbeat(&identity, number, self.plan.payload_bytes, self.chance);
        if self.plan.at_least_once {
            publish.pkid = packet_id_of(number);
            publish.dup = again;
        } else {
            publish.qos = QoS::AtMostOnce;
        }
        self.send(Packet::Publish(publish));
        self.count(if again { Count::Resent } else { Count::Sent });
    }

    /// What no PUBACK came for goes out again under its old id, marked [MQTT-4.4.0-1].
    fn resend(&mut self) {
        let under_way = self.heartbeats.as_ref().map(Heartbeats::under_way);
        for number in under_way.unwrap_or_default() {
            self.publish(number, true);
        }
    }

    fn acknowledged(&mut self, packet_id: u16, now: Now) {
        let Some(beats) = &mut self.heartbeats else {
            return;
        };
        let Some(number) = beats.acknowledge(packet_id) else {
            return;
        };
        let due = beats.due_at(number, &self.plan, self.chance);
        let late = due.map_or_else(Default::default, |due| {
            now.at.saturating_duration_since(due)
        });
        self.count(Count::Acknowledged(late));
        if !self.first_acknowledged {
            self.first_acknowledged = true;
            self.say(Step::FirstAcknowledged);
        }
    }

    fn subscribe(&mut self) {
        let Some(identity) = self.identity() else {
            return;
        };
        let filters = [
            format!("devices/{identity}/messages/devicebound/#"),
            "$iothub/methods/POST/#".into(),
            "$iothub/twin/res/#".into(),
            "$iothub/twin/PATCH/properties/desired/#".into(),
        ];
        let filters = filters.map(|path| SubscribeFilter::new(path, QoS::AtLeastOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = SUBSCRIBE_ID;
        self.send(Packet::Subscribe(subscribe));
    }

    fn hear_message(&mut self, publish: &Publish) {
        if publish.qos == QoS::AtLeastOnce {
            self.send(Packet::PubAck(PubAck::new(publish.pkid)));
        }
        let Some(identity) = self.identity() else {
            return;
        };
        if let Some(HubTopic::Method { request_id, .. }) =
            HubTopic::parse(&publish.topic, &identity)
        {
            let topic = DeviceTopic::MethodResponse {
                status: 200,
                request_id,
            };
            let answer = Publish::new(topic.text(&identity), QoS::AtMostOnce, "{}");
            self.send(Packet::Publish(answer));
        }
    }

    fn refused_by_hub(&mut self, code: ConnectReturnCode, now: Now) {
        let number = code as u8;
        let reason = match code {
            ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
                self.refusals += 1;
                "the device is unknown or disabled, or its key or certificate is another"
            }
            ConnectReturnCode::ServiceUnavailable => "it is not ready, or throttles",
            ConnectReturnCode::BadClientId => "it does not accept the client id",
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
            ConnectReturnCode::Success => "it let the device in",
        };
        self.outbox.push_back(Output::Hang);
        let fault = Fault::new(
            FaultKind::HubConnack(number),
            format!(
                "{} refused the CONNECT with return code {number}: {reason}. `azimuth why` tells Azimuth's reasons",
                self.peer()
            ),
        );
        self.retry(Aim::Connect, fault, None, now);
    }

    fn spoke(&mut self, now: Now) {
        if let State::Online { spoke_at, .. } = &mut self.state {
            *spoke_at = now.at;
        }
    }
}
