//! The data of the database: the master key fits, keys and credentials are not about to end.

use std::time::Duration;

use jiff::Timestamp;

use super::Finding;
use crate::clock::{Clock, from_microsecond, later};
use crate::config::Config;
use crate::error::Result;
use crate::secrets::{MasterKeys, Sealer};
use crate::server::{cause, master_keys};
use crate::service::{MasterKeyUse, held_master_keys, master_key_uses};
use crate::store::{CredentialEnd, SealedSigningKey, Session};

/// Credentials that end within this time are reported.
const SOON: Duration = Duration::from_hours(7 * 24);
/// A signing key that is older should be replaced, if keys are not rotated by a schedule.
const OLD_KEY: Duration = Duration::from_hours(90 * 24);
/// How much longer than `keys.rotation_period` a key may sign.
const LATE_ROTATION: Duration = Duration::from_hours(24);
/// Events are in the hash chain within seconds, unless many are from before an upgrade.
const LATE_SEALING: Duration = Duration::from_mins(1);
/// The maximum number of rows of an earlier version that are counted.
const MAX_UNFILLED: i64 = 100_000;
/// The maximum number of credentials that are counted, and of those that are named.
const MAX_COUNTED: i64 = 1000;
const MAX_NAMED: usize = 3;

pub(super) async fn findings(config: &Config, session: &mut Session) -> Result<Vec<Finding>> {
    let now = Clock::system().now();
    let keys = session.list_signing_keys().await?;
    let mut all = vec![master_key(config, &keys).await, signing_key(config, &keys, now)];
    all.push(master_key_change(config, session, now).await?);
    all.push(admins(&session.admin_credentials().await?, now));
    let soon = later(now, SOON);
    all.push(ending(&session.credentials_that_end(now, soon, MAX_COUNTED).await?));
    let names = session.count_unfolded_names(MAX_UNFILLED).await?;
    let uses = session.count_uncopied_last_uses(MAX_UNFILLED).await?;
    all.push(backfill(names, uses, session.unsealed_since().await?.map(from_microsecond), now));
    Ok(all)
}

/// What servers fill in after an upgrade, in batches.
fn backfill(names: i64, uses: i64, unsealed_since: Option<Timestamp>, now: Timestamp) -> Finding {
    const CHECK: &str = "backfill";
    let mut left = Vec::new();
    for (count, what) in [
        (names, "names of applications are not folded"),
        (uses, "last uses of applications are not copied for search"),
    ] {
        match count {
            0 => {}
            MAX_UNFILLED => left.push(format!("{count} or more {what}")),
            _ => left.push(format!("{count} {what}")),
        }
    }
    if let Some(since) = unsealed_since.filter(|since| later(*since, LATE_SEALING) < now) {
        left.push(format!("audit events since {since:.0} are not in the hash chain"));
    }
    if left.is_empty() {
        return Finding::ok(CHECK, "nothing is left to fill in");
    }
    Finding::warning(
        CHECK,
        left.join("; "),
        "servers do this in the background: keep one of this version running, and ask again",
    )
}

async fn master_key(config: &Config, keys: &[SealedSigningKey]) -> Finding {
    const CHECK: &str = "master_key";
    let key = master_keys::read(config).await.map_err(|fault| fault.0);
    let opened = key.and_then(|key| open_all(&key, keys).map_err(cause));
    match opened {
        Ok(id) => Finding::ok(CHECK, format!("master key {id} opens all {} keys", keys.len())),
        Err(why) => Finding::error(
            CHECK,
            why,
            "bring back the master key that belongs to this database, or restore the backup that \
             belongs to this key",
        ),
    }
}

/// Whether everything that is stored needs the primary master key only.
async fn master_key_change(
    config: &Config,
    session: &mut Session,
    now: Timestamp,
) -> Result<Finding> {
    const CHECK: &str = "master_key_change";
    let Ok(keys) = master_keys::read(config).await else {
        let found = "not known, because the master key cannot be read";
        return Ok(Finding::warning(CHECK, found, "see master_key"));
    };
    let held = held_master_keys(&keys)?;
    Ok(match master_key_uses(session, &held, now).await {
        Ok(uses) => judge_uses(CHECK, &uses),
        // The schema of an older version lacks some of the tables.
        Err(error) => Finding::warning(CHECK, cause(error), "see schema and database"),
    })
}

fn judge_uses(check: &'static str, uses: &[MasterKeyUse]) -> Finding {
    let needed = |found: &&MasterKeyUse| !found.is_primary && !found.is_removable;
    let words = |found: &MasterKeyUse| {
        let name = if found.id.is_empty() { "an unknown key" } else { &found.id };
        let values = found.sealed_values + found.audit_signatures;
        format!("{values} values and {} hashes need master key {name}", found.secret_hashes)
    };
    if let Some(found) = uses.iter().filter(needed).find(|found| !found.is_held) {
        return Finding::error(check, words(found), "set that key as additional_master_key");
    }
    if let Some(found) = uses.iter().find(needed) {
        let advice = if found.sealed_values + found.audit_signatures > 0 {
            "run `keyward keys rewrap`"
        } else {
            "keep it until these secrets were used or rotated: see `keyward keys status`"
        };
        return Finding::warning(check, words(found), advice);
    }
    match uses.iter().find(|found| found.is_held && !found.is_primary) {
        Some(found) => Finding::warning(
            check,
            format!("nothing stored needs the additional master key {}", found.id),
            "remove additional_master_key, if every server writes with the primary key",
        ),
        None => Finding::ok(check, "everything stored needs the master key only"),
    }
}

