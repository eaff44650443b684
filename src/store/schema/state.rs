//! Whether this version of Keyward can use a schema: a comparison of the migrations that are applied
//! with those that this version knows.
//!
//! Each migration adds a row to `schema_compatibility`. It names the oldest program that can use the
//! schema, by the newest migration that the program knows. So a program can decide about migrations
//! that were written after it.

use std::fmt;

use sqlx::migrate::Migration;

use super::{postgres_migrations, sqlite_migrations};
use crate::store::Database;

/// The schema of a database, compared with the one of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// There is none yet.
    Empty,
    /// It has this version, which is the newest one.
    Current(i64),
    /// It has this version, and migrations are missing.
    Behind { version: i64, missing: usize },
    /// A newer version of Keyward has migrated it, and this version can use it.
    Ahead { version: i64, known: i64 },
    /// A newer version of Keyward has migrated it. Only programs that know the migration `oldest`
    /// can use it. `None`: the schema does not say which.
    TooNew { version: i64, known: i64, oldest: Option<i64> },
    /// The migration of this version differs from the one that this version of Keyward has.
    Different(i64),
}

/// The state of a schema, and the migrations that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaReport {
    pub state: SchemaState,
    /// The file names, without `.sql`.
    pub missing: Vec<String>,
}

/// What a database says about its migrations.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Applied {
    /// Their versions and checksums, in order.
    pub(in crate::store) migrations: Vec<(i64, Vec<u8>)>,
    /// The rows of `schema_compatibility`: a migration, and the oldest program that can use it.
    pub(in crate::store) compatibility: Vec<(i64, i64)>,
}

/// The newest of these migrations; 0 if there is none.
pub(in crate::store) fn newest(migrations: &[Migration]) -> i64 {
    migrations.iter().map(|one| one.version).max().unwrap_or_default()
}

impl SchemaReport {
    /// The report of a database that does not exist yet.
    pub fn empty(database: &Database) -> Self {
        let ours = match database {
            Database::Sqlite(_) => sqlite_migrations(),
            Database::Postgres(_) => postgres_migrations(),
        };
        Self::new(&Applied::default(), ours)
    }

    pub(in crate::store) fn new(applied: &Applied, ours: &[Migration]) -> Self {
        let missing = ours.iter().filter(|one| !applied.has(one.version)).map(file_name).collect();
        Self { state: applied.compare(ours), missing }
    }
}

/// The name of the file of a migration, without `.sql`.
pub(super) fn file_name(migration: &Migration) -> String {
    format!("{:04}_{}", migration.version, migration.description.replace(' ', "_"))
}

impl Applied {
    pub(super) fn has(&self, version: i64) -> bool {
        self.migrations.iter().any(|(one, _)| *one == version)
    }

    /// Compares them with the migrations that this version knows.
    pub(in crate::store) fn compare(&self, ours: &[Migration]) -> SchemaState {
        let known = newest(ours);
        let mut later = Vec::new();
        for (version, checksum) in &self.migrations {
            match ours.iter().find(|one| one.version == *version) {
                Some(one) if *one.checksum == **checksum => {}
                None if *version > known => later.push(*version),
                _ => return SchemaState::Different(*version),
            }
        }
        let missing = ours.len() - (self.migrations.len() - later.len());
        let version = self.migrations.last().map_or(0, |(version, _)| *version);
        if let Some(version) = later.last() {
            return self.ahead(*version, known, &later, missing);
        }
        match (missing, version) {
            (0, _) => SchemaState::Current(version),
            (_, 0) => SchemaState::Empty,
            _ => SchemaState::Behind { version, missing },
        }
    }

    /// The state of a schema with migrations that this version does not know.
    fn ahead(&self, version: i64, known: i64, later: &[i64], missing: usize) -> SchemaState {
        let oldest_of = |version: &i64| {
            self.compatibility.iter().find(|(one, _)| one == version).map(|(_, oldest)| *oldest)
        };
        // A migration that says nothing may have changed anything.
        let oldest = later.iter().map(oldest_of).collect::<Option<Vec<_>>>();
        let oldest = oldest.and_then(|each| each.into_iter().max()).filter(|_| missing == 0);
        match oldest {
            Some(oldest) if oldest <= known => SchemaState::Ahead { version, known },
            oldest => SchemaState::TooNew { version, known, oldest },
        }
    }

