//! One device's life, without a socket and without a clock.
//!
//! What happened comes in with the time it happened; what to do next goes out. After every input
//! drain [`Device::poll`] and wait no longer than [`Device::deadline`].
//!
//! ```text
//!            ┌──────────────── Waiting ◄───── lost, refused, no answer ─────┐
//!            ▼                    │                                         │
//!      Provisioning ──assigned──► Connecting ──CONNACK 0──► Online ─────────┘
//!            │  ▲                 │   ▲                      │  │
//!            │  └─ refused often ─┘   └──── token renewed ───┘  └─ all is sent
//!            └─ 401, disabled, failed ─────────────► Over ◄─────────────┘
//! ```
//!
//! A device that is told to stop goes on in this picture until all that was due is acknowledged or its
//! time is up, whatever its state: a hub that comes back in time still gets everything.

mod heartbeats;
mod online;
mod provisioning;
mod registration;
mod tpm;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azimuth_wire::{DeviceId, Identity};
use rumqttc::mqttbytes::v4::Packet;

use self::heartbeats::Heartbeats;
use self::provisioning::Stage;
use self::registration::Assignment;
use self::tpm::AtDps;
pub(crate) use self::tpm::{Reply, Request};
use crate::chance::{Chance, Question};
use crate::fault::{Fault, FaultKind};
use crate::plan::Plan;
use crate::step::Step;

/// How long an answer is waited for: Azure's C client gives 60 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a PINGRESP is waited for; half the keep-alive where that is shorter.
const PING_PATIENCE: Duration = Duration::from_secs(30);
/// Refusals of the hub in a row after which the DPS is asked anew.
const REFUSALS: u32 = 3;

/// A time on both faces of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub at: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// What the shell shall do, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    Dial(Endpoint),
    /// Ask the DPS over HTTPS.
    Ask(Request),
    Send(Packet),
    /// Close the line in good order.
    Hang,
    Step(Step),
    Count(Count),
}

