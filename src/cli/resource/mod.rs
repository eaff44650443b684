//! The commands for resources. All resources have the same commands `list`, `show`, `create`,
//! `update` and `delete`, with the same names, paging, etags, confirmations and output.

mod application;
mod certificate;
mod change;
mod credential;
mod delete;
mod federated;
pub(super) mod limits;
pub(super) mod policy;
mod public_key;
mod role;
mod scope;
mod tenant;
mod user;

use std::fmt::Debug;

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use tonic::Status;

use super::client::{Authorized, Limit, all_pages};
use super::output::{Output, Tabular};
use super::{Failure, ServerConnection, names};
pub(super) use change::{FieldFlags, MaskBuilder, NoFlags};
pub(super) use credential::CredentialArgs;
use delete::DeleteArgs;
pub(super) use delete::Deleted;

/// A kind of resource: its help texts, flags and calls. Everything else is the same for all kinds.
pub(super) trait Resource: Tabular + Default + Debug {
    /// The help texts.
    const WORDS: Words;
    /// The collections of its name, outermost first.
    const COLLECTIONS: &'static [&'static str];

    /// The arguments for the parent of a list.
    type Place: Place;
    /// The filter flags of a list.
    type Filter: Args + Debug + Default;
    /// The field flags of both `create` and `update`.
    type Fields: Args + Debug + FieldFlags<Self>;
    /// The flags of `create` only.
    type OnCreate: Args + Debug;
    /// The flags of `update` only.
    type OnUpdate: Args + Debug + FieldFlags<Self>;
    /// The flags of `delete` only.
    type OnDelete: Args + Debug;

    /// The name and the etag.
    fn identity(&mut self) -> (&mut String, &mut String);

    /// The parent and the id of a new resource. With an empty id, the server makes one.
    fn place(name: &str) -> Result<(String, String), Failure> {
        let name = names::expand(name, Self::COLLECTIONS);
        let (parent, id) = names::split(&name, Self::COLLECTIONS)?;
        Ok((parent.to_owned(), id.to_owned()))
    }

    /// Reads a page. Also returns the token of the next one.
    async fn list(
        channel: Authorized,
        parent: String,
        filter: &Self::Filter,
        page: PageArgs,
    ) -> Result<(Vec<Self>, String), Status>;

    async fn get(channel: Authorized, name: String) -> Result<Self, Status>;

    /// Whether a new resource has a secret.
    fn has_secret(_flags: &Self::OnCreate) -> bool {
        false
    }

    async fn create(
        channel: Authorized,
        new: New<Self>,
        flags: &Self::OnCreate,
    ) -> Result<Made<Self>, Status>;

    async fn update(
        channel: Authorized,
        resource: Self,
        mask: FieldMask,
        flags: &Self::OnUpdate,
    ) -> Result<Self, Status>;

    async fn delete(
        channel: Authorized,
        name: String,
        etag: String,
        flags: &Self::OnDelete,
    ) -> Result<Deleted, Status>;

    /// The consequences of a deletion, as a sentence for the confirmation. `None` if nothing will
    /// be deleted.
    fn consequence(flags: &Self::OnDelete) -> Option<&'static str>;

    /// Deletes several resources. If one fails, the others are still deleted.
    async fn delete_all(
        channel: Authorized,
        names: Vec<String>,
        flags: &Self::OnDelete,
    ) -> Result<Vec<(String, Result<Deleted, Failure>)>, Failure> {
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let result = Self::delete(channel.clone(), name.clone(), String::new(), flags).await;
            results.push((name, result.map_err(Failure::from)));
        }
        Ok(results)
    }
}

