//! Lines out of the pieces in which an answer comes.
//!
//! What may not enter: what a line means.

use std::str::Utf8Error;

/// The piece of a line that has begun.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Hands out every line that this piece completes, empty ones left out, until `each` says false. Whether it never did.
    pub fn feed<E: From<Utf8Error>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<bool, E> {
        self.pending.extend_from_slice(piece);
        let mut begin = 0;
        while let Some(length) = self.pending[begin..].iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&self.pending[begin..begin + length])?;
            begin += length + 1;
            if !line.is_empty() && !each(line)? {
                return Ok(false);
            }
        }
        self.pending.drain(..begin);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_however_it_was_cut() {
        let text = "one\n\ntwö\nthree".as_bytes();
        for size in 1..=text.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                let all = lines.feed::<Utf8Error>(piece, |line| {
                    seen.push(line.to_owned());
                    Ok(true)
                });
                assert_eq!(all, Ok(true));
            }
            assert_eq!(seen, ["one", "twö"], "pieces of {size}");
        }
        let stopped = Lines::default().feed::<Utf8Error>(text, |_| Ok(false));
        assert_eq!(stopped, Ok(false));
        assert!(
            Lines::default()
                .feed::<Utf8Error>(b"\xff\n", |_| Ok(true))
                .is_err()
        );
    }
}
