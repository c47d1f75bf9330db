//! Chance by number: the n-th draw of a device is a function of seed, device and n alone.
//!
//! Nothing is remembered between draws, so the time at which message 17 is due can be asked again
//! after a reconnect, and a device costs no generator of its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What is decided by a draw; each has its own sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// How late in its interval a heartbeat is due.
    Heartbeat,
    /// How long to wait before the next try.
    BackOff,
    /// What the sensor shows.
    Reading,
}

/// The generator of one device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance {
    seed: u64,
    device: u64,
}

impl Chance {
    pub(crate) fn new(seed: u64, device: u64) -> Self {
        Self { seed, device }
    }

    /// The `n`-th draw: at least 0 and below 1.
    pub(crate) fn draw(self, question: Question, n: u64) -> f64 {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        generator.set_stream(self.device.wrapping_mul(4) + question as u64);
        generator.set_word_pos(u128::from(n) * 2);
        // 53 bits are what an f64 holds exactly.
        (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_seed_device_question_and_number_only() {
        let draw = |seed, device, question, n| Chance::new(seed, device).draw(question, n);
        let one = draw(1, 2, Question::Heartbeat, 3);
        assert_eq!(one, draw(1, 2, Question::Heartbeat, 3));
        for other in [
            draw(2, 2, Question::Heartbeat, 3),
            draw(1, 3, Question::Heartbeat, 3),
            draw(1, 2, Question::BackOff, 3),
            draw(1, 2, Question::Heartbeat, 4),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn draws_spread_evenly_from_zero_to_one() {
        let chance = Chance::new(7, 7);
        let draws = (0..1000).map(|n| chance.draw(Question::Heartbeat, n));
        let mean = draws.clone().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert!(draws.into_iter().all(|draw| (0.0..1.0).contains(&draw)));
    }
}
