//! The table of rights: what each call requires of the acting user, and which states and policies
//! refuse it. All rights are decided here; the section "Rights" of `proto/README.md` shows the
//! table.
//!
//! Three principles: a right to a secret is compared with everything that the application was
//! given; a right to a limit is compared with the policy; and a caller who may not view a resource
//! gets the same answer as if it did not exist.

use std::fmt::{self, Display};

use jiff::Timestamp;

use super::authority::GivenAccess;
use super::fields::Fault;
pub use super::policy::PolicyRule;
use super::policy::words;
use super::{
    ApplicationName, Authority, CredentialName, Field, Moment, Owner, Permission, Policy, Reach,
    UserDeletion, UserId, Verb,
};
use crate::error::{Error, Need, Result};

words!(
    /// A call that a user can make, named after its RPC.
    #[allow(dead_code, reason = "the calls of the platform are refused before any rule is asked")]
    Call {
        CreateTenant = "CreateTenant",
        GetTenant = "GetTenant",
        ListTenants = "ListTenants",
        UpdateTenant = "UpdateTenant",
        DeleteTenant = "DeleteTenant",
        ApplyProfile = "ApplyProfile",
        CreateScope = "CreateScope",
        GetScope = "GetScope",
        ListScopes = "ListScopes",
        UpdateScope = "UpdateScope",
        DeleteScope = "DeleteScope",
        CreateRole = "CreateRole",
        GetRole = "GetRole",
        ListRoles = "ListRoles",
        UpdateRole = "UpdateRole",
        DeleteRole = "DeleteRole",
        CreateUser = "CreateUser",
        GetUser = "GetUser",
        ListUsers = "ListUsers",
        UpdateUser = "UpdateUser",
        DeleteUser = "DeleteUser",
        ListEndpoints = "ListEndpoints",
        ListAuditEvents = "ListAuditEvents",
        WatchAuditEvents = "WatchAuditEvents",
        GetAuditLog = "GetAuditLog",
        ListAuditLogs = "ListAuditLogs",
        CreateApplication = "CreateApplication",
        GetApplication = "GetApplication",
        ListApplications = "ListApplications",
        UpdateApplication = "UpdateApplication",
        DeleteApplication = "DeleteApplication",
        BatchDeleteApplications = "BatchDeleteApplications",
        ListApplicationUsage = "ListApplicationUsage",
        CreateCredential = "CreateCredential",
        GetCredential = "GetCredential",
        ListCredentials = "ListCredentials",
        UpdateCredential = "UpdateCredential",
        DeleteCredential = "DeleteCredential",
        RotateCredential = "RotateCredential",
        RevealCredential = "RevealCredential",
        RevokeToken = "RevokeToken",
        RevokeTokens = "RevokeTokens",
    }
);

/// What a call requires of the acting user. The platform, which acts for no user, needs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// An enabled user of the tenant.
    Membership,
    Permission(Permission),
    /// A permission, unless the user asks about themselves.
    PermissionOrSelf(Permission),
    /// A permission for this verb with a reach that includes the application's owner.
    Applications(Verb),
    /// Refused for all users.
    Platform,
}

/// What a call does with an application's secrets. `HandedOut` and `Revived` are compared with
/// everything that the application was given: its scopes and the scopes of its roles, including
/// those that are disabled or that its owner may not grant today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The call does not touch secrets, or only takes rights away.
    Untouched,
    /// The call returns a secret.
    HandedOut,
    /// The call may let secrets work again, by enabling them or by a later expiry.
    Revived,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What the call requires of the acting user's roles.
    pub needs: Needs,
    /// Whether the user must be allowed to give the scopes and roles in the request.
    pub gives: bool,
    /// What the call does with secrets.
    pub secrets: Secrets,
    /// The policy fields that can refuse the call, for all callers.
    pub policy: &'static [PolicyRule],
    /// The permission to set limits above the policy's. Narrower limits need none.
    pub lifts_limits: Option<Permission>,
    /// Whether the call is refused for a protected application, for all callers.
    pub stopped_by_protection: bool,
    /// Whether users are refused if they would enable what the platform disabled.
    pub stopped_by_platform: bool,
}

