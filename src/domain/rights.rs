//! The table of rights: what each call requires of the acting user, and which states and policies
//! refuse it. [`enforcement`](super::enforcement) decides by it; the section "Rights" of
//! `proto/README.md` shows it.
//!
//! Three principles: a right to a secret is compared with everything that the application was
//! given; a right to a limit is compared with the policy; and a caller who may not view a resource
//! gets the same answer as if it did not exist.

use strum::{IntoStaticStr, VariantArray};

use super::{Permission, Verb};
use crate::error::{Error, Result};

/// A call that a user can make, named after its RPC.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display, IntoStaticStr, VariantArray,
)]
pub enum Call {
    CreateTenant,
    GetTenant,
    ListTenants,
    UpdateTenant,
    DeleteTenant,
    ApplyProfile,
    CreateScope,
    GetScope,
    ListScopes,
    UpdateScope,
    DeleteScope,
    CreateRole,
    GetRole,
    ListRoles,
    UpdateRole,
    DeleteRole,
    CreateUser,
    GetUser,
    ListUsers,
    UpdateUser,
    DeleteUser,
    ListEndpoints,
    ListAuditEvents,
    WatchAuditEvents,
    GetAuditLog,
    ListAuditLogs,
    CreateApplication,
    GetApplication,
    ListApplications,
    UpdateApplication,
    DeleteApplication,
    BatchDeleteApplications,
    ListApplicationUsage,
    CreateCredential,
    GetCredential,
    ListCredentials,
    UpdateCredential,
    DeleteCredential,
    RotateCredential,
    RevealCredential,
    RevokeToken,
    RevokeTokens,
    ListSigningKeys,
    RotateSigningKey,
    RetireSigningKey,
    RevokeSigningKey,
    GetMasterKeyStatus,
    RewrapValues,
}

/// What a call requires of the acting user: a column of the table of rights. The platform, which
/// acts for no user, needs nothing. What a refused caller lacks is a [`Need`](crate::error::Need).
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

/// A policy field that can refuse a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum PolicyRule {
    ApiCredentialsDisabled,
    AllowedCredentialKinds,
    AllowedOwners,
    FixedFields,
    MaxCredentials,
    MaxCredentialLifetime,
    MaxLimits,
    SecretsViewable,
    UserDeletion,
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
            AllowedCredentialKinds, AllowedOwners, ApiCredentialsDisabled, FixedFields,
            MaxCredentialLifetime, MaxCredentials, MaxLimits, SecretsViewable,
        };
        match self {
            Self::CreateTenant
            | Self::ListTenants
            | Self::DeleteTenant
            | Self::ApplyProfile
            | Self::ListAuditLogs
            | Self::ListSigningKeys
            | Self::RotateSigningKey
            | Self::RetireSigningKey
            | Self::RevokeSigningKey
            | Self::GetMasterKeyStatus
            | Self::RewrapValues => Rule::new(Needs::Platform),
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
                    AllowedCredentialKinds,
                    MaxCredentials,
                    MaxCredentialLifetime,
                ])
                .not_if_protected(),
            Self::UpdateCredential => Rule::on(Verb::Edit)
                .secrets(Secrets::Revived)
                .policy(&[
                    ApiCredentialsDisabled,
                    AllowedCredentialKinds,
                    FixedFields,
                    MaxCredentialLifetime,
                ])
                .not_if_protected()
                .not_if_platforms(),
            Self::RotateCredential => Rule::on(Verb::Edit)
                .secrets(Secrets::HandedOut)
                .policy(&[ApiCredentialsDisabled, AllowedCredentialKinds, FixedFields])
                .not_if_protected(),
            Self::RevealCredential => Rule::on(Verb::Reveal)
                .secrets(Secrets::HandedOut)
                .policy(&[ApiCredentialsDisabled, SecretsViewable]),
            Self::RevokeToken | Self::RevokeTokens => Rule::on(Verb::Edit),
        }
    }

    pub(super) fn verb(self) -> Result<Verb> {
        match self.rule().needs {
            Needs::Applications(verb) => Ok(verb),
            _ => Err(Error::internal(format!("{self} is not about an application"))),
        }
    }
}
