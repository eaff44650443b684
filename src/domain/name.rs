//! Ids and resource names (AIP-122).

use std::fmt;

use super::fields::Fault;
use super::scope::ScopeName;
use crate::error::Result;

/// An id that people choose: it stands in resource names and in tokens.
fn slug(value: &str) -> Result<String, Fault> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let begins_well =
        value.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if begins_well && value.len() <= 63 && value.bytes().all(allowed) {
        Ok(value.to_owned())
    } else {
        Err(Fault::new("must be 1 to 63 of a-z 0-9 - _, beginning with a letter or digit"))
    }
}

/// An id that an identity provider chose: `auth0|5f7c`, `CN=Sam Smith,O=Acme`. It is the last
/// part of resource names, and stands in metadata, which is ASCII. What has more than that in it
/// is percent-encoded by who brings it, and here that is the id: Keyward decodes nothing, so that
/// no two ids are one.
fn foreign(value: &str) -> Result<String, Fault> {
    // As long as OpenID Connect lets a `sub` be.
    const LONGEST: usize = 255;
    // What stands for something else in names (AIP-159) and paths.
    const RESERVED: [&str; 4] = ["-", "*", ".", ".."];
    let allowed = |b: u8| b == b' ' || (b.is_ascii_graphic() && b != b'/');
    let fits = (1..=LONGEST).contains(&value.len()) && value.bytes().all(allowed);
    if fits && value.trim_ascii() == value && !RESERVED.contains(&value) {
        Ok(value.to_owned())
    } else {
        Err(Fault::new(
            "must be 1 to 255 printable ASCII characters without /, no space first or last, and \
             not - * . or ..; percent-encode the rest",
        ))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks an id.
            pub fn parse(value: &str) -> Result<Self, Fault> {
                $parse(value).map(Self)
            }

            /// The id as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// The id of a tenant.
    TenantId, slug
);
id!(
    /// The id of an application, unique in its tenant.
    ApplicationId, slug
);
id!(
    /// The id of a user, unique in its tenant: the platform's own.
    UserId, foreign
);
id!(
    /// The id of a role, unique in its tenant.
    RoleId, slug
);

/// The id of a credential, unique everywhere: it is the client id too. Keyward makes it, 32
/// hexadecimal digits: held in place, since every request has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId([u8; 32]);

impl CredentialId {
    /// Checks an id.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        match <[u8; 32]>::try_from(value.as_bytes()) {
            Ok(digits) if digits.iter().all(hex) => Ok(Self(digits)),
            _ => Err(Fault::new("must be 32 lower-case hexadecimal digits")),
        }
    }

    /// The id as it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TenantId {
    /// The id of the built-in tenant whose applications are Keyward's own callers.
    pub const SYSTEM: &'static str = "system";

    /// The built-in tenant.
    pub fn system() -> Self {
        Self(Self::SYSTEM.to_owned())
    }

    /// Whether this is the built-in tenant.
    pub fn is_system(&self) -> bool {
        self.0 == Self::SYSTEM
    }

    /// Reads `tenants/{tenant}`.
    pub fn from_name(name: &str) -> Result<Self, Fault> {
        let [tenant] = segments(name, ["tenants"])?;
        Self::parse(tenant)
    }

    /// Writes `tenants/{tenant}`.
    pub fn name(&self) -> String {
        format!("tenants/{self}")
    }
}

/// `tenants/{tenant}/applications/{application}/credentials/{credential}`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialName {
    /// Whose it is.
    pub application: ApplicationName,
    /// Which one of the application's.
    pub credential: CredentialId,
}

impl CredentialName {
    /// Reads the resource name.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        let [tenant, application, credential] =
            segments(name, ["tenants", "applications", "credentials"])?;
        Ok(Self {
            application: ApplicationName {
                tenant: TenantId::parse(tenant)?,
                application: ApplicationId::parse(application)?,
            },
            credential: CredentialId::parse(credential)?,
        })
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/credentials/{}", self.application, self.credential)
    }
}

