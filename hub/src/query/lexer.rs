//! From characters to tokens, each with its place. Comments and line breaks are blanks.
//!
//! May not enter: which token may follow which.

use serde_json::{Number, Value};

use super::InvalidQuery;

/// A token and the byte it begins at.
#[derive(Debug, Clone, PartialEq)]
pub struct Lexeme {
    pub token: Token,
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name or a keyword, as it is written.
    Word(String),
    /// A name in double square brackets, without them.
    Bracketed(String),
    Number(Number),
    Text(String),
    Symbol(&'static str),
    End,
}

/// Longer ones first.
const SYMBOLS: [&str; 19] = [
    "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "*", "/", "%", "+", "-",
    ";",
];

/// The tokens of a text; the last is the end.
pub fn lexemes(text: &str) -> Result<Vec<Lexeme>, InvalidQuery> {
    let mut lexer = Lexer { text, at: 0 };
    let mut lexemes = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let token = lexer.token()?;
        let last = token == Token::End;
        lexemes.push(Lexeme { token, at });
        if last {
            return Ok(lexemes);
        }
    }
}

/// What is wrong at a byte, for somebody who counts characters from 1.
pub fn invalid(text: &str, at: usize, what: impl Into<String>) -> InvalidQuery {
    let before = text.get(..at).unwrap_or(text);
    InvalidQuery {
        position: before.chars().count() + 1,
        what: what.into(),
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn token(&mut self) -> Result<Token, InvalidQuery> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        if begins_name(first) {
            let word = self.take_while(|c| begins_name(c) || c.is_numeric());
            return Ok(Token::Word(word.to_owned()));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if matches!(first, '\'' | '"') {
            return self.string(first);
        }
        // Of three brackets the first opens a list.
        if rest.starts_with("[[") && !rest.starts_with("[[[") {
            return self.bracketed();
        }
        let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
            let what = format!("`{first}` means nothing here");
            return Err(invalid(self.text, self.at, what));
        };
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn number(&mut self) -> Result<Token, InvalidQuery> {
        let at = self.at;
        let rest = self.rest();
        if rest.starts_with("0x") || rest.starts_with("0X") {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            let number = u64::from_str_radix(digits, 16);
            return match number {
                Ok(number) => Ok(Token::Number(number.into())),
                Err(_) => Err(invalid(
                    self.text,
                    at,
                    "not a hexadecimal number of 64 bits",
                )),
            };
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut tail = self.rest().chars();
        if tail.next() == Some('.') && tail.next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        self.exponent();
        let digits = &self.text[at..self.at];
        // As JSON has it a number begins with no zero but its only one.
        let digits = digits.trim_start_matches('0');
        let digits = match digits.starts_with(|c: char| c.is_ascii_digit()) {
            true => digits.to_owned(),
            false => format!("0{digits}"),
        };
        match serde_json::from_str::<Value>(&digits) {
            Ok(Value::Number(number)) => Ok(Token::Number(number)),
            _ => Err(invalid(self.text, at, "the number is too large")),
        }
    }

    /// `e5`, `E-5`; an `e` without digits is none.
    fn exponent(&mut self) {
        let rest = self.rest();
        let Some(rest) = rest.strip_prefix(['e', 'E']) else {
            return;
        };
        let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if digits.starts_with(|c: char| c.is_ascii_digit()) {
            self.at += 1 + (rest.len() - digits.len());
            self.take_while(|c| c.is_ascii_digit());
        }
    }

    fn string(&mut self, quote: char) -> Result<Token, InvalidQuery> {
        let opened = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next_char() {
                Some(c) if c == quote => return Ok(Token::Text(text)),
                Some('\\') => text.push(self.escaped(at)?),
                Some(c) => text.push(c),
                None => return Err(invalid(self.text, opened, "the text has no closing quote")),
            }
        }
    }

    /// What stands behind a backslash. Signs beyond `\uFFFF` are two escapes, as in JSON.
    fn escaped(&mut self, at: usize) -> Result<char, InvalidQuery> {
        let unknown = || {
            let what = r#"after a backslash stands one of ' " \ or u with four hexadecimal digits"#;
            invalid(self.text, at, what)
        };
        match self.rest().chars().next() {
            Some(c @ ('\'' | '"' | '\\')) => {
                self.at += 1;
                Ok(c)
            }
            Some('u') => {
                let high = self.hex(1).ok_or_else(unknown)?;
                if let Some(c) = char::from_u32(high) {
                    self.at += 5;
                    return Ok(c);
                }
                let pair = self.rest().get(5..).is_some_and(|r| r.starts_with("\\u"));
                let low = pair.then(|| self.hex(7)).flatten().ok_or_else(unknown)?;
                let units = [high as u16, low as u16];
                let decoded = char::decode_utf16(units).next();
                let c = decoded.and_then(Result::ok).ok_or_else(unknown)?;
                self.at += 11;
                Ok(c)
            }
            _ => Err(unknown()),
        }
    }

    fn hex(&self, from: usize) -> Option<u32> {
        let digits = self.rest().get(from..from + 4)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    }

    fn bracketed(&mut self) -> Result<Token, InvalidQuery> {
        let inside = &self.rest()[2..];
        match inside.find(']') {
            Some(end) if end > 0 && inside[end..].starts_with("]]") => {
                let name = inside[..end].to_owned();
                self.at += end + 4;
                Ok(Token::Bracketed(name))
            }
            _ => Err(invalid(
                self.text,
                self.at,
                "a name in brackets is `[[name]]`",
            )),
        }
    }

    fn skip_blanks(&mut self) -> Result<(), InvalidQuery> {
        loop {
            self.take_while(char::is_whitespace);
            let Some(comment) = self.rest().strip_prefix("/*") else {
                return Ok(());
            };
            match comment.find("*/") {
                Some(end) => self.at += end + 4,
                None => return Err(invalid(self.text, self.at, "the comment has no end")),
            }
        }
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn next_char(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '$')
}