/// Implements the calls of a kind of resource. Each needs the method, the request, and the result
/// in the answer.
macro_rules! calls {
    (
        $client:ident;
        $list:ident($parent:ident, $filter:ident, $page:ident) $list_request:expr
            => |$listed:ident| $items:expr;
        $get:ident($get_name:ident) $get_request:expr => |$got:ident| $item:expr;
        $create:ident($new:ident, $create_flags:ident) $create_request:expr
            => |$created:ident| $made:expr;
        $update:ident($resource:ident, $mask:ident, $update_flags:ident) $update_request:expr
            => |$updated:ident| $changed:expr;
        $delete:ident($delete_name:ident, $etag:ident, $delete_flags:ident) $delete_request:expr
            => |$deleted:ident| $gone:expr;
    ) => {
        fn identity(&mut self) -> (&mut String, &mut String) {
            (&mut self.name, &mut self.etag)
        }

        async fn list(
            channel: $crate::cli::client::Authorized,
            $parent: String,
            $filter: &Self::Filter,
            $page: $crate::cli::resource::PageArgs,
        ) -> Result<(Vec<Self>, String), tonic::Status> {
            let $listed = $client::new(channel).$list($list_request).await?.into_inner();
            Ok($items)
        }

        async fn get(
            channel: $crate::cli::client::Authorized,
            $get_name: String,
        ) -> Result<Self, tonic::Status> {
            let $got = $client::new(channel).$get($get_request).await?.into_inner();
            Ok($item.unwrap_or_default())
        }

        async fn create(
            channel: $crate::cli::client::Authorized,
            $new: $crate::cli::resource::New<Self>,
            $create_flags: &Self::OnCreate,
        ) -> Result<$crate::cli::resource::Made<Self>, tonic::Status> {
            let $created = $client::new(channel).$create($create_request).await?.into_inner();
            Ok($made)
        }

        async fn update(
            channel: $crate::cli::client::Authorized,
            $resource: Self,
            $mask: prost_types::FieldMask,
            $update_flags: &Self::OnUpdate,
        ) -> Result<Self, tonic::Status> {
            let $updated = $client::new(channel).$update($update_request).await?.into_inner();
            Ok($changed.unwrap_or_default())
        }

        async fn delete(
            channel: $crate::cli::client::Authorized,
            $delete_name: String,
            $etag: String,
            $delete_flags: &Self::OnDelete,
        ) -> Result<$crate::cli::resource::Deleted, tonic::Status> {
            let $deleted = $client::new(channel).$delete($delete_request).await?.into_inner();
            Ok($gone)
        }
    };
}
use calls;

/// The help texts of a kind of resource.
pub(super) struct Words {
    /// The help of the name argument: `The role: acme/admin`.
    pub(super) name: &'static str,
    /// The same for `create`.
    pub(super) new_name: &'static str,
    pub(super) list: Help,
    pub(super) show: Help,
    pub(super) create: Help,
    pub(super) update: Help,
    pub(super) delete: Help,
}

