//! Opens the configured database, and says which migrations it lacks.

use std::path::Path;

use super::{ServerError, cause, files};
use crate::config::Config;
use crate::error::Error;
use crate::store::{
    Database, MigrationMode, SchemaProgress, SchemaReport, SchemaState, Store, UnsupportedSchema,
};

/// Opens the configured database. Creates the directory of a SQLite file if necessary.
pub async fn open_store(config: &Config) -> Result<Store, ServerError> {
    open_store_with(config, &SchemaProgress::default()).await
}

/// The same, and reports what it waits for.
pub(super) async fn open_store_with(
    config: &Config,
    progress: &SchemaProgress,
) -> Result<Store, ServerError> {
    let database = &config.database.url;
    if let Database::Sqlite(file) = database {
        files::create_directory(file.parent().unwrap_or(Path::new("")))?;
        files::prepare_database(file);
    }
    let config = &config.database;
    let store = Box::pin(Store::open_with(database, config.pool, config.schema, progress)).await;
    store.map_err(|error| unusable_database(database, error))
}

/// Brings the schema of the configured database up to date, whatever `database.migrate` says.
pub async fn migrate(config: &Config) -> Result<(), ServerError> {
    let mut config = config.clone();
    config.database.schema.mode = MigrationMode::Auto;
    open_store(&config).await?.close().await;
    Ok(())
}

/// Compares the schema of the configured database with that of this version. Changes nothing.
pub async fn check_schema(config: &Config) -> Result<SchemaReport, ServerError> {
    let database = &config.database.url;
    if let Database::Sqlite(file) = database
        && !file.exists()
    {
        return Ok(SchemaReport::empty(database));
    }
    let read = async {
        let (store, _) = Box::pin(Store::inspect(database, config.database.pool)).await?;
        let report = async { store.read().await?.schema_report().await }.await;
        store.close().await;
        report
    };
    let report = read.await.map_err(|error| unusable_database(database, error))?;
    match report.state {
        SchemaState::TooNew { .. } | SchemaState::Different(_) => Err(ServerError::Schema {
            database: database.to_string(),
            cause: report.state.to_string(),
        }),
        _ => Ok(report),
    }
}

fn unusable_database(database: &Database, error: Error) -> ServerError {
    let database = database.to_string();
    match error {
        Error::Internal(cause) if cause.is::<UnsupportedSchema>() => {
            ServerError::Schema { database, cause: cause.to_string() }
        }
        error => ServerError::Database { database, cause: cause(error) },
    }
}
