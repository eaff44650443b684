//! `delete` for one or several resources.

use clap::Args;
use serde_json::{Value, json};

use super::{Resource, full_name};
use crate::cli::confirm::Confirm;
use crate::cli::output::{Column, Output, Tabular, listed};
use crate::cli::{Failure, ServerConnection, names};

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs<R: Resource> {
    #[arg(
        required = true,
        value_name = "NAME",
        help = format!("{}; more names can follow", R::WORDS.name)
    )]
    names: Vec<String>,
    #[command(flatten)]
    flags: R::OnDelete,
    /// Delete it only if it still has this etag; with one name
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// The result of a deletion.
#[derive(Debug)]
pub(in crate::cli) struct Deleted {
    /// Whether anything was deleted. False for a preview.
    pub(in crate::cli) done: bool,
    /// A text for people, if it is not just "NAME is deleted".
    pub(in crate::cli) text: Option<String>,
    /// An object for scripts, if they need more than the exit code.
    pub(in crate::cli) details: Option<Value>,
}

impl Deleted {
    pub(in crate::cli) fn plain() -> Self {
        Self { done: true, text: None, details: None }
    }
}

/// The result for one of several resources.
#[derive(Debug)]
struct DeletedRow {
    name: String,
    deleted: bool,
    reason: Option<String>,
    message: String,
}

impl Tabular for DeletedRow {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |row| json!(row.name)),
        listed(2, "deleted", |row| json!(row.deleted)),
        listed(3, "reason", |row| json!(row.reason)),
        listed(4, "message", |row| json!(row.message)),
    ];
}

impl<R: Resource> DeleteArgs<R> {
    pub(super) async fn run(self, connection: &ServerConnection) -> Result<(), Failure> {
        let full: Result<Vec<_>, _> = self.names.iter().map(|name| full_name::<R>(name)).collect();
        let names = full?;
        if names.len() > 1 && !self.etag.is_empty() {
            return Err(Failure::usage("--etag is for one resource: give one name"));
        }
        if let Some(consequence) = R::consequence(&self.flags) {
            let short: Vec<_> = names.iter().map(|name| names::short(name)).collect();
            self.confirm.ask(&format!("Delete {}? {consequence}", short.join(", ")))?;
        }
        let output = &connection.output;
        if let [name] = &names[..] {
            let work =
                async |channel| Ok(R::delete(channel, name.clone(), self.etag, &self.flags).await?);
            let deleted = connection.call(Some(name), work).await?;
            return print(name, deleted, output);
        }
        let work = async |channel| R::delete_all(channel, names, &self.flags).await;
        print_all(connection.call(None, work).await?, output)
    }
}

fn print(name: &str, deleted: Deleted, output: &Output) -> Result<(), Failure> {
    if let Some(details) = deleted.details.filter(|_| !output.is_table()) {
        return output.value(&details);
    }
    output.done(&deleted.text.unwrap_or_else(|| format!("{name} is deleted")));
    Ok(())
}

fn print_all(
    results: Vec<(String, Result<Deleted, Failure>)>,
    output: &Output,
) -> Result<(), Failure> {
    let rows: Vec<_> = results
        .into_iter()
        .map(|(name, result)| match result {
            Ok(Deleted { done: true, .. }) => {
                DeletedRow { name, deleted: true, reason: None, message: String::new() }
            }
            Ok(Deleted { text, .. }) => {
                DeletedRow { name, deleted: false, reason: None, message: text.unwrap_or_default() }
            }
            Err(failure) => {
                let (reason, message) = failure.into_parts();
                DeletedRow { name, deleted: false, reason: Some(reason), message }
            }
        })
        .collect();
    output.many(&rows)?;
    match rows.iter().filter(|row| row.reason.is_some()).count() {
        0 => Ok(()),
        left => Err(Failure::new(format!("{left} of {} were not deleted", rows.len()))),
    }
}