    /// The first of our migrations that is missing.
    pub(super) fn next<'a>(&self, ours: &'a [Migration]) -> Option<&'a Migration> {
        ours.iter().find(|one| !self.has(one.version))
    }
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the database has no schema yet"),
            Self::Current(version) => write!(f, "schema version {version}, up to date"),
            Self::Behind { version, missing } => write!(
                f,
                "schema version {version}: {missing} {} of this version of keyward {} missing",
                if *missing == 1 { "migration" } else { "migrations" },
                if *missing == 1 { "is" } else { "are" },
            ),
            Self::Ahead { version, known } => write!(
                f,
                "schema version {version}, from a newer version of keyward; this one knows versions \
                 up to {known} and can use it"
            ),
            Self::TooNew { version, known, oldest } => {
                write!(f, "schema version {version} is from a newer version of keyward, and ")?;
                match oldest {
                    Some(oldest) => write!(
                        f,
                        "needs one that knows schema version {oldest}; this one knows versions up \
                         to {known}: use the newer version, or restore a backup"
                    ),
                    None => write!(
                        f,
                        "does not say that older ones can use it; this one knows versions up to \
                         {known}: use the newer version, or restore a backup"
                    ),
                }
            }
            Self::Different(version) => write!(
                f,
                "schema version {version} differs from that of this version of keyward: use a \
                 released version"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::SqlSafeStr;
    use sqlx::migrate::MigrationType;

    use super::*;

    fn known(versions: &[i64]) -> Vec<Migration> {
        let one = |version: &i64| Migration {
            checksum: vec![u8::try_from(*version).unwrap()].into(),
            ..Migration::new(
                *version,
                "x".into(),
                MigrationType::Simple,
                "select 1".into_sql_str(),
                false,
            )
        };
        versions.iter().map(one).collect()
    }

    fn state(applied: &[i64], compatibility: &[(i64, i64)]) -> SchemaState {
        let migrations = applied.iter().map(|v| (*v, vec![u8::try_from(*v).unwrap()])).collect();
        let applied = Applied { migrations, compatibility: compatibility.to_vec() };
        applied.compare(&known(&[1, 2, 3]))
    }

    #[test]
    fn schema_is_compared_by_version_and_checksum() {
        assert_eq!(state(&[], &[]), SchemaState::Empty);
        assert_eq!(state(&[1, 2, 3], &[]), SchemaState::Current(3));
        assert_eq!(state(&[1, 3], &[]), SchemaState::Behind { version: 3, missing: 1 });
        let other = Applied { migrations: vec![(1, vec![9])], ..Applied::default() };
        assert_eq!(other.compare(&known(&[1, 2])), SchemaState::Different(1));
        // A migration between ours that this version does not have.
        let applied =
            Applied { migrations: vec![(1, vec![1]), (2, vec![2])], ..Applied::default() };
        assert_eq!(applied.compare(&known(&[1, 3])), SchemaState::Different(2));
    }

    #[test]
    fn newer_schema_is_used_if_each_migration_permits_it() {
        let ahead = |version| SchemaState::Ahead { version, known: 3 };
        let too_new = |version, oldest| SchemaState::TooNew { version, known: 3, oldest };
        // One release ahead, of one migration or two.
        assert_eq!(state(&[1, 2, 3, 4], &[(4, 3)]), ahead(4));
        assert_eq!(state(&[1, 2, 3, 4, 5], &[(4, 3), (5, 3)]), ahead(5));
        // Two releases ahead.
        assert_eq!(state(&[1, 2, 3, 4, 5], &[(4, 3), (5, 4)]), too_new(5, Some(4)));
        // The newest does not raise the minimum, but the one before did.
        assert_eq!(state(&[1, 2, 3, 4, 5], &[(4, 4), (5, 3)]), too_new(5, Some(4)));
        // One of them says nothing.
        assert_eq!(state(&[1, 2, 3, 4], &[]), too_new(4, None));
        assert_eq!(state(&[1, 2, 3, 4, 5], &[(5, 3)]), too_new(5, None));
        // One of ours is missing.
        assert_eq!(state(&[1, 3, 4], &[(4, 3)]), too_new(4, None));
    }
}
