//! Walking over tokens: what stands here, and what was expected instead.
//!
//! May not enter: the grammar.

use super::InvalidQuery;
use super::lexer::{self, Lexeme, Token};

/// A place between tokens.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

pub struct Cursor<'a> {
    text: &'a str,
    lexemes: Vec<Lexeme>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Result<Self, InvalidQuery> {
        Ok(Self {
            text,
            lexemes: lexer::lexemes(text)?,
            at: 0,
        })
    }

    pub fn peek(&self) -> &Token {
        self.token(self.at)
    }

    pub fn peek_second(&self) -> &Token {
        self.token(self.at + 1)
    }

    /// This place, to come back to or to complain of.
    pub fn mark(&self) -> Mark {
        Mark(self.at)
    }

    pub fn back_to(&mut self, mark: Mark) {
        self.at = mark.0;
    }

    pub fn skip(&mut self, tokens: usize) {
        self.at += tokens;
    }

    /// The word that stands here.
    pub fn word(&self) -> Option<&str> {
        match self.peek() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    pub fn skip_word(&mut self, keyword: &str) -> bool {
        let word = self.word();
        let found = word.is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    pub fn keyword(&mut self, keyword: &str) -> Result<(), InvalidQuery> {
        match self.skip_word(keyword) {
            true => Ok(()),
            false => Err(self.expected(keyword)),
        }
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    pub fn second_is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek_second(), Token::Symbol(found) if *found == symbol)
    }

    pub fn skip_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    pub fn symbol(&mut self, symbol: &str) -> Result<(), InvalidQuery> {
        match self.skip_symbol(symbol) {
            true => Ok(()),
            false => Err(self.expected(&format!("`{symbol}`"))),
        }
    }

    /// Any name, also one that is a keyword elsewhere.
    pub fn name(&mut self, wanted: &str) -> Result<String, InvalidQuery> {
        match self.peek() {
            Token::Word(name) | Token::Bracketed(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected(wanted)),
        }
    }

    pub fn expected(&self, wanted: &str) -> InvalidQuery {
        let found = match self.peek() {
            Token::Word(word) => format!("`{}`", short(word)),
            Token::Bracketed(name) => format!("`[[{}]]`", short(name)),
            Token::Number(number) => format!("`{number}`"),
            Token::Text(text) => format!("the text '{}'", short(text)),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::End => "the end".into(),
        };
        self.invalid(format!("expected {wanted}, found {found}"))
    }

    /// What is wrong with what stands here.
    pub fn invalid(&self, what: impl Into<String>) -> InvalidQuery {
        self.invalid_at(self.mark(), what)
    }

    pub fn invalid_at(&self, mark: Mark, what: impl Into<String>) -> InvalidQuery {
        let here = self.lexemes.get(mark.0).or(self.lexemes.last());
        lexer::invalid(self.text, here.map_or(0, |lexeme| lexeme.at), what)
    }

    fn token(&self, at: usize) -> &Token {
        self.lexemes
            .get(at)
            .map_or(&Token::End, |lexeme| &lexeme.token)
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
