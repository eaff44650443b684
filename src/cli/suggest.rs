//! "Did you mean": suggests names that are similar to one that does not exist. It only suggests
//! names that the caller may list.

use strsim::osa_distance;
use tonic::Status;

use super::client::Authorized;
use super::exit::{Failure, Unknown};
use super::names;
use super::resource::{PageArgs, Resource};
use crate::proto::admin as pb;

/// The maximum of names that are read for a hint, and the page size.
const MAX_NAMES: usize = 1000;
const PAGE: i32 = 200;

/// Adds a hint to a failure if there is a similar name. `about` is the resource of the command; the
/// scopes are those of its tenant.
pub(super) async fn with_hint(
    failure: Failure,
    channel: &Authorized,
    about: Option<&str>,
) -> Failure {
    let found = match failure.unknown() {
        Some(Unknown::Resource(name)) => similar(channel, name).await,
        Some(Unknown::Scopes(scopes)) => {
            let tenant = about.and_then(tenant_of).unwrap_or_default();
            similar_scopes(channel, &tenant, scopes).await
        }
        None => None,
    };
    match found {
        Some(name) => failure.with_hint(&did_you_mean(name)),
        None => failure,
    }
}

/// A hint to append to a message.
pub(super) fn did_you_mean(name: impl std::fmt::Display) -> String {
    format!("; did you mean {name}?")
}

/// The most similar name, if it is similar enough: at most one typo per three characters.
pub(super) fn nearest<'a>(word: &str, names: &'a [String]) -> Option<&'a str> {
    if names.iter().any(|name| name == word) {
        return None;
    }
    let distances = names.iter().map(|name| (osa_distance(word, name), name.as_str()));
    let near = distances.filter(|(distance, _)| *distance * 3 <= word.len().max(3));
    near.min().map(|(_, name)| name)
}

/// The short name of an existing resource with a similar name.
async fn similar(channel: &Authorized, name: &str) -> Option<String> {
    let (parent, id) = name.rsplit_once('/')?;
    let (parent, collection) = parent.rsplit_once('/').unwrap_or(("", parent));
    let listed = match collection {
        "tenants" => ids::<pb::Tenant>(channel, parent).await,
        "applications" => ids::<pb::Application>(channel, parent).await,
        "credentials" => ids::<pb::Credential>(channel, parent).await,
        "users" => ids::<pb::User>(channel, parent).await,
        "roles" => ids::<pb::Role>(channel, parent).await,
        "scopes" => ids::<pb::Scope>(channel, parent).await,
        _ => return None,
    };
    match listed {
        Ok(ids) => {
            let id = nearest(id, &ids)?;
            let full = if parent.is_empty() { String::new() } else { format!("{parent}/") };
            Some(names::short(&format!("{full}{collection}/{id}")))
        }
        // The parent does not exist either.
        Err(_) if !parent.is_empty() => Box::pin(similar(channel, parent)).await,
        Err(_) => None,
    }
}

/// The scopes of the catalogue that are similar to these.
async fn similar_scopes(channel: &Authorized, tenant: &str, scopes: &[String]) -> Option<String> {
    let catalogue = ids::<pb::Scope>(channel, tenant).await.ok()?;
    let unknown = scopes.iter().filter(|scope| !catalogue.contains(scope));
    let near: Vec<_> = unknown.filter_map(|scope| nearest(scope, &catalogue)).collect();
    (!near.is_empty()).then(|| near.join(" "))
}

/// The ids of the first resources of a collection.
async fn ids<R: Resource>(channel: &Authorized, parent: &str) -> Result<Vec<String>, Status> {
    let mut ids = Vec::new();
    let mut token = String::new();
    while ids.len() < MAX_NAMES {
        let page = PageArgs { size: PAGE, token };
        let filter = R::Filter::default();
        let (items, next) = R::list(channel.clone(), parent.to_owned(), &filter, page).await?;
        for mut item in items {
            let (name, _) = item.identity();
            ids.extend(names::split(name, R::COLLECTIONS).ok().map(|(_, id)| id.to_owned()));
        }
        if next.is_empty() {
            break;
        }
        token = next;
    }
    Ok(ids)
}

/// The tenant of a resource name.
fn tenant_of(name: &str) -> Option<String> {
    let mut parts = name.split('/');
    Some(format!("{}/{}", parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_has_few_typos() {
        let names = ["campaigns.read", "users.read", "crm"].map(str::to_owned);
        assert_eq!(nearest("campaings.read", &names), Some("campaigns.read"));
        assert_eq!(nearest("crn", &names), Some("crm"));
        assert_eq!(nearest("billing", &names), None);
        assert_eq!(nearest("crm", &names), None, "it exists: something else is wrong");
    }
}
