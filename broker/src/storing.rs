//! What a service itself puts on the lanes, among what its devices send.
//!
//! It is stored in the order it was put, between the messages that came before and after it. What may not enter: what an
//! envelope says.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use crate::backend::Lane;
use crate::line::{CloseReason, Line};
use crate::router::Intake;

/// The service's own way to the lanes.
#[derive(Debug, Clone)]
pub struct Storing(Intake);

/// Envelopes on their way to the store.
#[derive(Debug)]
pub struct UnderWay {
    line: Line,
    left: usize,
}

impl Storing {
    /// Envelopes of one call of [`Storing::put`].
    pub const AT_ONCE: usize = 1024;

    pub(crate) fn new(intake: Intake) -> Self {
        Self(intake)
    }

    /// Puts envelopes on their lanes, at once and whatever is under way already: a service does not wait for room, so it
    /// puts little and rarely. More than [`Storing::AT_ONCE`] are cut off.
    pub fn put<'e>(&self, envelopes: impl IntoIterator<Item = (Lane, &'e [u8])>) -> UnderWay {
        let line = Line::new();
        let mut left = 0;
        let numbered = (1..).zip(envelopes.into_iter().take(Self::AT_ONCE));
        for (number, (lane, envelope)) in numbered {
            self.0.send(lane, envelope, &line, number);
            left += 1;
        }
        UnderWay { line, left }
    }
}

impl UnderWay {
    /// Waits until all is stored. Otherwise some may be stored and some not; the sentence says why.
    pub async fn stored(mut self) -> Result<(), String> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<(), String>> {
        while self.left > 0 {
            let mail = ready!(self.line.poll_mail(false, context));
            self.left = self.left.saturating_sub(mail.acknowledged.len());
            match mail.close {
                Some(CloseReason::Refused(why)) => return Poll::Ready(Err(why)),
                Some(_) => return Poll::Ready(Err("the store has stopped".into())),
                None => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}
