//! The table of rights: what each call needs of the acting user's roles, whose applications that
//! is about, and in which state and under which policy the call is refused. Rights are decided
//! here and nowhere else; the section "Rights" of `proto/README.md` shows the table.
//!
//! A right to a secret looks at all that the application was given, a right to a limit at what
//! the policy bounds, and a right to see at nothing that could not be viewed.

use std::fmt::{self, Display};

use jiff::Timestamp;

use super::authority::Given;
use super::fields::Fault;
use super::policy::words;
use super::{
    ApplicationName, Authority, CredentialName, Field, Moment, Owner, Permission, Policy, Reach,
    UserDeletion, UserId, Verb,
};
use crate::error::{Error, Need, Result};

words!(
    /// A call that acting users can make: the RPC of that name.
    Call {
        /// Makes a tenant.
        CreateTenant = "CreateTenant",
        /// Reads a tenant.
        GetTenant = "GetTenant",
        /// Lists tenants.
        ListTenants = "ListTenants",
        /// Changes a tenant.
        UpdateTenant = "UpdateTenant",
        /// Deletes a tenant.
        DeleteTenant = "DeleteTenant",
        /// Makes a tenant what a profile says.
        ApplyProfile = "ApplyProfile",
        /// Adds a scope to the catalogue.
        CreateScope = "CreateScope",
        /// Reads a scope.
        GetScope = "GetScope",
        /// Lists the catalogue.
        ListScopes = "ListScopes",
        /// Changes a scope.
        UpdateScope = "UpdateScope",
        /// Takes a scope out of the catalogue.
        DeleteScope = "DeleteScope",
        /// Makes a role.
        CreateRole = "CreateRole",
        /// Reads a role.
        GetRole = "GetRole",
        /// Lists roles.
        ListRoles = "ListRoles",
        /// Changes a role.
        UpdateRole = "UpdateRole",
        /// Deletes a role.
        DeleteRole = "DeleteRole",
        /// Makes a user known.
        CreateUser = "CreateUser",
        /// Reads a user.
        GetUser = "GetUser",
        /// Lists users.
        ListUsers = "ListUsers",
        /// Changes a user.
        UpdateUser = "UpdateUser",
        /// Deletes a user.
        DeleteUser = "DeleteUser",
        /// Lists the rules for endpoints.
        ListEndpoints = "ListEndpoints",
        /// Reads the audit log.
        ListAuditEvents = "ListAuditEvents",
        /// Makes an application.
        CreateApplication = "CreateApplication",
        /// Reads an application.
        GetApplication = "GetApplication",
        /// Lists applications.
        ListApplications = "ListApplications",
        /// Changes an application.
        UpdateApplication = "UpdateApplication",
        /// Deletes an application.
        DeleteApplication = "DeleteApplication",
        /// Deletes several applications.
        BatchDeleteApplications = "BatchDeleteApplications",
        /// Reads how often an application was used.
        ListApplicationUsage = "ListApplicationUsage",
        /// Makes a credential.
        CreateCredential = "CreateCredential",
        /// Reads a credential.
        GetCredential = "GetCredential",
        /// Lists credentials.
        ListCredentials = "ListCredentials",
        /// Changes a credential.
        UpdateCredential = "UpdateCredential",
        /// Deletes a credential.
        DeleteCredential = "DeleteCredential",
        /// Gives a credential a new secret.
        RotateCredential = "RotateCredential",
        /// Shows a secret again.
        RevealCredential = "RevealCredential",
        /// Revokes one access token.
        RevokeToken = "RevokeToken",
        /// Revokes all access tokens of something.
        RevokeTokens = "RevokeTokens",
    }
);

/// What a call needs of the acting user. The platform, which acts for no user, needs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// To be a user of the tenant who is not disabled.
    Membership,
    /// A permission.
    Permission(Permission),
    /// A permission, unless the user asks about themselves.
    PermissionOrSelf(Permission),
    /// The permission for this verb, with a reach to the application's owner.
    Applications(Verb),
    /// To be no user at all: this is for the platform.
    Platform,
}

/// What a call does with secrets of an application. Both is compared with all that the
/// application was given: its scopes and those of its roles, disabled or beyond what its owner
/// may grant today as they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Nothing, or it takes rights away.
    Untouched,
    /// It hands one out.
    HandedOut,
    /// It may let them work again: enabled, or ending later.
    Revived,
}

