//! How far a hub's event log is read: the next sequence number of each partition.
//!
//! What may not enter: what was read.

/// One number for each partition, as the hub tells and takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions(Vec<u64>);

impl Positions {
    /// The header in which a hub says where its partitions are read from.
    pub const HEADER: &'static str = "azimuth-sequence-numbers";

    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Result<_, _> = text.split(',').map(str::parse).collect();
        Some(Self(numbers.ok()?))
    }

    /// An event was read: the next one of its partition comes behind it.
    pub fn passed(&mut self, partition: u16, sequence: u64) {
        if let Some(next) = self.0.get_mut(usize::from(partition)) {
            *next = (*next).max(sequence.saturating_add(1));
        }
    }

    /// As the parameter `from`.
    pub fn from(&self) -> String {
        let numbers: Vec<_> = self.0.iter().map(u64::to_string).collect();
        format!("sequence:{}", numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_partition_goes_on_behind_what_was_read() {
        let mut positions = Positions::parse("0,17,3").unwrap();
        for (partition, sequence) in [(0, 4), (1, 2), (2, 3), (9, 9), (0, 3)] {
            positions.passed(partition, sequence);
        }
        assert_eq!(positions.from(), "sequence:5,17,4");
        for text in ["", "1,", "x", "-1"] {
            assert_eq!(Positions::parse(text), None, "{text}");
        }
    }
}