impl Rule {
    const fn new(needs: Needs) -> Self {
        Self {
            needs,
            gives: false,
            secrets: Secrets::Untouched,
            policy: &[],
            lifts_limits: None,
            stopped_by_protection: false,
            stopped_by_platform: false,
        }
    }

    const fn on(verb: Verb) -> Self {
        Self::new(Needs::Applications(verb))
    }

    const fn with(permission: Permission) -> Self {
        Self::new(Needs::Permission(permission))
    }

    const fn gives(self) -> Self {
        Self { gives: true, ..self }
    }

    const fn secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    const fn policy(self, policy: &'static [PolicyRule]) -> Self {
        Self { policy, ..self }
    }

    const fn lifts_limits(self) -> Self {
        Self { lifts_limits: Some(Permission::LimitsEdit), ..self }
    }

    const fn not_if_protected(self) -> Self {
        Self { stopped_by_protection: true, ..self }
    }

    const fn not_if_platforms(self) -> Self {
        Self { stopped_by_platform: true, ..self }
    }
}

impl Call {
    /// The table's row for this call.
    pub const fn rule(self) -> Rule {
        use Permission::{AuditView, CatalogueEdit, PolicyEdit, RolesEdit, UsersEdit, UsersView};
        use PolicyRule::{
            AllowedOwners, ApiCredentialsDisabled, FixedFields, MaxCredentialLifetime,
            MaxCredentials, MaxLimits, SecretsViewable,
        };
        match self {
            Self::CreateTenant
            | Self::ListTenants
            | Self::DeleteTenant
            | Self::ApplyProfile
            | Self::ListAuditLogs => Rule::new(Needs::Platform),
            Self::GetTenant
            | Self::GetScope
            | Self::ListScopes
            | Self::GetRole
            | Self::ListRoles
            | Self::ListEndpoints => Rule::new(Needs::Membership),
            Self::UpdateTenant => Rule::with(PolicyEdit).lifts_limits().not_if_platforms(),
            Self::CreateScope => Rule::with(CatalogueEdit),
            Self::UpdateScope => {
                Rule::with(CatalogueEdit).secrets(Secrets::Revived).not_if_platforms()
            }
            Self::DeleteScope => Rule::with(CatalogueEdit).not_if_platforms(),
            Self::CreateRole | Self::UpdateRole | Self::DeleteRole => Rule::with(RolesEdit).gives(),
            Self::GetUser => Rule::new(Needs::PermissionOrSelf(UsersView)),
            Self::ListUsers => Rule::with(UsersView),
            Self::CreateUser => Rule::with(UsersEdit).gives(),
            Self::UpdateUser => {
                Rule::with(UsersEdit).gives().secrets(Secrets::Revived).not_if_platforms()
            }
            Self::DeleteUser => Rule::with(UsersEdit)
                .gives()
                .secrets(Secrets::HandedOut)
                .policy(&[PolicyRule::UserDeletion])
                .not_if_platforms(),
            Self::ListAuditEvents | Self::WatchAuditEvents | Self::GetAuditLog => {
                Rule::with(AuditView)
            }
            Self::GetApplication
            | Self::ListApplications
            | Self::ListApplicationUsage
            | Self::GetCredential
            | Self::ListCredentials => Rule::on(Verb::View),
            Self::CreateApplication => {
                let policy = &[ApiCredentialsDisabled, AllowedOwners, MaxLimits];
                Rule::on(Verb::Create).gives().policy(policy).lifts_limits()
            }
            Self::UpdateApplication => Rule::on(Verb::Edit)
                .gives()
                .secrets(Secrets::Revived)
                .policy(&[ApiCredentialsDisabled, FixedFields, MaxLimits])
                .lifts_limits()
                .not_if_protected()
                .not_if_platforms(),
            Self::DeleteApplication | Self::BatchDeleteApplications | Self::DeleteCredential => {
                Rule::on(Verb::Delete).not_if_protected()
            }
            Self::CreateCredential => Rule::on(Verb::Create)
                .secrets(Secrets::HandedOut)
                .policy(&[
                    ApiCredentialsDisabled,
                    AllowedOwners,
                    MaxCredentials,
                    MaxCredentialLifetime,
                ])
                .not_if_protected(),
            Self::UpdateCredential => Rule::on(Verb::Edit)
                .secrets(Secrets::Revived)
                .policy(&[ApiCredentialsDisabled, FixedFields, MaxCredentialLifetime])
                .not_if_protected()
                .not_if_platforms(),
            Self::RotateCredential => Rule::on(Verb::Edit)
                .secrets(Secrets::HandedOut)
                .policy(&[ApiCredentialsDisabled, FixedFields])
                .not_if_protected(),
            Self::RevealCredential => Rule::on(Verb::Reveal)
                .secrets(Secrets::HandedOut)
                .policy(&[ApiCredentialsDisabled, SecretsViewable]),
            Self::RevokeToken | Self::RevokeTokens => Rule::on(Verb::Edit),
        }
    }

