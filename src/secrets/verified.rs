//! Secrets that were checked a while ago. What is kept is a tag of each, under a key that
//! nobody else has: whoever presents the same secret again need not pay for a hash. That a
//! secret was right says nothing of whether it is accepted now: that is asked every time.

use std::time::Duration;

use aws_lc_rs::hmac;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use zeroize::Zeroizing;

use super::{Secret, random};
use crate::clock::Stopwatch;
use crate::domain::{CredentialId, TenantId};
use crate::error::{Error, Result};

/// How many are kept, at some 90 bytes each.
const MOST: usize = 200_000;
/// How long a tag counts; then the secret is hashed once more.
const LIFE: Duration = Duration::from_hours(12);
/// Room for the tags of those that went lately, which tells who comes again.
const GHOSTS: f64 = 0.1;

/// Tells which secret of which credential it is about. Each part is as long as it says, so that
/// nothing can move from one to the other.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Whose credential it is.
    pub tenant: &'a TenantId,
    /// Which one.
    pub credential: &'a CredentialId,
    /// Which of its secrets.
    pub version: i64,
    /// What was presented as that secret.
    pub secret: &'a Secret,
}

/// A secret's tag.
pub type Tag = [u8; 32];

/// Makes tags.
#[derive(Debug)]
pub struct Tagger(hmac::Key);

/// The tags of secrets that were right.
#[derive(Debug)]
pub struct Verified {
    tagger: Tagger,
    since: Stopwatch,
    /// With the second in which each was kept.
    tags: Cache<Tag, u32>,
}

impl Tagger {
    /// One that uses this key.
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
    }

    /// The tag of what was presented.
    pub fn tag(&self, presented: &Presented<'_>) -> Result<Tag> {
        let mut context = hmac::Context::with_key(&self.0);
        let version = presented.version.to_be_bytes();
        let parts: [&[u8]; 4] = [
            presented.tenant.as_str().as_bytes(),
            presented.credential.as_str().as_bytes(),
            &version,
            presented.secret.expose().as_bytes(),
        ];
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref().try_into().map_err(|_| Error::internal("a tag of another length"))
    }
}

impl Verified {
    /// None so far, under a key of its own that goes with the process.
    pub fn new() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        random::fill(key.as_mut_slice())?;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(MOST)
            .weight_capacity(MOST as u64)
            .ghost_allocation(GHOSTS)
            .build()
            .map_err(Error::internal)?;
        let tags = Cache::with_options(
            options,
            UnitWeighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Ok(Self { tagger: Tagger::new(&key), since: Stopwatch::start(), tags })
    }

    /// The tag of what was presented: of use here alone.
    pub fn tag(&self, presented: &Presented<'_>) -> Result<Tag> {
        self.tagger.tag(presented)
    }

    /// Whether this secret was right a while ago.
    pub fn knows(&self, presented: &Presented<'_>) -> Result<bool> {
        let tag = self.tag(presented)?;
        let now = self.second();
        let kept = self.tags.get(&tag);
        Ok(kept.is_some_and(|kept| u64::from(now.saturating_sub(kept)) < LIFE.as_secs()))
    }

    /// Keeps that this secret is right.
    pub fn keep(&self, presented: &Presented<'_>) -> Result<()> {
        self.tags.insert(self.tag(presented)?, self.second());
        Ok(())
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    fn second(&self) -> u32 {
        u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Parts {
        tenant: &'static str,
        credential: char,
        version: i64,
        secret: &'static str,
    }

    fn with<T>(parts: &Parts, look: impl FnOnce(&Presented<'_>) -> T) -> T {
        let id = String::from(parts.credential).repeat(32);
        look(&Presented {
            tenant: &TenantId::parse(parts.tenant).unwrap(),
            credential: &CredentialId::parse(&id).unwrap(),
            version: parts.version,
            secret: &Secret::new(parts.secret),
        })
    }

    #[test]
    fn what_was_kept_is_known_and_nothing_else() {
        let verified = Verified::new().unwrap();
        let kept = Parts { tenant: "acme", credential: 'a', version: 1, secret: "kws_0123" };
        with(&kept, |presented| verified.keep(presented).unwrap());
        let knows = |parts: &Parts| with(parts, |presented| verified.knows(presented).unwrap());
        assert!(knows(&kept));
        for other in [
            Parts { tenant: "acm", ..kept },
            Parts { credential: 'b', ..kept },
            Parts { version: 2, ..kept },
            Parts { secret: "kws_012", ..kept },
            Parts { secret: "kws_01234", ..kept },
            Parts { secret: "kws_0123\0", ..kept },
            Parts { secret: "", ..kept },
        ] {
            assert!(!knows(&other));
        }
    }

    #[test]
    fn no_two_processes_have_the_same_tags() {
        let kept = Parts { tenant: "acme", credential: 'a', version: 1, secret: "kws_0123" };
        let tag = || {
            let verified = Verified::new().unwrap();
            with(&kept, |presented| verified.tagger.tag(presented).unwrap())
        };
        assert_ne!(tag(), tag());
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let verified = Verified::new().unwrap();
        let mut parts = Parts { tenant: "acme", credential: 'a', version: 0, secret: "s" };
        for version in 0..i64::try_from(MOST).unwrap() + 50_000 {
            parts.version = version;
            with(&parts, |presented| verified.keep(presented).unwrap());
        }
        assert!(verified.len() <= MOST, "{}", verified.len());
    }
}
