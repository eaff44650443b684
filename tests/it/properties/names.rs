//! Ids, resource names and scopes.

use keyward::internals::domain::{
    ApplicationId, ApplicationName, CredentialId, CredentialName, HttpMethod, Permission,
    Permissions, RoleId, RoleName, ScopeId, ScopeName, ScopeSet, TenantId, UserId, UserName,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::cases;

const SLUG: &str = "[a-z0-9][a-z0-9_-]{0,62}";
const USER: &str = "[!-.0-~]{3,255}";
const SCOPE: &str = "[!#-\\[\\]-~]{1,128}";

/// Texts that are almost names: parts of names in any order.
fn almost_a_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("tenants/"),
        Just("/applications/"),
        Just("/credentials/"),
        Just("/users/"),
        Just("/roles/"),
        Just("/scopes/"),
        Just("/"),
        Just("acme"),
        Just("A"),
        Just("-"),
        Just(" "),
        Just("ä"),
        Just("0123456789abcdef0123456789abcdef"),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn scopes() -> impl Strategy<Value = ScopeSet> {
    // Few names, so that sets overlap.
    vec("[a-e]", 0..6)
        .prop_map(|names| names.iter().map(|name| ScopeName::parse(name).unwrap()).collect())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn name_of_valid_ids_is_parsed_to_the_same_ids(
        tenant in SLUG, application in SLUG, credential in "[0-9a-f]{32}", user in USER, scope in SCOPE,
    ) {
        let tenant = TenantId::parse(&tenant).unwrap();
        prop_assert_eq!(TenantId::from_name(&tenant.name()), Ok(tenant.clone()));
        let role = RoleName { tenant: tenant.clone(), role: RoleId::parse(&application).unwrap() };
        prop_assert_eq!(RoleName::parse(&role.to_string()), Ok(role));
        let application = ApplicationId::parse(&application).unwrap();
        let application = ApplicationName { tenant: tenant.clone(), application };
        prop_assert_eq!(ApplicationName::parse(&application.to_string()), Ok(application.clone()));
        let credential = CredentialId::parse(&credential).unwrap();
        let credential = CredentialName { application, credential };
        prop_assert_eq!(CredentialName::parse(&credential.to_string()), Ok(credential));
        let user = UserName { tenant: tenant.clone(), user: UserId::parse(&user).unwrap() };
        prop_assert_eq!(UserName::parse(&user.to_string()), Ok(user));
        // A scope can contain slashes, and even `/scopes/`.
        let scope = ScopeId { tenant, scope: ScopeName::parse(&scope).unwrap() };
        prop_assert_eq!(ScopeId::parse(&scope.to_string()), Ok(scope));
    }

    #[test]
    fn accepted_name_has_one_spelling(text in prop_oneof![almost_a_name(), any::<String>()]) {
        let parsed = [
            TenantId::parse(&text).map(|id| id.to_string()),
            UserId::parse(&text).map(|id| id.to_string()),
            CredentialId::parse(&text).map(|id| id.to_string()),
            ScopeName::parse(&text).map(|id| id.to_string()),
            HttpMethod::parse(&text).map(|id| id.to_string()),
            Permission::parse(&text).map(|id| id.to_string()),
            TenantId::from_name(&text).map(|id| id.name()),
            ApplicationName::parse(&text).map(|name| name.to_string()),
            CredentialName::parse(&text).map(|name| name.to_string()),
            UserName::parse(&text).map(|name| name.to_string()),
            RoleName::parse(&text).map(|name| name.to_string()),
            ScopeId::parse(&text).map(|name| name.to_string()),
        ];
        for printed in parsed.into_iter().flatten() {
            prop_assert_eq!(&printed, &text);
        }
    }

    #[test]
    fn set_of_scopes_is_parsed_from_its_text(set in vec(SCOPE, 0..6)) {
        let set: ScopeSet = set.iter().map(|name| ScopeName::parse(name).unwrap()).collect();
        prop_assert_eq!(ScopeSet::parse(&set.to_string()), Ok(set));
    }

    #[test]
    fn set_operations_of_scopes_agree(one in scopes(), other in scopes()) {
        let (both, rest) = (one.within(&other), one.minus(&other));
        prop_assert!(both.is_within(&one) && both.is_within(&other));
        prop_assert_eq!(both.clone().union(&rest), one.clone());
        prop_assert!(both.within(&rest).is_empty());
        prop_assert_eq!(one.without(&other), rest.to_strings());
        prop_assert_eq!(one.is_within(&other), rest.is_empty());
        prop_assert_eq!(one.require_within(&other).is_ok(), rest.is_empty());
        let all = one.clone().union(&other);
        prop_assert!(one.iter().chain(other.iter()).all(|scope| all.contains(scope.as_str())));
        prop_assert_eq!(all, other.union(&one));
    }

    #[test]
    fn permissions_are_parsed_from_their_text(
        given in proptest::sample::subsequence(Permission::all().collect::<Vec<_>>(), 0..8),
    ) {
        let texts: Vec<_> = given.iter().map(ToString::to_string).collect();
        let parsed = Permissions::parse(&texts.join(" ")).unwrap();
        prop_assert!(given.iter().all(|permission| parsed.allow(*permission)));
        prop_assert_eq!(parsed.iter().count(), given.len());
    }
}
