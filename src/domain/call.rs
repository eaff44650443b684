//! The calls that a user can make. What each requires is in [`rights`](super::rights).

use std::fmt;

use super::fields::Fault;
use super::policy::words;
use crate::error::Result;

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
        ListSigningKeys = "ListSigningKeys",
        RotateSigningKey = "RotateSigningKey",
        RetireSigningKey = "RetireSigningKey",
        RevokeSigningKey = "RevokeSigningKey",
    }
);
