//! Many revocations, read at once. Most are of single tokens, and the database writes those into one
//! value: a million separate rows take seconds to receive.

use std::fmt;

use crate::domain::Revocation;
use crate::error::{Error, Result};

/// A part of the list of revocations.
#[derive(Clone, Debug)]
pub struct RevocationChunk {
    pub(super) tokens: TokenList,
    /// The revocations that are not in [`tokens`](Self::tokens), in order.
    pub others: Vec<Revocation>,
    /// The last number in this chunk.
    pub last: i64,
}

/// The revocations of tokens whose `jti` has [`JTI_BYTES`], in the form that the database writes
/// fastest.
#[derive(Clone, Debug)]
pub(super) enum TokenList {
    /// From SQLite: the `jti`, and the numbers as text.
    Text(String),
    /// From PostgreSQL: records of [`RECORD`] bytes. It writes an integer in its binary form twice
    /// as fast as in digits.
    Records(Vec<u8>),
}

/// A revocation of a single token in a [`RevocationChunk`], with times in microseconds since the
/// epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRevocation<'a> {
    pub number: i64,
    pub jti: &'a str,
    pub revoked_at: i64,
    pub expires_at: i64,
}

/// Revocations whose subject has [`JTI_BYTES`].
macro_rules! of_issued_token {
    () => {
        "(kind = 'token' and epoch = 0 and octet_length(subject) = 32)"
    };
}
pub(super) use of_issued_token;

/// The SQL that selects the last number of a chunk, its tokens, and the number of its other rows.
/// The inner select computes the condition once for each row.
macro_rules! chunk {
    ($tokens:literal) => {
        concat!(
            "select max(number), coalesce(",
            $tokens,
            " filter (where is_token), ''), count(*) filter (where not is_token) \
             from (select number, subject, revoked_at, expires_at, ",
            of_issued_token!(),
            " as is_token from revocations where number > $1 and number <= $2 \
               order by number limit $3) chunk"
        )
    };
}

/// The length of the `jti` that Keyward issues.
const JTI_BYTES: usize = 32;
/// The length of a record: the `jti` and three integers.
const RECORD: usize = JTI_BYTES + 3 * size_of::<i64>();

impl TokenList {
    pub(super) const SQLITE: &str =
        chunk!("string_agg(subject || number || ' ' || revoked_at || ' ' || expires_at, ',')");
    pub(super) const POSTGRES: &str = chunk!(
        "string_agg(textsend(subject) || int8send(number) || int8send(revoked_at) \
           || int8send(expires_at), '')"
    );
}

impl RevocationChunk {
    /// The revocations of tokens whose `jti` has 32 bytes.
    pub fn tokens(&self) -> impl Iterator<Item = Result<TokenRevocation<'_>>> {
        let mut left = match &self.tokens {
            TokenList::Text(text) => TokensLeft::Text(text),
            TokenList::Records(records) => TokensLeft::Records(records),
        };
        std::iter::from_fn(move || {
            let parsed = match left {
                TokensLeft::Text("") | TokensLeft::Records([]) => return None,
                TokensLeft::Text(text) => TokenRevocation::of_text(text),
                TokensLeft::Records(records) => TokenRevocation::of_record(records),
            };
            let Some((token, rest)) = parsed else {
                let error = Error::internal(format!("invalid list of revoked tokens at {left:?}"));
                left = TokensLeft::Text("");
                return Some(Err(error));
            };
            left = rest;
            Some(Ok(token))
        })
    }
}

/// The part of a [`TokenList`] that is not parsed yet.
#[derive(Clone, Copy)]
enum TokensLeft<'a> {
    Text(&'a str),
    Records(&'a [u8]),
}

impl fmt::Debug for TokensLeft<'_> {
    /// The first token at most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:.80}"),
            Self::Records(records) => write!(f, "{:?}", records.get(..RECORD).unwrap_or(records)),
        }
    }
}

impl<'a> TokenRevocation<'a> {
    /// Parses the first one, and returns the rest of the text. The `jti` has a fixed length,
    /// because it can contain any character.
    fn of_text(text: &'a str) -> Option<(Self, TokensLeft<'a>)> {
        let (jti, rest) = text.split_at_checked(JTI_BYTES)?;
        let (number, rest) = rest.split_once(' ')?;
        let (revoked_at, rest) = rest.split_once(' ')?;
        let (expires_at, rest) = rest.split_once(',').unwrap_or((rest, ""));
        let token = Self {
            number: number.parse().ok()?,
            jti,
            revoked_at: revoked_at.parse().ok()?,
            expires_at: expires_at.parse().ok()?,
        };
        Some((token, TokensLeft::Text(rest)))
    }

    /// Parses the first one, and returns the rest of the records.
    fn of_record(records: &'a [u8]) -> Option<(Self, TokensLeft<'a>)> {
        let (jti, rest) = records.split_at_checked(JTI_BYTES)?;
        let (number, rest) = rest.split_first_chunk()?;
        let (revoked_at, rest) = rest.split_first_chunk()?;
        let (expires_at, rest) = rest.split_first_chunk()?;
        let token = Self {
            number: i64::from_be_bytes(*number),
            jti: str::from_utf8(jti).ok()?,
            revoked_at: i64::from_be_bytes(*revoked_at),
            expires_at: i64::from_be_bytes(*expires_at),
        };
        Some((token, TokensLeft::Records(rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JTI: &str = "0199f5a0c3b97d2e8f4b6a1c5d3e7f90";

    /// The numbers that are parsed, and whether an error follows.
    fn parsed(tokens: TokenList) -> (Vec<i64>, bool) {
        let chunk = RevocationChunk { tokens, others: Vec::new(), last: 2 };
        let all: Vec<_> = chunk.tokens().collect();
        let failed = all.iter().position(Result::is_err);
        assert!(failed.is_none_or(|at| at + 1 == all.len()), "an error ends the list");
        (all.into_iter().flatten().map(|token| token.number).collect(), failed.is_some())
    }

    #[test]
    fn cut_list_is_an_error() {
        let text = format!("{JTI}1 20 30,{JTI}2 -20 -30");
        let mut records = Vec::new();
        for number in [1_i64, 2] {
            records.extend(JTI.as_bytes());
            records.extend([number, -20, -30].into_iter().flat_map(i64::to_be_bytes));
        }
        assert_eq!(parsed(TokenList::Text(text.clone())), (vec![1, 2], false));
        assert_eq!(parsed(TokenList::Records(records.clone())), (vec![1, 2], false));
        assert_eq!(parsed(TokenList::Text(text[..52].to_owned())), (vec![1], true));
        for length in RECORD + 1..2 * RECORD {
            let cut = records[..length].to_vec();
            assert_eq!(parsed(TokenList::Records(cut)), (vec![1], true), "{length}");
        }
        records[0] = 0xff;
        assert_eq!(parsed(TokenList::Records(records)), (vec![], true), "not UTF-8");
    }
}
