//! A monitor whose stream says nothing: who sent is not late, who did not is, and nobody is while the hub is away.
#![allow(clippy::unwrap_used)]

mod stub;

use std::time::Duration;

use azimuth_clock::{Clock, SystemClock};
use azimuth_monitor::{
    Absence, Change, Error, Grace, Intervals, News, Settings, Since, Span, Wanted, monitor,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use stub::Stub;

const HOUR: Duration = Duration::from_secs(3600);

fn intervals(seconds: f64) -> Intervals {
    let interval = Span::seconds(seconds).unwrap();
    Intervals::new(interval, Grace::Fixed(Duration::ZERO), [])
}

fn settings(refresh: Duration) -> Settings {
    Settings {
        intervals: intervals(0.3),
        wanted: Wanted::default(),
        since: Since::Start,
        tag: None,
        expect_all: false,
        refresh,
    }
}

/// Runs a monitor beside `story`, which gets its changes.
async fn watched<T>(
    stub: &Stub,
    story: impl AsyncFnOnce(&mut mpsc::UnboundedReceiver<Change>) -> T,
) -> (T, Result<azimuth_monitor::Counts, Error>) {
    watched_with(stub, settings(HOUR), story).await
}

async fn watched_with<T>(
    stub: &Stub,
    settings: Settings,
    story: impl AsyncFnOnce(&mut mpsc::UnboundedReceiver<Change>) -> T,
) -> (T, Result<azimuth_monitor::Counts, Error>) {
    let (told, mut changes) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let tell = |change| told.send(change).unwrap();
    let told = async {
        let told = story(&mut changes).await;
        stop.cancel();
        told
    };
    let both = async { tokio::join!(told, monitor(stub, &settings, &SystemClock, &tell, &stop)) };
    let both = tokio::time::timeout(Duration::from_secs(30), both).await;
    both.expect("it happens in seconds, or never")
}

/// Waits until something has become of the stub.
async fn until(stub: &Stub, condition: impl Fn(&stub::State) -> bool) {
    while !condition(&stub.state.lock().unwrap()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_log_is_read_before_anybody_is_called_late() {
    let stub = Stub::start().await;
    stub.state.lock().unwrap().steady = Some("steady".into());
    stub.state.lock().unwrap().deleted = vec!["deleted".into()];
    stub.state.lock().unwrap().disabled = vec!["off".into()];
    stub.beat("gone");
    stub.beat("deleted");
    stub.beat("off");
    let (changes, ended) = watched(&stub, async |changes| {
        let mut seen = vec![changes.recv().await.unwrap()];
        let asked = stub.state.lock().unwrap().asked.len();
        // The steady one would have been late several times.
        until(&stub, |state| state.asked.len() >= asked + 8).await;
        while let Ok(change) = changes.try_recv() {
            seen.push(change);
        }
        seen
    })
    .await;
    let told: Vec<_> = changes
        .iter()
        .map(|change| (&*change.device, change.news))
        .collect();
    assert_eq!(told, [("gone", News::Late)]);
    assert_eq!(
        ended.unwrap().expected,
        2,
        "the deleted one and the disabled one are expected no more"
    );
    let asked = &stub.state.lock().unwrap().asked;
    assert_eq!(asked[0], "earliest");
    let mut numbers = asked[1..].iter().map(|from| {
        let number = from.strip_prefix("sequence:").unwrap();
        number.parse::<u64>().unwrap()
    });
    assert!(
        numbers.by_ref().is_sorted(),
        "reading goes on where it was: {asked:?}"
    );
}

#[tokio::test]
async fn nobody_is_late_while_the_hub_is_away() {
    let stub = Stub::start().await;
    stub.beat("lamp");
    let ((while_away, up_again, late), _) = watched(&stub, async |changes| {
        until(&stub, |state| !state.asked.is_empty()).await;
        stub.state.lock().unwrap().down = true;
        // It is asked because the lamp's time is up, and again and again.
        until(&stub, |state| state.refused > 2).await;
        let while_away = changes.try_recv().ok();
        stub.state.lock().unwrap().down = false;
        let up_again = SystemClock.utc();
        (while_away, up_again, changes.recv().await.unwrap())
    })
    .await;
    assert_eq!(while_away, None);
    assert_eq!((&*late.device, late.news), ("lamp", News::Late));
    let time = late.expected_by.duration_since(up_again).unwrap();
    assert!(
        time >= Duration::from_millis(300),
        "its whole time: {time:?}"
    );
}

#[tokio::test]
async fn each_stream_that_ended_gives_every_device_its_whole_time() {
    let stub = Stub::start().await;
    stub.state.lock().unwrap().short = true;
    let begin = SystemClock.utc();
    stub.beat("lamp");
    let patient = Settings {
        intervals: intervals(0.9),
        ..settings(HOUR)
    };
    let ((silent, late), _) = watched_with(&stub, patient, async |changes| {
        // Two requests a round, and half a second between two: the lamp is silent for longer than it may be.
        until(&stub, |state| state.asked.len() >= 8).await;
        let silent = changes.try_recv().ok();
        stub.state.lock().unwrap().short = false;
        (silent, changes.recv().await.unwrap())
    })
    .await;
    assert_eq!(silent, None);
    let time = late.expected_by.duration_since(begin).unwrap();
    assert!(time >= Duration::from_millis(1500 + 900), "{time:?}");
}

#[tokio::test]
async fn who_was_late_and_is_deleted_is_told_as_gone() {
    let stub = Stub::start().await;
    stub.beat("lamp");
    let settings = settings(Duration::from_millis(50));
    let (told, _) = watched_with(&stub, settings, async |changes| {
        let late = changes.recv().await.unwrap().news;
        stub.state.lock().unwrap().deleted = vec!["lamp".into()];
        (late, changes.recv().await.unwrap().news)
    })
    .await;
    assert_eq!(told, (News::Late, News::Gone(Absence::Deleted)));
}

#[tokio::test]
async fn a_hub_that_never_answers_is_an_error() {
    let stub = Stub::start().await;
    stub.state.lock().unwrap().down = true;
    let ((), ended) = watched(&stub, async |_| tokio::task::yield_now().await).await;
    assert!(matches!(ended, Err(Error::NeverReached)));
}
