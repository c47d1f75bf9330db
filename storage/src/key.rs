//! Keys: a room and a name inside it, and the byte ranges that prefixes cover.
//!
//! May not enter: what a room is for.

use std::fmt;

/// A typed key: a table-like room and a name inside it. Ordered by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The key of `name` in `room`. The name may hold anything; the room, a constant of the
    /// program, no NUL, for NUL parts the two.
    ///
    /// # Panics
    /// If the room holds a NUL.
    pub fn new(room: &'static str, name: &str) -> Self {
        assert!(!room.contains(PART), "a room is named without NUL");
        Self([room, "\0", name].concat().into())
    }

    /// The room, as given to [`Key::new`].
    pub fn room(&self) -> &str {
        self.parts().0
    }

    /// The name inside the room.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// A key as it was stored, if it can have been one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        text.contains(PART).then(|| Self(text.into()))
    }

    fn parts(&self) -> (&str, &str) {
        self.0
            .split_once(PART)
            .expect("every key is made with its NUL")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.room(), self.name())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}/{:?})", self.room(), self.name())
    }
}

const PART: char = '\0';