/// The help of a command, and the arguments of its examples.
type Help = (&'static str, &'static [&'static str]);

/// The text of the examples in a help.
fn examples<R: Resource>(verb: &str, arguments: &[&str]) -> String {
    let kind = R::COLLECTIONS.last().map_or("", |last| last.trim_end_matches('s'));
    let title = if arguments.len() == 1 { "Example:" } else { "Examples:" };
    let lines = arguments.iter().map(|arguments| format!("  keyward {kind} {verb} {arguments}"));
    [title.to_owned()].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// A page of a list.
pub(super) struct PageArgs {
    pub(super) size: i32,
    pub(super) token: String,
}

/// The arguments of a creation.
pub(super) struct New<R> {
    pub(super) parent: String,
    pub(super) id: String,
    pub(super) resource: R,
}

/// A created resource, and its secret if it has one.
pub(super) struct Made<R> {
    pub(super) resource: R,
    pub(super) secret: Option<String>,
}

impl<R> Made<R> {
    pub(super) fn plain(resource: Option<R>) -> Self
    where
        R: Default,
    {
        Self { resource: resource.unwrap_or_default(), secret: None }
    }
}

/// The arguments for the parent of a list.
pub(super) trait Place: Args + Debug {
    /// The name of the parent.
    fn parent(&self) -> String;
}

/// A tenant as the parent.
#[derive(Debug, Args)]
pub(super) struct InTenant {
    /// The tenant: acme
    tenant: String,
}

impl Place for InTenant {
    fn parent(&self) -> String {
        names::tenant(&self.tenant)
    }
}

/// `keyward KIND`
#[derive(Debug, Args)]
pub(super) struct Manage<R: Resource> {
    #[command(subcommand)]
    command: ResourceCommand<R>,
    #[command(flatten)]
    connection: ServerConnection,
}

impl<R: Resource> Manage<R> {
    pub(super) async fn run(self) -> Result<(), Failure> {
        self.command.run(&self.connection).await
    }
}

/// The commands for a resource of any kind.
#[derive(Debug, Subcommand)]
pub(super) enum ResourceCommand<R: Resource> {
    #[command(about = R::WORDS.list.0, after_help = examples::<R>("list", R::WORDS.list.1))]
    List(ListArgs<R>),
    #[command(about = R::WORDS.show.0, after_help = examples::<R>("show", R::WORDS.show.1))]
    Show(ShowArgs<R>),
    #[command(about = R::WORDS.create.0, after_help = examples::<R>("create", R::WORDS.create.1))]
    Create(Box<CreateArgs<R>>),
    #[command(about = R::WORDS.update.0, after_help = examples::<R>("update", R::WORDS.update.1))]
    Update(Box<UpdateArgs<R>>),
    #[command(about = R::WORDS.delete.0, after_help = examples::<R>("delete", R::WORDS.delete.1))]
    Delete(DeleteArgs<R>),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs<R: Resource> {
    #[command(flatten)]
    place: R::Place,
    #[command(flatten)]
    filter: R::Filter,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs<R: Resource> {
    #[arg(help = R::WORDS.name)]
    name: String,
    #[arg(skip)]
    kind: std::marker::PhantomData<R>,
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs<R: Resource> {
    #[arg(help = R::WORDS.new_name)]
    name: String,
    #[command(flatten)]
    fields: R::Fields,
    #[command(flatten)]
    flags: R::OnCreate,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs<R: Resource> {
    #[arg(help = R::WORDS.name)]
    name: String,
    #[command(flatten)]
    fields: R::Fields,
    #[command(flatten)]
    flags: R::OnUpdate,
    /// Change it only if it still has this etag
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// The full name of a resource of this kind.
fn full_name<R: Resource>(name: &str) -> Result<String, Failure> {
    let name = names::expand(name, R::COLLECTIONS);
    names::split(&name, R::COLLECTIONS)?;
    Ok(name)
}

impl<R: Resource> ResourceCommand<R> {
    pub(super) async fn run(self, connection: &ServerConnection) -> Result<(), Failure> {
        let output = &connection.output;
        match self {
            Self::List(list) => {
                let parent = list.place.parent();
                let work = async |channel| list.run(channel, &parent, output).await;
                connection.call(Some(&parent), work).await
            }
            Self::Show(show) => {
                let name = full_name::<R>(&show.name)?;
                let work = async |channel| Ok(R::get(channel, name.clone()).await?);
                output.one(&connection.call(Some(&name), work).await?)
            }
            Self::Create(create) => {
                let CreateArgs { name, fields, flags } = *create;
                if R::has_secret(&flags) {
                    output.check_secret()?;
                }
                let (parent, id) = R::place(&name)?;
                let mut resource = R::default();
                fields.apply(&mut resource, &mut MaskBuilder::default());
                let new = New { parent: parent.clone(), id, resource };
                let work = async |channel| Ok(R::create(channel, new, &flags).await?);
                let made = connection.call(Some(&parent), work).await?;
                output.one_with(&made.resource, made.secret.map(|secret| ("secret", secret)))
            }
            Self::Update(update) => {
                let name = full_name::<R>(&update.name)?;
                let work = async |channel| update.run(channel, name.clone()).await;
                output.one(&connection.call(Some(&name), work).await?)
            }
            Self::Delete(delete) => delete.run(connection).await,
        }
    }
}

impl<R: Resource> ListArgs<R> {
    async fn run(&self, channel: Authorized, parent: &str, output: &Output) -> Result<(), Failure> {
        let all = all_pages(self.limit, async |size, token| {
            R::list(channel.clone(), parent.to_owned(), &self.filter, PageArgs { size, token })
                .await
        });
        output.list(&all.await?)
    }
}

impl<R: Resource> UpdateArgs<R> {
    async fn run(self, channel: Authorized, name: String) -> Result<R, Failure> {
        let mut resource = if self.fields.needs_current() {
            R::get(channel.clone(), name.clone()).await?
        } else {
            R::default()
        };
        let (own_name, own_etag) = resource.identity();
        *own_name = name;
        if !self.etag.is_empty() {
            *own_etag = self.etag;
        }
        let mut mask = MaskBuilder::default();
        self.fields.apply(&mut resource, &mut mask);
        self.flags.apply(&mut resource, &mut mask);
        Ok(R::update(channel, resource, mask.into(), &self.flags).await?)
    }
}
