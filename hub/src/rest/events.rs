//! `GET /azimuth/events`: the event log as lines of JSON, from anywhere, on to the end or beyond.
//!
//! Parameters: `deviceId`, `partition`, `from` (`earliest`, `latest`, `sequence:N`, `offset:N`,
//! `time:ISO`, or `sequence:N,N…` with one for each partition), `follow`. Events of one partition come in
//! order; partitions are read side by side. Two headers let a reader that lost its stream go on exactly where
//! it was, and judge times by the hub's clock: where reading begins, and when that was.
//! Reading and formatting happen off the hub's thread. May not enter: writing.

mod line;

use axum::http::{HeaderName, HeaderValue};
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

/// The sequence numbers of the next event of each partition that is read, with commas.
const SEQUENCE_NUMBERS: HeaderName = HeaderName::from_static("azimuth-sequence-numbers");
/// The hub's clock when the request came.
const TIME: HeaderName = HeaderName::from_static("azimuth-time");

impl Rest {
    pub(super) async fn events(&self, query: Option<&str>) -> Result<Response, Error> {
        let wanted = Wanted::parse(query, &self.log)?;
        let follow = follow(query)?;
        let log = self.log.clone();
        let places = wanted.places;
        let now = Timestamp::from(self.clock.utc());
        // Finding the place may walk through a segment.
        let readers = off_thread(move || -> Result<Vec<(u16, Reader)>, event::Error> {
            let reader = |(partition, from)| Ok((partition, log.reader(partition, from)?));
            places.into_iter().map(reader).collect()
        });
        let readers = readers.await?;
        let (lines, mut response) = Lines::answer(&self.stopping);
        let begin: Vec<_> = readers
            .iter()
            .map(|(_, reader)| reader.sequence().to_string())
            .collect();
        for (name, value) in [(SEQUENCE_NUMBERS, begin.join(",")), (TIME, now.to_string())] {
            let value = HeaderValue::try_from(value).expect("digits, letters and marks");
            response.headers_mut().insert(name, value);
        }
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
    /// Partitions, and where each is begun.
    places: Vec<(u16, From)>,
    device: Option<DeviceId>,
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
        let one = match (&device, partition) {
            (_, Some(partition)) => Some(partition),
            (Some(device), None) => Some(log.partition_of(device.as_str())),
            (None, None) => None,
        };
        let from = paths::parameter(query, "from");
        let places = match (one, from.as_deref()) {
            (Some(one), from) => vec![(one, place(from.unwrap_or("earliest"))?)],
            (None, Some(from)) if from.starts_with("sequence:") => each(from, log.partitions())?,
            (None, from) => match place(from.unwrap_or("earliest"))? {
                From::Offset(_) => {
                    return Err(argument(
                        "offsets count within a partition: name it with `partition` or `deviceId`"
                            .into(),
                    ));
                }
                from => (0..log.partitions())
                    .map(|partition| (partition, from))
                    .collect(),
            },
        };
        Ok(Self { places, device })
    }
}

fn place(text: &str) -> Result<From, Error> {
    let place = match text.split_once(':') {
        None if text == "earliest" => Some(From::Earliest),
        None if text == "latest" => Some(From::Latest),
        Some(("sequence", number)) => number.parse().ok().map(From::Sequence),
        Some(("offset", number)) => number.parse().ok().map(From::Offset),
        Some(("time", time)) => {
            let time: Option<Timestamp> = serde_json::from_value(Value::String(time.into())).ok();
            time.map(|time| time.get().map_or(From::Earliest, From::Time))
        }
        _ => None,
    };
    place.ok_or_else(|| {
        Error::Argument(
            "`from` must be earliest, latest, sequence:N, offset:N or time:2026-01-01T00:00:00Z"
                .into(),
        )
    })
}

/// `sequence:N,N…`, one for each partition.
fn each(text: &str, partitions: u16) -> Result<Vec<(u16, From)>, Error> {
    let numbers = text.trim_start_matches("sequence:").split(',');
    let places: Option<Vec<_>> = (0..)
        .zip(numbers)
        .map(|(partition, number)| Some((partition, From::Sequence(number.parse().ok()?))))
        .collect();
    let places = places.filter(|places| places.len() == usize::from(partitions));
    places.ok_or_else(|| {
        Error::Argument(format!(
            "sequence numbers count within a partition: name it with `partition` or `deviceId`, or give one for each of \
             the {partitions} partitions, with commas"
        ))
    })
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
