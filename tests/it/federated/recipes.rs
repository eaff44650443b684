//! The recipes of `proto/FEDERATION.md`, with tokens of the shapes that the platforms issue, signed by
//! an issuer of the test. A credential is registered with the flags that the page shows.

use keyward::proto::admin::credential::Federated;
use serde_json::{Value, json};

use super::{CRM, KID, accepted, changed, equals, key_of, prefix, refused, register};
use crate::documents::read;
use crate::harness::signer::Signer;
use crate::harness::{Admin, Backend, Keyward};

const PAGE: &str = "proto/FEDERATION.md";
/// The audience of the examples.
const AUDIENCE: &str = "https://id.example.com";

/// The trusts of the commands in a section of the page, without keys.
fn recipes(section: &str) -> Vec<Federated> {
    let page = read(PAGE);
    let (_, rest) = page.split_once(&format!("\n### {section}\n")).unwrap();
    let section = rest.split("\n### ").next().unwrap().replace("\\\n", " ");
    let commands = section.lines().filter(|line| line.starts_with("keyward credential create"));
    commands.map(parsed).collect()
}

fn parsed(command: &str) -> Federated {
    let mut trust = Federated::default();
    let mut words = command.split_whitespace().skip(4);
    while let Some(flag) = words.next() {
        let value = words.next().unwrap();
        let pair = || value.split_once('=').unwrap();
        match flag {
            "--kind" => assert_eq!(value, "federated"),
            "--issuer" => value.clone_into(&mut trust.issuer),
            "--subject" => value.clone_into(&mut trust.subject),
            "--audience" => trust.audiences.push(value.to_owned()),
            "--claim" => trust.claims.push(equals(pair().0, pair().1)),
            "--claim-prefix" => trust.claims.push(prefix(pair().0, pair().1)),
            "--jwks" => {}
            other => panic!("{other}"),
        }
    }
    trust
}

/// A server, and a platform with the trust of a recipe.
struct Recipe {
    kw: Keyward,
    client_id: String,
    signer: Signer,
    /// The header of the platform's tokens besides `alg`.
    header: Value,
    /// The claims of a token, without times.
    claims: Value,
}

impl Recipe {
    async fn new(trust: Federated, algorithm: &'static str, header: Value, claims: Value) -> Self {
        let kw = Backend::Sqlite.start_with(&[super::NO_BUDGET]).await;
        let mut admin: Admin = kw.admin().await;
        admin.acme().await;
        let signer = Signer::new(algorithm);
        let trust = Federated { keys: Some(key_of(&signer)), ..trust };
        let client_id = register(&mut admin, CRM, trust).await.client_id;
        Self { kw, client_id, signer, header, claims }
    }

    fn token(&self, changes: &[(&str, Value)]) -> String {
        let now = self.kw.now().as_second();
        let mut claims = self.claims.clone();
        for (name, value) in [("iat", now), ("nbf", now), ("exp", now + 600)] {
            if claims.get(name).is_none() {
                claims[name] = json!(value);
            }
        }
        for (name, value) in changes {
            claims = changed(claims, name, value.clone());
        }
        let mut header = self.header.clone();
        header["kid"] = KID.into();
        self.signer.token(&header, &claims)
    }

    async fn accepts(&self, changes: &[(&str, Value)]) {
        let case = format!("{changes:?}");
        accepted(&self.kw, &case, &self.client_id, &self.token(changes)).await;
    }

    async fn refuses(&self, changes: &[(&str, Value)]) {
        let case = format!("{changes:?}");
        refused(&self.kw, &case, &self.client_id, &self.token(changes)).await;
    }

    /// Each of these claims must be as it is.
    async fn refuses_each(&self, claims: &[(&str, &str)]) {
        self.accepts(&[]).await;
        for (name, value) in claims {
            self.refuses(&[(name, json!(value))]).await;
            self.refuses(&[(name, Value::Null)]).await;
        }
    }
}

