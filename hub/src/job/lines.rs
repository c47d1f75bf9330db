//! A file in pieces, cut into its lines. Pure; never holds more than one line.
//!
//! May not enter: what a line says.

/// Cuts what is fed into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The line begun.
    begun: Vec<u8>,
    /// The line begun is longer than what is kept of it.
    too_long: bool,
    /// Lines that have ended.
    ended: u64,
}

/// One line, without its end. Lines are counted from 1; those with nothing in them count and are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    /// `None` where the line is longer than [`LONGEST`].
    pub text: Option<Vec<u8>>,
}

/// Bytes of a line. One with a full twin and all its metadata has less than half of them.
pub const LONGEST: usize = 1 << 20;

impl Lines {
    /// Takes the next piece; hands out the lines that end in it.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut parts = piece.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.add(part);
            lines.extend(self.end());
        }
        self.add(last);
        lines
    }

    /// The last line, where no line end follows it.
    pub fn finish(&mut self) -> Option<Line> {
        self.end()
    }

    fn add(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > LONGEST {
            self.too_long = true;
            self.begun = Vec::new();
        }
        if !self.too_long {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self) -> Option<Line> {
        self.ended += 1;
        let text = std::mem::take(&mut self.begun);
        let too_long = std::mem::take(&mut self.too_long);
        let text = match self.ended {
            1 => text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text),
            _ => &text,
        };
        let text = text.trim_ascii();
        (too_long || !text.is_empty()).then(|| Line {
            number: self.ended,
            text: (!too_long).then(|| text.to_vec()),
        })
    }
}

/// .NET may write it before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cut(text: &[u8], at: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines::default();
        let pieces = text.chunks(at);
        let mut all: Vec<_> = pieces.flat_map(|piece| lines.feed(piece)).collect();
        all.extend(lines.finish());
        all.into_iter()
            .map(|line| (line.number, line.text))
            .collect()
    }

    #[test]
    fn lines_are_the_same_however_the_file_is_cut() {
        let text = "\u{feff}one\r\n\n  \t\n zwei ü \nlast".as_bytes();
        let whole = cut(text, text.len());
        let expected = [(1, "one"), (4, "zwei ü"), (5, "last")];
        let expected: Vec<_> = expected
            .iter()
            .map(|(number, text)| (*number, Some(text.as_bytes().to_vec())))
            .collect();
        assert_eq!(whole, expected);
        for at in 1..text.len() {
            assert_eq!(cut(text, at), whole, "{at}");
        }
        assert!(cut(b"", 1).is_empty());
        assert_eq!(cut(b"a\n", 1).len(), 1);
    }

    #[test]
    fn a_line_that_never_ends_is_not_kept() {
        let mut text = b"a\n".to_vec();
        text.extend(vec![b'x'; LONGEST + 1]);
        text.extend(b"\nb");
        let expected = vec![
            (1, Some(b"a".to_vec())),
            (2, None),
            (3, Some(b"b".to_vec())),
        ];
        assert_eq!(cut(&text, text.len()), expected);
        assert_eq!(cut(&text, 4096), expected);
        let longest = vec![b'x'; LONGEST];
        assert_eq!(cut(&longest, 4096), [(1, Some(longest.clone()))]);
    }
}