macro_rules! name_in_tenant {
    ($(#[$doc:meta])* $name:ident, $member:ident: $id:ident, $collection:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name {
            /// Whose it is.
            pub tenant: TenantId,
            /// Which one of the tenant's.
            pub $member: $id,
        }

        impl $name {
            /// Reads the resource name.
            pub fn parse(name: &str) -> Result<Self, Fault> {
                let [tenant, id] = segments(name, ["tenants", $collection])?;
                Ok(Self { tenant: TenantId::parse(tenant)?, $member: $id::parse(id)? })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("tenants/{}/", $collection, "/{}"), self.tenant, self.$member)
            }
        }
    };
}

name_in_tenant!(
    /// `tenants/{tenant}/applications/{application}`
    ApplicationName, application: ApplicationId, "applications"
);
name_in_tenant!(
    /// `tenants/{tenant}/users/{user}`
    UserName, user: UserId, "users"
);
name_in_tenant!(
    /// `tenants/{tenant}/roles/{role}`
    RoleName, role: RoleId, "roles"
);

/// `tenants/{tenant}/scopes/{scope}`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopeId {
    /// Whose catalogue.
    pub tenant: TenantId,
    /// Which entry.
    pub scope: ScopeName,
}

impl ScopeId {
    /// Reads the resource name. The scope is all that follows `/scopes/`: it may
    /// contain slashes itself.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        let shape = || Fault::new("must be like tenants/{tenant}/scopes/{scope}");
        let rest = name.strip_prefix("tenants/").ok_or_else(shape)?;
        let (tenant, scope) = rest.split_once("/scopes/").ok_or_else(shape)?;
        Ok(Self { tenant: TenantId::parse(tenant)?, scope: ScopeName::parse(scope)? })
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}/scopes/{}", self.tenant, self.scope)
    }
}

/// The ids between the given collections, in order.
fn segments<'a, const N: usize>(
    name: &'a str,
    collections: [&str; N],
) -> Result<[&'a str; N], Fault> {
    let mut parts = name.split('/');
    let mut ids = [""; N];
    let mut matches = true;
    for (id, collection) in ids.iter_mut().zip(collections) {
        matches &= parts.next() == Some(collection);
        *id = parts.next().unwrap_or_default();
    }
    if matches && parts.next().is_none() && ids.iter().all(|id| !id.is_empty()) {
        Ok(ids)
    } else {
        let shape: Vec<_> =
            collections.iter().map(|c| format!("{c}/{{{}}}", c.trim_end_matches('s'))).collect();
        Err(Fault::new(format!("must be like {}", shape.join("/"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = "tenants/acme/applications/crm/credentials/0123456789abcdef0123456789abcdef";
        assert_eq!(CredentialName::parse(name).unwrap().to_string(), name);
        let name = "tenants/acme/scopes/https://api.example/acl:read";
        assert_eq!(ScopeId::parse(name).unwrap().to_string(), name);
        assert_eq!(TenantId::from_name("tenants/acme").unwrap().as_str(), "acme");
    }

    #[test]
    fn a_malformed_name_is_told_its_shape() {
        for bad in [
            "",
            "acme",
            "tenants",
            "tenants/",
            "tenants/acme",
            "tenants/acme/applications/",
            "tenants/acme/applications/crm/",
            "tenants/acme/applications/crm/x",
            "tenants/acme/application/crm",
            "/tenants/acme/applications/crm",
        ] {
            assert_eq!(
                ApplicationName::parse(bad),
                Err(Fault::new("must be like tenants/{tenant}/applications/{application}")),
                "{bad}"
            );
        }
    }

    #[test]
    fn users_have_the_ids_of_identity_providers() {
        let longest = "x".repeat(255);
        for good in
            ["auth0|5f7c", "o'brien@example.com", "CN=Sam Smith,O=A", "A\\b", "%2F", &longest]
        {
            let id = UserId::parse(good).unwrap();
            let name = UserName { tenant: TenantId::parse("acme").unwrap(), user: id };
            assert_eq!(UserName::parse(&name.to_string()), Ok(name), "{good}");
        }
        for bad in ["", " ", " a", "a ", "a/b", "-", "*", ".", "..", "ä", "a\n", &"x".repeat(256)]
        {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_hold_to_their_alphabet() {
        for good in ["a", "0crm", "acme-eu_2", &"a".repeat(63)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "Acme", "a b", "a.b", "ä", "a\n", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
        assert!(CredentialId::parse("0123456789ABCDEF0123456789abcdef").is_err());
    }
}
