//! Marshalling: big-endian integers and buffers behind their 16-bit size, as TPM 2.0 part 2 has them.
//!
//! Reading never goes past the end and never reserves what a size merely claims.

use crate::error::Error;

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    structure: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            structure,
            rest: bytes,
        }
    }

    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// A buffer behind its size: `TPM2B_…`.
    pub fn sized(&mut self) -> Result<&'a [u8], Error> {
        let size = self.u16()?;
        self.take(usize::from(size))
    }

    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], Error> {
        let split = self.rest.split_at_checked(bytes);
        let (taken, rest) = split.ok_or(Error::Truncated(self.structure))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Error::Trailing {
                structure: self.structure,
                bytes,
            }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let structure = self.structure;
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Error::Truncated(structure))
    }
}

/// A buffer behind its size. Whoever calls has bounded it.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("buffers are far below 64 KiB");
    [&size.to_be_bytes(), bytes].concat()
}