    fn verb(self) -> Result<Verb> {
        match self.rule().needs {
            Needs::Applications(verb) => Ok(verb),
            _ => Err(Error::internal(format!("{self} is not about an application"))),
        }
    }
}

/// The state that decides about a call on an application, besides the user's permissions.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationCall<'a> {
    pub application: &'a ApplicationName,
    /// The credential, if the call is about one.
    pub credential: Option<&'a CredentialName>,
    pub owner: &'a Owner,
    /// Whether the protection of the application affects this call.
    pub protected: bool,
    /// The number of credentials in the tenant, for `max_credentials`.
    pub credentials: i64,
    /// The fields that the call changes.
    pub changed: &'a [Field],
    /// The requested expiry of a credential, and the credential's creation time.
    pub end: Option<(Option<Moment>, Timestamp)>,
    /// Everything that the application was given. `None` if the call neither returns nor revives a
    /// secret.
    pub given: Option<&'a GivenAccess>,
}

impl<'a> ApplicationCall<'a> {
    /// A call that changes no fields and does not touch secrets.
    pub fn of(application: &'a ApplicationName, owner: &'a Owner) -> Self {
        Self {
            application,
            credential: None,
            owner,
            protected: false,
            credentials: 0,
            changed: &[],
            end: None,
            given: None,
        }
    }
}

impl Authority {
    /// Returns an error if the call requires a permission that is missing, or is reserved for the
    /// platform.
    pub fn require(&self, call: Call) -> Result<()> {
        match call.rule().needs {
            Needs::Membership => Ok(()),
            Needs::Permission(permission) | Needs::PermissionOrSelf(permission) => {
                self.require_permission(permission)
            }
            Needs::Platform => self.require_platform(),
            Needs::Applications(_) => {
                Err(Error::internal(format!("{call} depends on the application's owner")))
            }
        }
    }

    /// Returns an error if the caller may not set limits above the policy's.
    pub(super) fn require_lift(&self, call: Call) -> Result<()> {
        match call.rule().lifts_limits {
            Some(permission) => self.require_permission(permission),
            None => self.require_platform(),
        }
    }

    /// Like [`require`](Self::require), for a call about a user, who can be the caller.
    pub fn require_about(&self, call: Call, user: &UserId) -> Result<()> {
        let is_self = self.user() == Some(user);
        match call.rule().needs {
            Needs::PermissionOrSelf(_) if is_self => Ok(()),
            _ => self.require(call),
        }
    }

    /// Returns an error if the caller may not make this call for applications of `owner`.
    pub fn require_of(&self, call: Call, owner: &Owner) -> Result<()> {
        let Some(user) = self.user() else { return Ok(()) };
        self.require_permission(Permission::Applications(call.verb()?, Reach::to(owner, user)))
    }

    /// Returns an error if the caller may not make this call for applications of all users.
    pub fn require_of_all_users(&self, call: Call) -> Result<()> {
        self.require_permission(Permission::Applications(call.verb()?, Reach::Users))
    }

