//! Clients that authenticate with their certificate (RFC 8705, section 2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::certificate::Name;
use keyward::proto::admin::credential::{Certificate, Kind, Registration};
use keyward::proto::token as tokens;
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use serde_json::json;
use tonic::Code;

use super::certificates::{Authority, Pair};
use super::mtls::{CRM, Mtls, claims, of_authority, pinned, post, register, thumbprint};
use super::start::keyward;
use crate::harness::{Admin, Backend, mask, on_both_databases, reason};

on_both_databases!(
    certificate_of_an_authority_authenticates_on_both_interfaces,
    changed_registration_of_a_certificate_revokes_tokens,
);

async fn certificate_of_an_authority_authenticates_on_both_interfaces(backend: Backend) {
    let mtls = Mtls::start(backend, &[]).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let clients = Authority::new("clients");
    let credential = register(&mut admin, CRM, of_authority(&clients, "CN=crm")).await.unwrap();
    let id = &credential.client_id;
    for pair in [clients.named("crm"), clients.named("CRM"), clients.through_intermediate("crm")] {
        let answer = mtls.token(Some(&pair), id).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["token_type"], "Bearer");
        let issued = mtls.issue(Some(&pair), id, &[]).await.unwrap();
        for token in [answer.body["access_token"].as_str().unwrap(), &issued.access_token] {
            let claims = claims(token);
            assert_eq!(claims["client_id"], **id);
            assert_eq!(claims["cnf"], json!({ "x5t#S256": thumbprint(&pair) }));
            let info = admin.introspect(token).await;
            assert!(info.active);
            assert_eq!(info.confirmation.unwrap().x5t_s256, thumbprint(&pair));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_name_is_looked_up_in_the_certificate() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let clients = Authority::new("clients");
    let full = clients.custom("crm", |params| {
        params.subject_alt_names = vec![
            SanType::DnsName("crm.acme.test".try_into().unwrap()),
            SanType::URI("spiffe://acme.test/crm".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 7].into()),
            SanType::Rfc822Name("crm@acme.test".try_into().unwrap()),
        ];
    });
    let bare = clients.named("other");
    for name in [
        Name::SubjectDn("CN=crm".to_owned()),
        Name::SanDns("CRM.acme.test".to_owned()),
        Name::SanUri("spiffe://acme.test/crm".to_owned()),
        Name::SanIp("192.0.2.7".to_owned()),
        Name::SanEmail("crm@ACME.test".to_owned()),
    ] {
        let rule = Certificate { name: Some(name.clone()), ..of_authority(&clients, "") };
        let credential = register(&mut admin, CRM, rule).await.unwrap();
        assert_eq!(mtls.token(Some(&full), &credential.client_id).await.status, 200, "{name:?}");
        assert_eq!(mtls.token(Some(&bare), &credential.client_id).await.status, 401, "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_are_refused_alike() {
    let settings = [("secrets.wrong_secrets", "0"), ("secrets.wrong_secrets_of_source", "0")];
    let mtls = Mtls::start(Backend::Sqlite, &settings).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let (clients, twin) = (Authority::new("clients"), Authority::new("clients"));
    let rule = of_authority(&clients, "CN=crm");
    let id = register(&mut admin, CRM, rule.clone()).await.unwrap().client_id;
    let disabled = register(&mut admin, CRM, rule).await.unwrap();
    set(&mut admin, pb::Credential { disabled: true, ..disabled.clone() }, "disabled").await;
    let own = clients.named("crm");
    let other = clients.named("other");
    let pinned_to_other = register(&mut admin, CRM, pinned(&[&other])).await.unwrap().client_id;

    let day = |year, month, day| rcgen::date_time_ymd(year, month, day);
    let ended = clients.custom("crm", |params| params.not_after = day(2026, 5, 31));
    let early = clients.custom("crm", |params| params.not_before = day(2026, 6, 2));
    let for_servers = clients.custom("crm", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let with_twin = Pair { intermediates: vec![twin.der()], ..twin.named("crm") };
    let with_root = Pair { intermediates: vec![clients.der()], ..twin.named("crm") };
    let without_intermediate =
        Pair { intermediates: Vec::new(), ..clients.through_intermediate("crm") };
    let unknown = "0".repeat(32);
    let wanted = mtls.token(Some(&own), &unknown).await;
    assert_eq!((wanted.status, &wanted.body["error"]), (401, &json!("invalid_client")));
    for (what, pair, id) in [
        ("another root with the same name", &twin.named("crm"), &id),
        ("that root as an intermediate", &with_twin, &id),
        ("the right root beside it", &with_root, &id),
        ("another subject", &other, &id),
        ("ended", &ended, &id),
        ("not yet valid", &early, &id),
        ("for servers", &for_servers, &id),
        ("without the intermediate", &without_intermediate, &id),
        ("disabled", &own, &disabled.client_id),
        ("none of the pinned", &own, &pinned_to_other),
        ("no client id", &own, &"x".to_owned()),
    ] {
        let answer = mtls.token(Some(pair), id).await;
        assert_eq!(answer, wanted, "{what}");
        let status = mtls.issue(Some(pair), id, &[]).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_CLIENT", "{what}");
    }
    assert_eq!(mtls.token(Some(&own), &id).await.status, 200);
    let status = mtls.issue(None, &id, &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT", "without a certificate");
    assert_eq!(mtls.token(None, &id).await.status, 401, "without a certificate");
}

/// Changes one field of a credential.
async fn set(admin: &mut Admin, credential: pb::Credential, field: &str) -> pb::Credential {
    let request = pb::UpdateCredentialRequest {
        credential: Some(pb::Credential { etag: String::new(), ..credential }),
        update_mask: mask(&[field]),
    };
    let answer = admin.credentials.update_credential(request).await.unwrap();
    answer.into_inner().credential.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_authenticates_in_its_own_way_only() {
    let settings = [("secrets.wrong_secrets", "0"), ("secrets.wrong_secrets_of_source", "0")];
    let mtls = Mtls::start(Backend::Sqlite, &settings).await;
    let mut admin = mtls.admin().await;
    let (_, secret) = admin.acme().await;
    let (key_credential, key) = admin.credential(CRM, Kind::ApiKey).await;
    let clients = Authority::new("clients");
    let own = clients.named("crm");
    let certificate = register(&mut admin, CRM, of_authority(&clients, "CN=crm")).await.unwrap();
    let certificate = certificate.client_id;

    // The certificate of the client with a certificate, in the name of each client.
    for (id, status) in
        [(&certificate, 200), (&secret.client_id, 401), (&key_credential.client_id, 401)]
    {
        let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        assert_eq!(mtls.token(Some(&own), id).await.status, status, "{id}");
        let issued = mtls.issue(Some(&own), id, &[]).await;
        assert_eq!(issued.is_ok(), status == 200, "{id}");
        for path in ["/oauth2/introspect", "/oauth2/revoke"] {
            let answer = mtls.post(Some(&own), path, &[("client_id", id), ("token", "x")]).await;
            assert_eq!(answer.status, status, "{path} {id}");
            let none = mtls.post(None, path, &[("client_id", id), ("token", "x")]).await;
            assert_eq!(none.status, 401, "{path} {id}");
        }
        if *id != certificate {
            continue;
        }
        // The secrets of others, in the name of the client with a certificate, which it also
        // presents.
        for wrong in [&secret.secret, &key.secret, "", "x"] {
            for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
                let form = [("grant_type", "client_credentials"), ("token", "x")];
                let mut stream = mtls.connect(Some(&own)).await;
                let header = basic(wrong);
                let answer = post(&mut stream, path, &[("Authorization", &header)], &form).await;
                assert_eq!(answer.status, 401, "{path} Basic {answer:?}");
                if wrong.is_empty() {
                    continue;
                }
                let form = [&form[..], &[("client_id", id), ("client_secret", wrong)]].concat();
                let answer = mtls.post(Some(&own), path, &form).await;
                assert_eq!(answer.status, 401, "{path} in the body {answer:?}");
            }
            let proof =
                tokens::ClientSecret { client_id: id.clone(), client_secret: wrong.to_owned() };
            let request = tokens::IssueTokenRequest {
                credential: Some(Proof::ClientSecret(proof)),
                ..Default::default()
            };
            let mut client = TokenServiceClient::new(mtls.channel(Some(&own)).await);
            let status = client.issue_token(request).await.unwrap_err();
            assert_eq!(reason(&status), "INVALID_CLIENT");
        }
        let assertion = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", "e30.e30.e30"),
        ];
        let answer = mtls.post(Some(&own), "/oauth2/token", &assertion).await;
        assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_client")));
    }
}

async fn changed_registration_of_a_certificate_revokes_tokens(backend: Backend) {
    let mtls = Mtls::start(backend, &[]).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let (one, two) = (Authority::new("one").named("crm"), Authority::new("two").named("crm"));
    let credential = register(&mut admin, CRM, pinned(&[&one])).await.unwrap();
    let id = credential.client_id.clone();
    let token = async |pair| {
        let answer = mtls.token(Some(pair), &id).await;
        answer.body["access_token"].as_str().map(ToOwned::to_owned)
    };
    let first = token(&one).await.unwrap();
    assert_eq!(token(&two).await, None);
    let with = |pairs: &[&Pair]| pb::Credential {
        registration: Some(Registration::Certificate(pinned(pairs))),
        ..credential.clone()
    };
    set(&mut admin, with(&[&one, &two]), "certificate").await;
    let second = token(&two).await.unwrap();
    assert!(admin.is_active(&first).await, "adding one keeps tokens");
    set(&mut admin, with(&[&two]), "certificate").await;
    assert_eq!(token(&one).await, None, "although it was accepted before");
    assert!(token(&two).await.is_some());
    for token in [&first, &second] {
        assert!(!admin.is_active(token).await, "removing one revokes tokens");
    }
    let request = pb::DeleteCredentialRequest { name: credential.name, ..Default::default() };
    admin.credentials.delete_credential(request).await.unwrap();
    assert_eq!(token(&two).await, None, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_that_ends_on_an_open_connection_is_refused() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let clients = Authority::new("clients");
    let pair = clients.custom("crm", |params| {
        params.not_after = rcgen::date_time_ymd(2026, 6, 2);
    });
    let mut http = mtls.connect(Some(&pair)).await;
    let grpc = mtls.channel(Some(&pair)).await;
    let mut ids = Vec::new();
    for rule in [of_authority(&clients, "CN=crm"), pinned(&[&pair])] {
        ids.push(register(&mut admin, CRM, rule).await.unwrap().client_id);
    }
    // The clock shows noon of the day before.
    for (seconds, status) in [(0, 200), (11 * 3600, 200), (2 * 3600, 401)] {
        mtls.kw.advance(seconds);
        for id in &ids {
            let form = [("grant_type", "client_credentials"), ("client_id", &**id)];
            let answer = post(&mut http, "/oauth2/token", &[], &form).await;
            assert_eq!(answer.status, status);
            let issued = super::mtls::issue(&grpc, id, &[]).await;
            assert_eq!(issued.is_ok(), status == 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_count_against_the_budget_of_wrong_secrets() {
    let mtls = Mtls::start(Backend::Sqlite, &[("secrets.wrong_secrets", "2")]).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let clients = Authority::new("clients");
    let (own, wrong) = (clients.named("crm"), clients.named("other"));
    let one = register(&mut admin, CRM, of_authority(&clients, "CN=crm")).await.unwrap().client_id;
    let two = register(&mut admin, CRM, of_authority(&clients, "CN=crm")).await.unwrap().client_id;
    assert_eq!(mtls.token(Some(&own), &one).await.status, 200);
    for status in [401, 401, 429] {
        assert_eq!(mtls.token(Some(&wrong), &one).await.status, status);
    }
    let status = mtls.issue(Some(&wrong), &one, &[]).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(mtls.token(Some(&own), &one).await.status, 200, "it was accepted before");
    assert_eq!(mtls.token(Some(&own), &two).await.status, 200, "another client");
    mtls.kw.advance(61);
    assert_eq!(mtls.token(Some(&wrong), &one).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_registration_name_the_field() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let clients = Authority::new("clients");
    let own = clients.named("crm");
    let good = of_authority(&clients, "CN=crm");
    let name = |name| Certificate { name: Some(name), ..good.clone() };
    for (field, rule) in [
        ("credential.certificate", Certificate::default()),
        ("credential.certificate", Certificate { name: None, ..good.clone() }),
        ("credential.certificate.subject_dn", name(Name::SubjectDn("/CN=crm".to_owned()))),
        ("credential.certificate.san_dns", name(Name::SanDns("*.acme.test".to_owned()))),
        ("credential.certificate.san_uri", name(Name::SanUri("crm".to_owned()))),
        ("credential.certificate.san_ip", name(Name::SanIp("192.0.2.0/24".to_owned()))),
        ("credential.certificate.san_email", name(Name::SanEmail("crm".to_owned()))),
        (
            "credential.certificate.authorities",
            Certificate { authorities: own.certificate.clone(), ..good.clone() },
        ),
        (
            "credential.certificate.authorities",
            Certificate { authorities: [clients.pem(), own.key.clone()].concat(), ..good.clone() },
        ),
        (
            "credential.certificate.thumbprints",
            Certificate { thumbprints: vec![thumbprint(&own)], ..good.clone() },
        ),
        (
            "credential.certificate.thumbprints",
            Certificate { thumbprints: vec!["x".to_owned()], ..Default::default() },
        ),
    ] {
        let status = register(&mut admin, CRM, rule).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{field}");
        assert!(status.message().starts_with(&format!("{field} ")), "{}", status.message());
    }
    let stored = register(&mut admin, CRM, good.clone()).await.unwrap();
    let request = pb::RotateCredentialRequest { name: stored.name.clone(), ..Default::default() };
    let status = admin.credentials.rotate_credential(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD", "{}", status.message());
    let pem = |text: &str| text.replace("\r\n", "\n");
    match stored.registration.unwrap() {
        Registration::Certificate(shown) => {
            assert_eq!(pem(&shown.authorities), pem(&good.authorities));
            assert_eq!(shown.name, good.name);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_names_the_ways_that_the_listener_makes_possible() {
    let clients = Authority::new("clients");
    let secrets = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    for (setting, certificates) in [
        ("any", &["tls_client_auth", "self_signed_tls_client_auth"][..]),
        ("optional", &["tls_client_auth"]),
        ("none", &[]),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), clients.pem()).unwrap();
        let path = file.path().display().to_string();
        let settings = [("tls.client_auth", setting), ("tls.client_ca", &*path)];
        let mtls = Mtls::start(Backend::Sqlite, &settings).await;
        let metadata = mtls.metadata().await;
        let wanted: Vec<_> = secrets.iter().chain(certificates).collect();
        for endpoint in ["token", "introspection", "revocation"] {
            let methods = &metadata[format!("{endpoint}_endpoint_auth_methods_supported")];
            assert_eq!(*methods, json!(wanted), "{setting}");
        }
        let bound = &metadata["tls_client_certificate_bound_access_tokens"];
        assert_eq!(*bound, if certificates.is_empty() { json!(null) } else { json!(true) });
        assert_eq!(metadata["mtls_endpoint_aliases"], json!(null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_of_a_verified_connection_authenticates_too() {
    let clients = Authority::new("clients");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), clients.pem()).unwrap();
    let path = file.path().display().to_string();
    let settings = [("tls.client_auth", "optional"), ("tls.client_ca", &*path)];
    let mtls = Mtls::start(Backend::Sqlite, &settings).await;
    let mut admin = mtls.admin().await;
    admin.acme().await;
    let rule = of_authority(&clients, "CN=crm");
    let id = register(&mut admin, CRM, rule).await.unwrap().client_id;
    assert_eq!(mtls.token(Some(&clients.through_intermediate("crm")), &id).await.status, 200);
    // The operator's authority is not the credential's.
    let rule = of_authority(&Authority::new("clients"), "CN=crm");
    let id = register(&mut admin, CRM, rule).await.unwrap().client_id;
    assert_eq!(mtls.token(Some(&clients.named("crm")), &id).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_the_command_line_authenticate_with_a_certificate() {
    let mtls = Mtls::start(Backend::Sqlite, &[]).await;
    mtls.admin().await.acme().await;
    let clients = Authority::new("clients");
    let own = clients.through_intermediate("crm");
    let file = |name: &str, text: &str| {
        mtls.files.write(name, text);
        mtls.files.path(name)
    };
    let (ca, authorities) = (mtls.files.path("server-ca.pem"), file("ca.pem", &clients.pem()));
    let (certificate, key) = (file("app.crt", &own.certificate), file("app.key", &own.key));
    let grpc = format!("https://{}", mtls.kw.server().grpc);
    let admin = mtls.kw.admin_credential().clone();
    let (shared_ca, shared_grpc) = (ca.clone(), grpc.clone());
    let as_admin = async move |arguments: &[&str]| {
        let mut command = keyward(arguments);
        command
            .env("KEYWARD_SERVER", &shared_grpc)
            .env("KEYWARD_CA", &shared_ca)
            .env("KEYWARD_CLIENT_ID", &admin.client_id)
            .env("KEYWARD_CLIENT_SECRET", &admin.secret);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let says = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(0), "{says}");
        serde_json::from_str::<serde_json::Value>(&says).unwrap()
    };
    let create = ["credential", "create", "acme/crm", "--kind", "certificate", "--output", "json"];
    let by_name = ["--ca-file", &authorities, "--subject", "CN=crm"];
    let by_hash = ["--certificate", &certificate];
    for flags in [&by_name[..], &by_hash] {
        let made = as_admin(&[&create[..], flags].concat()).await;
        assert_eq!(made["kind"], "certificate");
        assert_eq!(made.get("secret"), None);
        let id = made["client_id"].as_str().unwrap().to_owned();

        let mut command = keyward(&["token", "--client-id", &id]);
        command.args(["--server", &grpc, "--ca", &ca]).args([
            "--client-certificate",
            &certificate,
            "--client-key",
            &key,
        ]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let token = String::from_utf8(output.stdout).unwrap();
        assert_eq!(claims(token.trim())["cnf"]["x5t#S256"], thumbprint(&own));

        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--cacert", &ca])
            .args(["--cert", &certificate, "--key", &key])
            .args(["--data", "grant_type=client_credentials"])
            .args(["--data-urlencode", &format!("client_id={id}")])
            .arg(format!("https://{}/oauth2/token", mtls.kw.server().http));
        let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(claims(token)["cnf"]["x5t#S256"], thumbprint(&own));
    }
}
