//! A cache of secrets that were verified recently, so that a client which sends the same secret
//! again does not need another hash. It stores a keyed tag of each secret; the key exists only in
//! this process. A hit means that the secret was right. Whether it is still accepted must be
//! checked every time.

use std::time::Duration;

use aws_lc_rs::hmac;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use zeroize::Zeroizing;

use super::{Secret, random};
use crate::clock::Stopwatch;
use crate::domain::{CredentialId, TenantId};
use crate::error::{Error, Result};

/// The capacity, at some 90 bytes an entry.
const CAPACITY: usize = 200_000;
/// How long an entry is valid. Then the secret is hashed again.
const MAX_AGE: Duration = Duration::from_hours(12);
/// The ratio of evicted entries that the cache remembers, to recognise those that come back.
const GHOST_RATIO: f64 = 0.1;

/// Identifies a secret of a credential. Each part has a length prefix in the tag's input, so that
/// the parts cannot run together.
#[derive(Clone, Copy, Debug)]
pub struct PresentedSecret<'a> {
    pub tenant: &'a TenantId,
    pub credential: &'a CredentialId,
    /// The version of the credential's secret.
    pub version: i64,
    /// The value that was sent as that secret.
    pub secret: &'a Secret,
}

/// A keyed tag of a secret.
pub type Tag = [u8; 32];

/// Computes tags.
#[derive(Debug)]
pub struct Tagger(hmac::Key);

/// The cache of verified secrets.
#[derive(Debug)]
pub struct VerifiedSecrets {
    tagger: Tagger,
    since: Stopwatch,
    /// Each value is the second in which the entry ends.
    tags: Cache<Tag, u32>,
}

impl Tagger {
    /// A tagger with this key.
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
    }

    pub fn tag(&self, presented: &PresentedSecret<'_>) -> Result<Tag> {
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

impl VerifiedSecrets {
    /// An empty cache with a random key.
    pub fn new() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        random::fill(key.as_mut_slice())?;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(CAPACITY)
            .weight_capacity(CAPACITY as u64)
            .ghost_allocation(GHOST_RATIO)
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

    /// The tag of a presented secret. It is valid only for this cache.
    pub fn tag(&self, presented: &PresentedSecret<'_>) -> Result<Tag> {
        self.tagger.tag(presented)
    }

    /// Whether the secret was verified recently.
    pub fn knows(&self, presented: &PresentedSecret<'_>) -> Result<bool> {
        let tag = self.tag(presented)?;
        let now = self.second();
        Ok(self.tags.get(&tag).is_some_and(|end| now < end))
    }

    /// Adds a verified secret.
    pub fn keep(&self, presented: &PresentedSecret<'_>) -> Result<()> {
        self.keep_for(presented, MAX_AGE)
    }

    /// Adds a verified secret, for this time.
    pub fn keep_for(&self, presented: &PresentedSecret<'_>, life: Duration) -> Result<()> {
        let life = u32::try_from(life.as_secs()).unwrap_or(u32::MAX);
        self.tags.insert(self.tag(presented)?, self.second().saturating_add(life));
        Ok(())
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether the cache is empty.
    #[cfg(feature = "internals")]
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

    fn with<T>(parts: &Parts, look: impl FnOnce(&PresentedSecret<'_>) -> T) -> T {
        let id = String::from(parts.credential).repeat(32);
        look(&PresentedSecret {
            tenant: &TenantId::parse(parts.tenant).unwrap(),
            credential: &CredentialId::parse(&id).unwrap(),
            version: parts.version,
            secret: &Secret::new(parts.secret),
        })
    }

    #[test]
    fn kept_secret_is_known_and_others_are_not() {
        let verified = VerifiedSecrets::new().unwrap();
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
    fn secret_is_known_until_its_time_ends() {
        let verified = VerifiedSecrets::new().unwrap();
        let parts = Parts { tenant: "acme", credential: 'a', version: 1, secret: "kws_0123" };
        let knows = || with(&parts, |presented| verified.knows(presented).unwrap());
        with(&parts, |presented| verified.keep_for(presented, Duration::from_hours(1)).unwrap());
        assert!(knows());
        with(&parts, |presented| verified.keep_for(presented, Duration::ZERO).unwrap());
        assert!(!knows());
    }

    #[test]
    fn tags_differ_between_processes() {
        let kept = Parts { tenant: "acme", credential: 'a', version: 1, secret: "kws_0123" };
        let tag = || {
            let verified = VerifiedSecrets::new().unwrap();
            with(&kept, |presented| verified.tagger.tag(presented).unwrap())
        };
        assert_ne!(tag(), tag());
    }

    #[test]
    fn cache_size_is_bounded() {
        let verified = VerifiedSecrets::new().unwrap();
        let mut parts = Parts { tenant: "acme", credential: 'a', version: 0, secret: "s" };
        for version in 0..i64::try_from(CAPACITY).unwrap() + 50_000 {
            parts.version = version;
            with(&parts, |presented| verified.keep(presented).unwrap());
        }
        assert!(verified.len() <= CAPACITY, "{}", verified.len());
    }
}
