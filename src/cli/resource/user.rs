//! `keyward user`

use clap::Args;
use serde_json::json;

use super::{Deleted, FieldFlags, InTenant, Made, MaskBuilder, NoFlags, Resource, Words, calls};
use crate::cli::names::{self, moment};
use crate::cli::output::{Column, Tabular, listed, member};
use crate::proto::admin as pb;
use crate::proto::admin::delete_user_response::Outcome;
use crate::proto::admin::user_service_client::UserServiceClient;

#[derive(Debug, Args)]
pub(in crate::cli) struct UserFields {
    /// The display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// A role of the user; repeat it for more. On update it replaces the present ones ('': none)
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

impl FieldFlags<pb::User> for UserFields {
    fn apply(&self, user: &mut pb::User, mask: &mut MaskBuilder) {
        mask.set("display_name", self.display_name.as_ref(), &mut user.display_name);
        mask.words("roles", &names::roles(&self.role), &mut user.roles);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UserUpdate {
    /// Disable the user (true), which revokes the tokens of the user's applications, or enable
    /// the user (false)
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
    /// Create the user if it does not exist
    #[arg(long)]
    allow_missing: bool,
}

impl FieldFlags<pb::User> for UserUpdate {
    fn apply(&self, user: &mut pb::User, mask: &mut MaskBuilder) {
        mask.set("disabled", self.disabled.as_ref(), &mut user.disabled);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UserDelete {
    /// The user who gets the applications, if the policy hands them over: acme/eve
    #[arg(long, value_name = "USER")]
    hand_over_to: Option<String>,
    /// Report what would happen, and change nothing
    #[arg(long)]
    preview: bool,
}

impl Tabular for pb::User {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |user| json!(user.name)),
        listed(2, "display_name", |user| json!(user.display_name)),
        listed(3, "disabled", |user| json!(user.disabled)),
        member("disabled_by_platform", |user| json!(user.disabled_by_platform)),
        listed(4, "roles", |user| json!(user.roles)),
        listed(6, "create_time", |user| json!(moment(user.create_time.as_ref()))),
        listed(5, "update_time", |user| json!(moment(user.update_time.as_ref()))),
        member("etag", |user| json!(user.etag)),
    ];
}

impl Resource for pb::User {
    const COLLECTIONS: &'static [&'static str] = &["tenants", "users"];
    const WORDS: Words = Words {
        name: "The user: acme/sam",
        new_name: "The new user: acme/sam. The id is that of the identity provider (auth0|5f7c, \
                   sam@example.com): 1 to 255 printable ASCII characters without /; \
                   percent-encode others",
        list: ("List the users of a tenant", &["acme"]),
        show: ("Show a user", &["acme/sam"]),
        create: ("Create a user", &["acme/sam --display-name Sam --role admin"]),
        update: (
            "Change the given fields of a user",
            &["acme/sam --role admin --role viewer", "acme/sam --disabled true"],
        ),
        delete: (
            "Delete users. The tenant's policy determines what happens to their applications",
            &["acme/sam --preview", "acme/sam --hand-over-to acme/eve"],
        ),
    };

    type Place = InTenant;
    type Filter = NoFlags;
    type Fields = UserFields;
    type OnCreate = NoFlags;
    type OnUpdate = UserUpdate;
    type OnDelete = UserDelete;

    calls! { UserServiceClient;
        list_users(parent, _filter, page) pb::ListUsersRequest {
            parent, page_size: page.size, page_token: page.token,
        } => |answer| (answer.users, answer.next_page_token);
        get_user(name) pb::GetUserRequest { name } => |answer| answer.user;
        create_user(new, _flags) pb::CreateUserRequest {
            parent: new.parent, user_id: new.id, user: Some(new.resource),
        } => |answer| Made::plain(answer.user);
        update_user(user, mask, flags) pb::UpdateUserRequest {
            user: Some(user), update_mask: Some(mask), allow_missing: flags.allow_missing,
        } => |answer| answer.user;
        delete_user(name, etag, flags) pb::DeleteUserRequest {
            name: name.clone(), etag, hand_over_to: flags.heir(), validate_only: flags.preview,
        } => |answer| flags.report(&name, &answer);
    }

    fn consequence(flags: &UserDelete) -> Option<&'static str> {
        (!flags.preview).then_some(
            "The user's applications are handed over or deleted, depending on the tenant's policy.",
        )
    }
}

impl UserDelete {
    fn heir(&self) -> String {
        self.hand_over_to.as_deref().map(names::user).unwrap_or_default()
    }

    /// The result of the deletion, or of the preview.
    fn report(&self, name: &str, answer: &pb::DeleteUserResponse) -> Deleted {
        let outcome = match answer.outcome() {
            Outcome::Unspecified => "nothing_owned",
            Outcome::Refused => "refused",
            Outcome::HandedOver => "handed_over",
            Outcome::Deleted => "deleted",
        };
        Deleted {
            done: !self.preview,
            text: Some(self.text(name, answer)),
            details: Some(json!({
                "name": name,
                "preview": self.preview,
                "outcome": outcome,
                "application_count": answer.application_count,
                "credential_count": answer.credential_count,
                "applications": answer.applications,
                "credentials": answer.credentials,
            })),
        }
    }

    fn text(&self, name: &str, answer: &pb::DeleteUserResponse) -> String {
        let what = format!(
            "{} with {}",
            counted(answer.application_count, "application"),
            counted(answer.credential_count, "credential")
        );
        let are = if self.preview { "would be" } else { "were" };
        let first = match answer.outcome() {
            Outcome::Refused => format!("{what} must be deleted or handed over first:"),
            Outcome::HandedOver => {
                format!("{what} {are} handed over to {}:", names::short(&self.heir()))
            }
            Outcome::Deleted => format!("{what} {are} deleted:"),
            Outcome::Unspecified => format!("{name} owns no application"),
        };
        let owned: Vec<_> = answer.applications.iter().chain(&answer.credentials).collect();
        let shown = i64::try_from(owned.len()).unwrap_or_default();
        let more = answer.application_count + answer.credential_count - shown;
        let last = if self.preview {
            "nothing was changed: this was a preview".to_owned()
        } else {
            format!("{name} is deleted")
        };
        let mut lines = vec![first];
        lines.extend(owned.iter().map(|name| format!("  {}", names::short(name))));
        lines.extend((more > 0).then(|| format!("  and {more} more")));
        lines.push(last);
        lines.join("\n")
    }
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