/// What is counted besides steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Due(u64),
    Sent,
    Resent,
    /// With the time from when the message was due.
    Acknowledged(Duration),
    /// From when the loss of a connection was noticed until the device was connected again, or,
    /// where it is not `over`, until the device ended.
    Outage {
        took: Duration,
        over: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Over MQTT.
    Dps,
    /// Over HTTPS.
    DpsHttps,
    Hub(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Provision,
    Connect,
}

#[derive(Debug)]
enum State {
    Waiting {
        until: Instant,
        aim: Aim,
    },
    Provisioning {
        since: Instant,
        stage: Stage,
    },
    /// `answer_by` is known once TCP and TLS stand: how long those take is the shell's care.
    Connecting {
        since: Instant,
        answer_by: Option<Instant>,
    },
    Online {
        /// Where the device holds a token.
        renew_at: Option<Instant>,
        spoke_at: Instant,
        heard_at: Instant,
        pong_by: Option<Instant>,
    },
    Over,
}

/// See the module.
pub(crate) struct Device {
    plan: Arc<Plan>,
    name: Box<str>,
    chance: Chance,
    state: State,
    assignment: Option<Assignment>,
    /// Of a device with a TPM, which registers over HTTPS.
    tpm: Option<Box<AtDps>>,
    /// There from the first time the device is connected.
    heartbeats: Option<Heartbeats>,
    first_acknowledged: bool,
    /// Failed tries in a row.
    tries: u32,
    /// All waits so far: the number of the next draw.
    waits: u64,
    /// Refusals of the hub in a row.
    refusals: u32,
    /// Since when a device that has been connected is not.
    out_since: Option<Instant>,
    /// Told to stop: nothing becomes due any more, and what is due has until then.
    stop_by: Option<Instant>,
    outbox: VecDeque<Output>,
}

impl Device {
    /// The device `number` of the plan, from 0, whose life is due to begin at `start`.
    /// `None` when the plan has no such device or no valid name for it.
    pub(crate) fn new(plan: Arc<Plan>, number: u64, start: Instant) -> Option<Self> {
        let name = plan.name(number)?;
        let assignment = match plan.hub() {
            Some(hub) => Some(Assignment {
                hub: hub.into(),
                device: name.parse().ok()?,
                key: None,
            }),
            None => None,
        };
        let aim = match assignment {
            Some(_) => Aim::Connect,
            None => Aim::Provision,
        };
        Some(Self {
            chance: Chance::new(plan.seed, plan.place(number)),
            name: name.into(),
            state: State::Waiting { until: start, aim },
            assignment,
            tpm: AtDps::of(&plan, number),
            heartbeats: None,
            first_acknowledged: false,
            tries: 0,
            waits: 0,
            refusals: 0,
            out_since: None,
            stop_by: None,
            outbox: VecDeque::new(),
            plan,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// TCP and TLS stand.
    pub(crate) fn handle_line(&mut self, now: Now) {
        match &mut self.state {
            State::Provisioning { stage, .. } => {
                *stage = Stage::Greeting {
                    by: now.at + PATIENCE,
                };
                self.greet_dps(now);
            }
            State::Connecting { answer_by, .. } => {
                *answer_by = Some(now.at + PATIENCE);
                self.greet_hub(now);
            }
            State::Waiting { .. } | State::Online { .. } | State::Over => {}
        }
    }

    pub(crate) fn handle_packet(&mut self, packet: Packet, now: Now) {
        match self.state {
            State::Provisioning { .. } => self.hear_dps(packet, now),
            State::Connecting { .. } => self.hear_verdict(packet, now),
            State::Online { .. } => self.hear_hub(packet, now),
            State::Waiting { .. } | State::Over => {}
        }
    }

    /// The line broke or never came about; the shell has let go of it.
    pub(crate) fn handle_lost(&mut self, fault: Fault, now: Now) {
        let (aim, not_before) = match &self.state {
            State::Provisioning { stage, .. } => (Aim::Provision, stage.not_before()),
            State::Connecting { .. } | State::Online { .. } => (Aim::Connect, None),
            State::Waiting { .. } | State::Over => return,
        };
        self.retry(aim, fault, not_before, now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.beat(now);
        if self.stop_by.is_some_and(|by| by <= now.at) {
            return self.leave(now);
        }
        match &self.state {
            State::Waiting { until, aim } if *until <= now.at => {
                let (aim, since) = (*aim, *until);
                self.begin(aim, now, since);
            }
            State::Provisioning { .. } => self.provisioning_timeout(now),
            State::Connecting {
                answer_by: Some(by),
                ..
            } if *by <= now.at => self.give_up_waiting(now),
            State::Online { .. } => self.online_timeout(now),
            State::Waiting { .. } | State::Connecting { .. } | State::Over => {}
        }
    }

    /// The fleet ends: no message becomes due any more, and what is due has until `by`. May be told
    /// again, with an earlier end.
    pub(crate) fn handle_stop(&mut self, by: Instant, now: Now) {
        self.beat(now);
        self.stop_by = Some(self.stop_by.map_or(by, |before| before.min(by)));
        if self.settled() {
            return self.leave(now);
        }
        if let State::Waiting {
            aim: Aim::Connect, ..
        } = self.state
        {
            // A wait that has grown to a minute would outlast the end.
            self.tries = 0;
            let soon = now.at + self.next_wait();
            if let State::Waiting { until, .. } = &mut self.state {
                *until = soon.min(*until);
            }
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.outbox.pop_front();
        if output.is_none() {
            // An idle device owns no storage for what it might do.
            self.outbox = VecDeque::new();
        }
        output
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` is never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Waiting { until, .. } => Some(*until),
            State::Provisioning { stage, .. } => stage.deadline(),
            State::Connecting { answer_by, .. } => *answer_by,
            State::Online {
                renew_at,
                spoke_at,
                heard_at,
                pong_by,
            } => {
                let ping_at = self.ping_at(*spoke_at, *heard_at);
                let next = pong_by.unwrap_or(ping_at);
                Some(renew_at.map_or(next, |renew_at| next.min(renew_at)))
            }
            State::Over => return None,
        };
        let heartbeats = self.heartbeats.as_ref();
        let next = self
            .stop_by
            .or_else(|| heartbeats.and_then(|beats| beats.next(&self.plan, self.chance)));
        own.into_iter().chain(next).min()
    }

    /// Whether the device speaks with its hub.
    pub(crate) fn online(&self) -> bool {
        matches!(self.state, State::Online { .. })
    }

    pub(crate) fn over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// `since` is when this was due, for the latency.
    fn begin(&mut self, aim: Aim, now: Now, since: Instant) {
        let endpoint = match (aim, &self.assignment) {
            (Aim::Connect, Some(assignment)) => {
                self.state = State::Connecting {
                    since,
                    answer_by: None,
                };
                Endpoint::Hub(assignment.hub.clone())
            }
            (Aim::Provision, _) | (Aim::Connect, None) => {
                self.state = State::Provisioning {
                    since,
                    stage: Stage::Dialling,
                };
                self.say(Step::Registering);
                if self.tpm.is_some() {
                    return self.begin_over_https(since, now);
                }
                Endpoint::Dps
            }
        };
        self.outbox.push_back(Output::Dial(endpoint));
    }

    fn give_up_waiting(&mut self, now: Now) {
        self.outbox.push_back(Output::Hang);
        let fault = Fault::new(
            FaultKind::NoAnswer,
            format!(
                "{} did not answer within {} s: it is overloaded, or the network drops packets",
                self.peer(),
                PATIENCE.as_secs()
            ),
        );
        self.handle_lost(fault, now);
    }

    /// Backs off, unless the plan says that this try was the last.
    fn retry(&mut self, aim: Aim, fault: Fault, not_before: Option<Instant>, now: Now) {
        self.tries = self.tries.saturating_add(1);
        if self.heartbeats.is_some() {
            self.out_since.get_or_insert(now.at);
        }
        if self
            .plan
            .give_up_after
            .is_some_and(|most| self.tries >= most)
        {
            return self.fail(fault, now);
        }
        let mut aim = aim;
        let at = self.host().into();
        self.say(Step::Lost { at, fault });
        if self.refusals >= REFUSALS && self.plan.provisioning.is_some() {
            self.refusals = 0;
            self.assignment = None;
            aim = Aim::Provision;
            self.say(Step::Reprovisioning);
        }
        let until = now.at + self.next_wait();
        let until = not_before.map_or(until, |not_before| until.max(not_before));
        self.say(Step::BackingOff {
            wait: until.saturating_duration_since(now.at),
            tries: self.tries,
        });
        self.state = State::Waiting { until, aim };
    }

    /// How long to back off after so many failed tries in a row.
    fn next_wait(&mut self) -> Duration {
        let back_off = self.plan.back_off;
        let doubled = 2u32.saturating_pow(self.tries.saturating_sub(1).min(31));
        // With half a minute left, a wait of 16 s would miss a hub that comes back in time.
        let most = match self.stop_by {
            Some(_) => back_off.most.min(back_off.first.saturating_mul(4)),
            None => back_off.most,
        };
        let longest = back_off.first.saturating_mul(doubled).min(most);
        let share = 1.0 - 0.5 * self.chance.draw(Question::BackOff, self.waits);
        self.waits += 1;
        longest.mul_f64(share)
    }

    fn fail(&mut self, fault: Fault, now: Now) {
        let at = self.host().into();
        self.say(Step::Failed { at, fault });
        self.cross_over(now);
    }

    /// Says goodbye where there is somebody to say it to.
    fn leave(&mut self, now: Now) {
        match self.state {
            State::Over => return,
            State::Online { .. } => self.send(Packet::Disconnect),
            State::Waiting { .. } | State::Provisioning { .. } | State::Connecting { .. } => {}
        }
        self.outbox.push_back(Output::Hang);
        self.say(Step::Ended);
        self.cross_over(now);
    }

    fn cross_over(&mut self, now: Now) {
        if let Some(since) = self.out_since.take() {
            let took = now.at.saturating_duration_since(since);
            self.count(Count::Outage { took, over: false });
        }
        self.state = State::Over;
    }

    /// The host that the device deals with.
    fn host(&self) -> &str {
        match (&self.state, &self.plan.provisioning, &self.assignment) {
            (State::Provisioning { .. }, Some(dps), _) | (_, Some(dps), None) => &dps.host,
            (_, _, Some(assignment)) => &assignment.hub,
            (_, None, None) => "",
        }
    }

    /// The same as a subject for sentences.
    fn peer(&self) -> String {
        let what = match self.state {
            State::Provisioning { .. } => "DPS",
            State::Waiting { .. }
            | State::Connecting { .. }
            | State::Online { .. }
            | State::Over => "hub",
        };
        format!("the {what} {}", self.host())
    }

    fn count(&mut self, count: Count) {
        self.outbox.push_back(Output::Count(count));
    }

    fn say(&mut self, step: Step) {
        self.outbox.push_back(Output::Step(step));
    }

    fn send(&mut self, packet: Packet) {
        self.outbox.push_back(Output::Send(packet));
    }

    fn identity(&self) -> Option<Identity> {
        let device: &DeviceId = &self.assignment.as_ref()?.device;
        Some(Identity::device(device.clone()))
    }
}