words!(
    /// A field of the policy that can refuse a call.
    PolicyRule {
        /// The tenant has no API credentials.
        ApiCredentialsDisabled = "api_credentials_disabled",
        /// Who may own what gets access.
        AllowedOwners = "allowed_owners",
        /// What stays as it was made.
        FixedFields = "fixed_fields",
        /// How many credentials there may be.
        MaxCredentials = "max_credentials",
        /// How long a credential may last.
        MaxCredentialLifetime = "max_credential_lifetime",
        /// The most that limits of applications may allow.
        MaxLimits = "max_limits",
        /// Whether secrets are shown again.
        SecretsViewable = "secrets_viewable",
        /// What becomes of a deleted user's applications.
        UserDeletion = "user_deletion",
    }
);

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it needs of the acting user's roles.
    pub needs: Needs,
    /// Whether scopes and roles that it gives must be the user's to give.
    pub gives: bool,
    /// What it does with secrets.
    pub secrets: Secrets,
    /// The fields of the policy that can refuse it, for every caller.
    pub policy: &'static [PolicyRule],
    /// The permission for limits beyond those of the policy; narrower ones need none.
    pub lifts_limits: Option<Permission>,
    /// Whether it is refused of a protected application, for every caller.
    pub stopped_by_protection: bool,
    /// Whether it is refused to users where it enables what the platform disabled.
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
    /// The row of the table.
    pub const fn rule(self) -> Rule {
        use Permission::{AuditView, CatalogueEdit, PolicyEdit, RolesEdit, UsersEdit, UsersView};
        use PolicyRule::{
            AllowedOwners, ApiCredentialsDisabled, FixedFields, MaxCredentialLifetime,
            MaxCredentials, MaxLimits, SecretsViewable,
        };
        match self {
            Self::CreateTenant | Self::ListTenants | Self::DeleteTenant | Self::ApplyProfile => {
                Rule::new(Needs::Platform)
            }
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
            Self::ListAuditEvents => Rule::with(AuditView),
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

/// What a call about an application is decided by, besides the acting user's permissions.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The application's name.
    pub application: &'a ApplicationName,
    /// The credential's, if the call is about one.
    pub credential: Option<&'a CredentialName>,
    /// Whose the application is.
    pub owner: &'a Owner,
    /// Whether the application is protected, in what this call does.
    pub protected: bool,
    /// How many credentials the tenant has; counts where there may be only so many.
    pub credentials: i64,
    /// The fields that change.
    pub changed: &'a [Field],
    /// The end that is wanted for a credential, and when that was made.
    pub end: Option<(Option<Moment>, Timestamp)>,
    /// All that the application was given; `None`: the call lets no secret out or live again.
    pub given: Option<&'a Given>,
}

impl<'a> Case<'a> {
    /// A call about an application of this owner, that changes and lets out nothing.
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
    /// Refuses a call for which the roles lack the permission, or that is the platform's.
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

    /// Refuses limits beyond those of the policy.
    pub(super) fn require_lift(&self, call: Call) -> Result<()> {
        match call.rule().lifts_limits {
            Some(permission) => self.require_permission(permission),
            None => self.require_platform(),
        }
    }

    /// The same of a call about a user, which may be about oneself.
    pub fn require_about(&self, call: Call, user: &UserId) -> Result<()> {
        let is_self = self.user() == Some(user);
        match call.rule().needs {
            Needs::PermissionOrSelf(_) if is_self => Ok(()),
            _ => self.require(call),
        }
    }

    /// Refuses a call about applications of an owner whom the request names.
    pub fn require_of(&self, call: Call, owner: &Owner) -> Result<()> {
        let Some(user) = self.user() else { return Ok(()) };
        self.require_permission(Permission::Applications(call.verb()?, Reach::to(owner, user)))
    }

    /// The same of applications of all users.
    pub fn require_of_all_users(&self, call: Call) -> Result<()> {
        self.require_permission(Permission::Applications(call.verb()?, Reach::Users))
    }

    /// Refuses a call about an application that the request names: `owner` is whose it is, if it
    /// exists. One that the user may not view is answered like one that does not exist.
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
            // Every application is one that the user knows of.
            None if knows(Reach::Account) && knows(Reach::Users) => return Err(missing()),
            _ => {}
        }
        let unknown = Reach::ALL.into_iter().filter(|reach| !knows(*reach));
        let permissions = unknown.map(|reach| Permission::Applications(verb, reach).to_string());
        Err(Error::PermissionDenied(Need::Unseen(permissions.collect(), name.to_string())))
    }

    /// Refuses a call for the state of the application, the tenant's policy, or what the
    /// application was given. After [`Authority::require_on`].
    pub fn require_state(&self, call: Call, policy: &Policy, case: &Case<'_>) -> Result<()> {
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
                // Deletions of users are decided by `require_disposal`, limits by `Policy::lifts`.
                PolicyRule::SecretsViewable | PolicyRule::UserDeletion | PolicyRule::MaxLimits => {}
            }
        }
        match case.given {
            Some(given) if rule.secrets != Secrets::Untouched => {
                self.require_given(given, self.sees(case.owner))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to dispose of a deleted user's applications as the policy does it: those who
    /// hand them over could as well change them, make them for the heir, and get their secrets.
    pub fn require_disposal(
        &self,
        deletion: UserDeletion,
        owner: &Owner,
        heir: Option<&UserId>,
        given: &Given,
    ) -> Result<()> {
        match deletion {
            UserDeletion::Refuse => Ok(()),
            UserDeletion::Delete => self.require_of(Call::DeleteApplication, owner),
            UserDeletion::HandOver => {
                self.require_of(Call::UpdateApplication, owner)?;
                if let Some(heir) = heir {
                    self.require_of(Call::CreateApplication, &Owner::User(heir.clone()))?;
                }
                self.require_given(given, self.sees(owner))
            }
        }
    }

    /// Whether it is the platform that has disabled `name`, after a change that wants it
    /// disabled or enabled. Users do not enable what the platform disabled; the platform can
    /// make its own what a user disabled.
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

    /// Refuses users to undo what the platform did: they would enable `name`, or delete it so
    /// that it comes back enabled.
    pub fn require_undo(&self, name: &dyn Display, by_platform: bool) -> Result<()> {
        if by_platform && self.user().is_some() {
            return Err(Error::PermissionDenied(Need::PlatformToEnable(name.to_string())));
        }
        Ok(())
    }
}