fn only(section: &str) -> Federated {
    let [recipe] = recipes(section).try_into().unwrap();
    recipe
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_service_account_is_accepted() {
    let claims = json!({
        "aud": [AUDIENCE],
        "iss": "https://kubernetes.default.svc.cluster.local",
        "jti": "0f4b7f3c-5c64-4b0e-9b5a-0c1f1d1b6c11",
        "kubernetes.io": {
            "namespace": "prod",
            "node": { "name": "node-1", "uid": "5c4f1f9c-8a3e-4a7b-9d3f-3f0b8a1f9f10" },
            "pod": { "name": "crm-7d9c", "uid": "9a3f6c1e-1c1d-4a52-8f0f-6f6b8c0f2c22" },
            "serviceaccount": { "name": "crm", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798" },
        },
        "sub": "system:serviceaccount:prod:crm",
    });
    let recipe = Recipe::new(only("Kubernetes"), "RS256", json!({}), claims.clone()).await;
    let wrong = [
        ("sub", "system:serviceaccount:prod:crm-evil"),
        ("sub", "system:serviceaccount:test:crm"),
        ("iss", "https://kubernetes.default.svc"),
        ("aud", "https://kubernetes.default.svc.cluster.local"),
    ];
    recipe.refuses_each(&wrong).await;

    // The variants that the page names.
    let uid = "/kubernetes.io/serviceaccount/uid";
    let text = read(PAGE).replace('\n', " ");
    assert!(text.contains(&format!("--claim {uid}=UID")));
    let trust = only("Kubernetes");
    let pinned = Federated {
        claims: vec![equals(uid, "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798")],
        ..trust.clone()
    };
    let recipe = Recipe::new(pinned, "RS256", json!({}), claims.clone()).await;
    recipe.accepts(&[]).await;
    let mut other = claims["kubernetes.io"].clone();
    other["serviceaccount"]["uid"] = "00000000-a7e2-420f-9f9a-dbc4507c3798".into();
    recipe.refuses(&[("kubernetes.io", other)]).await;

    assert!(text.contains("--claim-prefix sub=system:serviceaccount:prod:"));
    let namespace = Federated {
        subject: String::new(),
        claims: vec![prefix("sub", "system:serviceaccount:prod:")],
        ..trust
    };
    let recipe = Recipe::new(namespace, "RS256", json!({}), claims).await;
    recipe.accepts(&[("sub", json!("system:serviceaccount:prod:other"))]).await;
    recipe.refuses(&[("sub", json!("system:serviceaccount:prod-evil:crm"))]).await;
}

/// A token of GitHub Actions for a job without an environment.
fn github() -> Value {
    json!({
        "jti": "example-id",
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
        "aud": AUDIENCE,
        "ref": "refs/heads/main",
        "sha": "example-sha",
        "repository": "octo-org/octo-repo",
        "repository_owner": "octo-org",
        "actor_id": "12",
        "repository_visibility": "private",
        "repository_id": "74",
        "repository_owner_id": "65",
        "run_id": "example-run-id",
        "run_number": "10",
        "run_attempt": "2",
        "runner_environment": "github-hosted",
        "actor": "octocat",
        "workflow": "example-workflow",
        "head_ref": "",
        "base_ref": "",
        "event_name": "push",
        "ref_type": "branch",
        "ref_protected": "true",
        "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
        "iss": "https://token.actions.githubusercontent.com",
    })
}

const IN_ENVIRONMENT: [&str; 2] = [
    "repo:octo-org/octo-repo:environment:production",
    "repo:octo-org@65/octo-repo@74:environment:production",
];

#[tokio::test(flavor = "multi_thread")]
async fn github_environment_is_accepted_with_old_and_new_subject() {
    let [by_environment, _] = recipes("GitHub Actions").try_into().unwrap();
    let header = json!({ "typ": "JWT", "x5t": "example-thumbprint" });
    let recipe = Recipe::new(by_environment, "RS256", header, github()).await;
    let environment = ("environment", json!("production"));
    for sub in IN_ENVIRONMENT {
        recipe.accepts(&[environment.clone(), ("sub", json!(sub))]).await;
    }
    // The same names with other ids: someone else has taken them.
    for (owner, repository) in [("66", "74"), ("65", "75"), ("66", "75")] {
        let ids = [
            environment.clone(),
            (
                "sub",
                json!(format!(
                    "repo:octo-org@{owner}/octo-repo@{repository}:environment:production"
                )),
            ),
            ("repository_owner_id", json!(owner)),
            ("repository_id", json!(repository)),
        ];
        recipe.refuses(&ids).await;
    }
    recipe.refuses(&[]).await;
    recipe.refuses(&[("environment", json!("production-evil"))]).await;
    recipe.refuses(&[environment.clone(), ("repository_id", Value::Null)]).await;
    recipe.refuses(&[environment.clone(), ("aud", json!("https://github.com/octo-org"))]).await;
    recipe
        .refuses(&[environment, ("iss", json!("https://token.actions.githubusercontent.com/x"))])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn github_branch_is_accepted_and_pull_requests_are_not() {
    let [_, by_branch] = recipes("GitHub Actions").try_into().unwrap();
    let recipe = Recipe::new(by_branch, "RS256", json!({ "typ": "JWT" }), github()).await;
    recipe.accepts(&[]).await;
    let new = json!("repo:octo-org@65/octo-repo@74:ref:refs/heads/main");
    recipe.accepts(&[("sub", new)]).await;
    let pull_request = [
        ("sub", json!("repo:octo-org/octo-repo:pull_request")),
        ("ref", json!("refs/pull/7/merge")),
        ("event_name", json!("pull_request")),
        ("head_ref", json!("feature")),
        ("base_ref", json!("main")),
    ];
    recipe.refuses(&pull_request).await;
    recipe.refuses(&[("event_name", json!("pull_request_target"))]).await;
    recipe.refuses(&[("ref", json!("refs/heads/main-evil"))]).await;
    recipe.refuses(&[("repository_owner_id", json!("66"))]).await;
    recipe.refuses(&[("repository_id", json!("75"))]).await;
}

/// A rule for the old form of `sub` refuses the new form: the subject is exact.
#[tokio::test(flavor = "multi_thread")]
async fn github_subject_of_the_new_form_is_another_subject() {
    let trust = Federated {
        issuer: "https://token.actions.githubusercontent.com".to_owned(),
        subject: "repo:o/r:ref:refs/heads/main".to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        ..Default::default()
    };
    let recipe = Recipe::new(trust, "RS256", json!({ "typ": "JWT" }), github()).await;
    recipe.accepts(&[("sub", json!("repo:o/r:ref:refs/heads/main"))]).await;
    recipe.refuses(&[("sub", json!("repo:o@1/r@2:ref:refs/heads/main"))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_protected_branch_is_accepted() {
    let claims = json!({
        "namespace_id": "72",
        "namespace_path": "my-group",
        "project_id": "20",
        "project_path": "my-group/my-project",
        "user_id": "1",
        "user_login": "sample-user",
        "user_email": "sample-user@example.com",
        "user_access_level": "developer",
        "pipeline_id": "574",
        "pipeline_source": "push",
        "job_id": "302",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "groups_direct": ["mygroup/mysubgroup", "myothergroup/myothersubgroup"],
        "runner_id": 1,
        "runner_environment": "self-hosted",
        "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "project_visibility": "public",
        "ci_config_ref_uri": "gitlab.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
        "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
        "iss": "https://gitlab.com",
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
        "aud": AUDIENCE,
    });
    let recipe = Recipe::new(only("GitLab"), "RS256", json!({ "typ": "JWT" }), claims).await;
    recipe
        .refuses_each(&[
            ("project_id", "21"),
            ("namespace_id", "720"),
            ("ref", "main-evil"),
            ("ref_type", "tag"),
            ("ref_protected", "false"),
            ("iss", "https://gitlab.example.com"),
            ("aud", "https://gitlab.com"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spiffe_jwt_svid_is_accepted() {
    // What the specification requires, and `iss`. `iat` is there too in SPIRE.
    let claims = json!({
        "aud": [AUDIENCE],
        "iss": "https://oidc.acme.example",
        "sub": "spiffe://acme.example/ns/prod/sa/crm",
    });
    let recipe = Recipe::new(only("SPIFFE"), "ES256", json!({ "typ": "JWT" }), claims).await;
    recipe.accepts(&[("nbf", Value::Null)]).await;
    recipe.accepts(&[("nbf", Value::Null), ("iat", Value::Null)]).await;
    recipe
        .refuses_each(&[
            ("sub", "spiffe://acme.example/ns/prod/sa/crm/evil"),
            ("sub", "spiffe://acme.example.evil.test/ns/prod/sa/crm"),
            ("sub", "spiffe://other.example/ns/prod/sa/crm"),
            ("iss", "https://oidc.acme.example/"),
            ("aud", "spiffe://acme.example/ns/prod/sa/crm"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_managed_identity_is_accepted() {
    const DIRECTORY: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
    const IDENTITY: &str = "11aa11aa-bb22-cc33-dd44-55ee55ee55ee";
    let claims = json!({
        "aud": "00001111-aaaa-2222-bbbb-3333cccc4444",
        "iss": format!("https://login.microsoftonline.com/{DIRECTORY}/v2.0"),
        "aio": "E2ZgYHjk",
        "azp": "33dd33dd-ee44-ff55-aa66-77bb77bb77bb",
        "azpacr": "2",
        "idtyp": "app",
        "oid": IDENTITY,
        "rh": "0.AUYA",
        "sub": IDENTITY,
        "tid": DIRECTORY,
        "uti": "fqiBqXLPj0eQa82S-IYFAA",
        "ver": "2.0",
        "xms_mirid": "/subscriptions/x/resourcegroups/y/providers/z",
    });
    let recipe = Recipe::new(only("Azure"), "RS256", json!({ "typ": "JWT" }), claims).await;
    let other = "https://login.microsoftonline.com/99990000-0000-cccc-1111-dddd2222eeee/v2.0";
    let first = format!("https://sts.windows.net/{DIRECTORY}/");
    recipe
        .refuses_each(&[
            ("iss", other),
            ("iss", "https://login.microsoftonline.com/common/v2.0"),
            ("iss", first.as_str()),
            ("sub", "22bb22bb-bb22-cc33-dd44-55ee55ee55ee"),
            ("tid", "99990000-0000-cccc-1111-dddd2222eeee"),
            ("aud", "api://00001111-aaaa-2222-bbbb-3333cccc4444"),
        ])
        .await;
    // It lives for a day, and was valid 5 minutes before it was issued.
    let now = recipe.kw.now().as_second();
    let day =
        [("iat", json!(now - 300)), ("nbf", json!(now - 300)), ("exp", json!(now + 24 * 3600))];
    recipe.accepts(&day).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_service_account_is_accepted() {
    let claims = json!({
        "aud": AUDIENCE,
        "azp": "113774264463038321964",
        "email": "crm@acme-prod.iam.gserviceaccount.com",
        "email_verified": true,
        "google": {
            "compute_engine": {
                "project_id": "acme-prod", "project_number": 739_419_398_126_u64,
                "zone": "us-west1-a", "instance_id": "152986662232938449",
                "instance_name": "crm", "instance_creation_timestamp": 1_551_000_000,
            },
        },
        "iss": "https://accounts.google.com",
        "sub": "113774264463038321964",
    });
    let recipe = Recipe::new(only("Google"), "RS256", json!({ "typ": "JWT" }), claims).await;
    recipe
        .refuses_each(&[
            ("sub", "1137742644630383219640"),
            ("iss", "accounts.google.com"),
            ("aud", "https://id.example.com/"),
        ])
        .await;
    recipe.refuses(&[("sub", json!(113_774_264_463_038_321_i64))]).await;
}