    /// Returns an error if the caller may not make this call for the named application. `owner` is
    /// `None` if it does not exist. If the user may not view it, the error is the same as if it did
    /// not exist.
    pub fn require_on(&self, call: Call, name: &dyn Display, owner: Option<&Owner>) -> Result<()> {
        let verb = call.verb()?;
        let missing = || Error::NotFound(name.to_string());
        let Some(user) = self.user() else {
            return owner.map(drop).ok_or_else(missing);
        };
        let knows = |reach| self.has_on(verb, reach) || self.has_on(Verb::View, reach);
        match owner.map(|owner| Reach::to(owner, user)) {
            Some(reach) if self.has_on(verb, reach) => return Ok(()),
            Some(reach) if knows(reach) => {
                return self.require_permission(Permission::Applications(verb, reach));
            }
            // The user may view every application, so it can be said that this one does not exist.
            None if knows(Reach::Account) && knows(Reach::Users) => return Err(missing()),
            _ => {}
        }
        let unknown = Reach::ALL.into_iter().filter(|reach| !knows(*reach));
        let permissions = unknown.map(|reach| Permission::Applications(verb, reach).to_string());
        Err(Error::PermissionDenied(Need::Unseen(permissions.collect(), name.to_string())))
    }

    /// Returns an error if the application's state, the policy, or what the application was given
    /// forbids the call. Call after [`Authority::require_on`].
    pub fn require_state(
        &self,
        call: Call,
        policy: &Policy,
        case: &ApplicationCall<'_>,
    ) -> Result<()> {
        let rule = call.rule();
        if rule.stopped_by_protection && case.protected {
            return Err(Error::Protected(case.application.to_string()));
        }
        for field in rule.policy {
            match field {
                PolicyRule::ApiCredentialsDisabled => policy.require_enabled()?,
                PolicyRule::AllowedOwners => policy.require_owner(case.owner)?,
                PolicyRule::FixedFields => {
                    policy.require_changeable(case.changed.iter().copied())?;
                }
                PolicyRule::MaxCredentials => policy.require_room(case.credentials)?,
                PolicyRule::SecretsViewable if !policy.secrets_viewable => {
                    let why = "the tenant's policy shows secrets once (secrets_viewable)";
                    let name = case.credential.map(ToString::to_string);
                    return Err(Error::NotViewable(name.unwrap_or_default(), why));
                }
                PolicyRule::MaxCredentialLifetime => {
                    if let Some((wanted, created)) = case.end {
                        policy.require_end(wanted, created)?;
                    }
                }
                // Deleting users is decided by `require_disposal`, limits by `Policy::lifts`.
                PolicyRule::SecretsViewable | PolicyRule::UserDeletion | PolicyRule::MaxLimits => {}
            }
        }
        match case.given {
            Some(given) if rule.secrets != Secrets::Untouched => {
                self.require_given(given, self.may_view(case.owner))
            }
            _ => Ok(()),
        }
    }

    /// Returns an error if the caller may not do to a deleted user's applications what the policy
    /// requires. Handing them over requires the rights to edit them, to create them for the new
    /// owner, and to get their secrets.
    pub fn require_disposal(
        &self,
        deletion: UserDeletion,
        owner: &Owner,
        heir: Option<&UserId>,
        given: &GivenAccess,
    ) -> Result<()> {
        match deletion {
            UserDeletion::Refuse => Ok(()),
            UserDeletion::Delete => self.require_of(Call::DeleteApplication, owner),
            UserDeletion::HandOver => {
                self.require_of(Call::UpdateApplication, owner)?;
                if let Some(heir) = heir {
                    self.require_of(Call::CreateApplication, &Owner::User(heir.clone()))?;
                }
                self.require_given(given, self.may_view(owner))
            }
        }
    }

    /// The new value of `disabled_by_platform` after a change that enables or disables `name`.
    /// Users cannot enable what the platform disabled. The platform can take over what a user
    /// disabled.
    pub fn switch(
        &self,
        name: &dyn Display,
        by_platform: bool,
        wanted: Option<bool>,
    ) -> Result<bool> {
        match (wanted, self.user()) {
            (None, _) | (Some(true), Some(_)) => Ok(by_platform),
            (Some(true), None) => Ok(true),
            (Some(false), _) => self.require_undo(name, by_platform).map(|()| false),
        }
    }

    /// Returns an error if a user would undo what the platform did: enable `name`, or delete it so
    /// that it can be created again.
    pub fn require_undo(&self, name: &dyn Display, by_platform: bool) -> Result<()> {
        if by_platform && self.user().is_some() {
            return Err(Error::PermissionDenied(Need::PlatformToEnable(name.to_string())));
        }
        Ok(())
    }
}
