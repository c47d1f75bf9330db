//! `GET /azimuth/events`: the event log as lines of JSON, from anywhere, on to the end or beyond.
//!
//! Parameters: `deviceId`, `partition`, `from` (`earliest`, `latest`, `sequence:N`, `offset:N`,
//! `time:ISO`), `follow`. Events of one partition come in order; partitions are read side by side.
//! Reading and formatting happen off the hub's thread. May not enter: writing.

mod line;

use axum::response::Response;
use azimuth_wire::DeviceId;
use azimuth_wire::time::Timestamp;
use serde_json::Value;

use super::lines::{Lines, Over};
use super::refusals::follow;
use super::{Rest, paths};
use crate::error::Error;
use crate::event::{self, Event, From, Log, Reader};

/// About how many bytes of events are read and sent at a time.
const CHUNK: usize = 64 << 10;

impl Rest {
    pub(super) async fn events(&self, query: Option<&str>) -> Result<Response, Error> {
        let wanted = Wanted::parse(query, &self.log)?;
        let follow = follow(query)?;
        let log = self.log.clone();
        let (partitions, from) = (wanted.partitions, wanted.from);
        // Finding the place may walk through a segment.
        let readers = off_thread(move || -> Result<Vec<(u16, Reader)>, event::Error> {
            let reader = |partition| Ok((partition, log.reader(partition, from)?));
            partitions.into_iter().map(reader).collect()
        });
        let readers = readers.await?;
        let (lines, response) = Lines::answer(&self.stopping);
        for (partition, reader) in readers {
            let source = Source {
                partition,
                reader,
                device: wanted.device.clone(),
            };
            let lines = lines.clone();
            tokio::spawn(async move {
                // Over is how every such task ends.
                let _ = tell(source, follow, &lines).await;
            });
        }
        Ok(response)
    }
}

/// What of the log is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    partitions: Vec<u16>,
    device: Option<DeviceId>,
    from: From,
}

impl Wanted {
    fn parse(query: Option<&str>, log: &Log) -> Result<Self, Error> {
        let argument = |text: String| Error::Argument(text);
        let device: Option<DeviceId> = paths::parameter(query, "deviceId")
            .map(|id| id.parse())
            .transpose()
            .map_err(|invalid: azimuth_wire::device_id::InvalidId| argument(invalid.to_string()))?;
        let partition = paths::parameter(query, "partition")
            .map(|text| text.parse::<u16>())
            .transpose()
            .map_err(|_| argument("`partition` must be a number from 0".into()))?;
        let from = match paths::parameter(query, "from") {
            None => From::Earliest,
            Some(text) => place(&text).ok_or_else(|| {
                argument("`from` must be earliest, latest, sequence:N, offset:N or time:2026-01-01T00:00:00Z".into())
            })?,
        };
        let partitions = match (&device, partition) {
            (_, Some(partition)) => vec![partition],
            (Some(device), None) => vec![log.partition_of(device.as_str())],
            (None, None) if matches!(from, From::Sequence(_) | From::Offset(_)) => {
                return Err(argument(
                    "sequence numbers and offsets count within a partition: name it with `partition` or `deviceId`"
                        .into(),
                ));
            }
            (None, None) => (0..log.partitions()).collect(),
        };
        Ok(Self {
            partitions,
            device,
            from,
        })
    }
}

fn place(text: &str) -> Option<From> {
    match text.split_once(':') {
        None if text == "earliest" => Some(From::Earliest),
        None if text == "latest" => Some(From::Latest),
        Some(("sequence", number)) => Some(From::Sequence(number.parse().ok()?)),
        Some(("offset", number)) => Some(From::Offset(number.parse().ok()?)),
        Some(("time", time)) => {
            let time: Timestamp = serde_json::from_value(Value::String(time.into())).ok()?;
            Some(time.get().map_or(From::Earliest, From::Time))
        }
        _ => None,
    }
}

/// One partition, for one client.
struct Source {
    partition: u16,
    reader: Reader,
    device: Option<DeviceId>,
}

async fn tell(mut source: Source, follow: bool, lines: &Lines) -> Result<(), Over> {
    loop {
        let (back, chunk) = off_thread(move || {
            let chunk = source.chunk();
            (source, chunk)
        })
        .await;
        source = back;
        match chunk {
            Ok(Some(chunk)) => lines.write(chunk).await?,
            Ok(None) if !follow => return Ok(()),
            Ok(None) => {
                let more = lines.until(source.reader.wait()).await?;
                if !more {
                    return Ok(());
                }
            }
            Err(error) => {
                tracing::error!(%error, partition = source.partition, "events could not be read");
                return Ok(());
            }
        }
    }
}

impl Source {
    /// The next lines, perhaps none; `None` at the end.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>, event::Error> {
        let batch = self.reader.next_batch(CHUNK)?;
        let mut chunk = Vec::new();
        if batch.skipped > 0 {
            line::skipped(&mut chunk, self.partition, batch.skipped);
        }
        if batch.is_empty() {
            return Ok((!chunk.is_empty()).then_some(chunk));
        }
        for record in &batch.records().collect::<Vec<_>>() {
            match Event::decode(record.envelope) {
                Ok(event)
                    if self
                        .device
                        .as_ref()
                        .is_none_or(|id| id.as_str() == event.device_id) =>
                {
                    line::event(&mut chunk, self.partition, record, &event);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, partition = self.partition, sequence = record.sequence, "an event cannot be read");
                }
            }
        }
        Ok(Some(chunk))
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("reading does not panic, and the runtime outlives its tasks")
}