/// Opens all signing keys. Returns the id of the master key.
fn open_all(master: &MasterKeys, keys: &[SealedSigningKey]) -> Result<String> {
    let sealer = Sealer::new(master)?;
    for key in keys {
        sealer.open(&format!("signingKeys/{}", key.id), &key.sealed_private_key)?;
    }
    master.primary().id()
}

fn signing_key(config: &Config, keys: &[SealedSigningKey], now: Timestamp) -> Finding {
    const CHECK: &str = "signing_key";
    let Some(newest) = keys.last() else {
        return Finding::warning(CHECK, "there is none", "the next start creates one");
    };
    let wanted = config.signing_algorithm.to_string();
    if newest.algorithm != wanted {
        return Finding::warning(
            CHECK,
            format!(
                "the newest key is for {}, but tokens.signing_algorithm is {wanted}",
                newest.algorithm
            ),
            "the next start creates a key, which signs ten minutes later",
        );
    }
    let active = keys.iter().rev().find(|key| key.activates_at <= now).unwrap_or(newest);
    // The first key of a database activates at the epoch.
    let since = active.activates_at.max(active.created_at);
    let days = now.duration_since(since).as_hours() / 24;
    let found = format!("{} ({}) has signed for {days} days", active.id, active.algorithm);
    let (longest, advice) = match config.rotation_period {
        Some(period) => (
            period + LATE_ROTATION,
            "the next key should sign by now: look for failures of rotation in the server's log",
        ),
        None => (OLD_KEY, "run `keyward keys rotate`"),
    };
    if now > later(since, longest) {
        Finding::warning(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

fn end(credential: &CredentialEnd) -> Option<Timestamp> {
    credential.at.map(|at| from_microsecond(at.as_microsecond()))
}

fn admins(credentials: &[CredentialEnd], now: Timestamp) -> Finding {
    const CHECK: &str = "admin_credentials";
    let soon = later(now, SOON);
    let usable: Vec<_> =
        credentials.iter().map(end).filter(|at| at.is_none_or(|at| at > now)).collect();
    let last = usable.iter().flatten().max();
    if usable.is_empty() {
        let found = "no admin credential is enabled and has not ended";
        return Finding::error(CHECK, found, "create one with `keyward bootstrap`");
    }
    match last {
        Some(last) if usable.iter().all(|at| at.is_some_and(|at| at <= soon)) => Finding::warning(
            CHECK,
            format!("the last of {} ends at {last:.0}", usable.len()),
            "create another one now, with the present one or `keyward bootstrap`",
        ),
        _ => Finding::ok(CHECK, format!("{} can be used", usable.len())),
    }
}

fn ending(credentials: &[CredentialEnd]) -> Finding {
    const CHECK: &str = "credentials";
    if credentials.is_empty() {
        return Finding::ok(CHECK, "none ends within 7 days");
    }
    let named: Vec<_> = credentials
        .iter()
        .take(MAX_NAMED)
        .filter_map(|credential| Some(format!("{} ({:.0})", credential.name, credential.at?)))
        .collect();
    let more = if credentials.len() > named.len() { ", …" } else { "" };
    Finding::warning(
        CHECK,
        format!("{} end within 7 days: {}{more}", credentials.len(), named.join(", ")),
        "tell their owners to rotate or extend them",
    )
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::domain::Moment;
    use crate::server::doctor::Level;

    #[test]
    fn rows_that_are_not_filled_in_are_counted() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let found = |names, uses, seconds: Option<i64>| {
            let since = seconds.map(|seconds| now - SignedDuration::from_secs(seconds));
            let finding = backfill(names, uses, since, now);
            (finding.level, finding.found)
        };
        assert_eq!(found(0, 0, None).0, Level::Ok);
        assert_eq!(found(0, 0, Some(10)).0, Level::Ok);
        let (level, text) = found(7, 0, Some(90));
        assert_eq!(level, Level::Warning);
        assert!(text.starts_with("7 names of applications are not folded; audit events since "));
        assert!(found(MAX_UNFILLED, 0, None).1.starts_with("100000 or more names"));
        let (level, text) = found(0, 8, None);
        assert_eq!((level, text.as_str()), {
            (Level::Warning, "8 last uses of applications are not copied for search")
        });
    }

    #[test]
    fn admins_that_all_end_soon_are_a_warning() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let of = |days: &[Option<i64>]| {
            let each = days.iter().map(|days| CredentialEnd {
                name: "x".to_owned(),
                at: days.map(|days| {
                    Moment::from_microsecond(now.as_microsecond() + days * 86_400_000_000)
                }),
            });
            admins(&each.collect::<Vec<_>>(), now).level
        };
        assert_eq!(of(&[]), Level::Error);
        assert_eq!(of(&[Some(-1)]), Level::Error);
        assert_eq!(of(&[Some(3), Some(-1)]), Level::Warning);
        assert_eq!(of(&[Some(3), Some(30)]), Level::Ok);
        assert_eq!(of(&[Some(3), None]), Level::Ok);
    }

    #[test]
    fn old_signing_key_is_a_warning() {
        let config = Config::read(crate::config::Layers::default()).unwrap();
        let created = Timestamp::from_second(1_800_000_000).unwrap();
        let key = SealedSigningKey {
            generation: 1,
            id: "kid".to_owned(),
            algorithm: "ES256".to_owned(),
            sealed_private_key: String::new(),
            created_at: created,
            activates_at: created,
        };
        let level = |days: i64| {
            let now = created + SignedDuration::from_hours(days * 24);
            signing_key(&config, std::slice::from_ref(&key), now).level
        };
        assert_eq!((level(31), level(32)), (Level::Ok, Level::Warning));
    }
}
