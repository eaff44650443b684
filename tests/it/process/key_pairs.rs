//! Credentials with a key in place of a secret, at the command line.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::binary::Finished;
use super::commands::Desk;
use super::forms::with_input;

/// Makes a key with OpenSSL. Returns the files of the private and of the public key.
fn key_pair(folder: &TempDir, name: &str, options: &str) -> (String, String) {
    let file = |end: &str| folder.path().join(format!("{name}.{end}")).display().to_string();
    let (private, public) = (file("key.pem"), file("pub.pem"));
    let run = |line: String| {
        let output = Command::new("openssl").args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(format!("genpkey {options} -out {private}"));
    run(format!("pkey -in {private} -pubout -out {public}"));
    (private, public)
}

fn acme(desk: &Desk) {
    for line in [
        "tenant create acme",
        "scope create acme/campaigns.read",
        "application create acme/crm --display-name CRM --scope campaigns.read",
    ] {
        desk.run(line).worked();
    }
}

/// Runs a command without the administrator's credential.
fn run_as_client(desk: &Desk, line: &str) -> Finished {
    let mut command = desk.command(line);
    Finished::of(command.env_remove("KEYWARD_CLIENT_ID").env_remove("KEYWARD_CLIENT_SECRET"))
}

#[test]
fn each_type_of_key_gets_tokens() {
    let (desk, folder) = (Desk::new(&[]), TempDir::new().unwrap());
    acme(&desk);
    for (name, options) in [
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("ed25519", "-algorithm ED25519"),
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ] {
        let (private, public) = key_pair(&folder, name, options);
        let create = format!("credential create acme/crm --kind public-key --pem {public}");
        let made = desk.run(&format!("{create} -o json"));
        assert!(!made.stderr.contains("secret"), "{made:?}");
        let made = made.json();
        assert_eq!((&made["kind"], &made["secret"]), (&"public_key".into(), &().into()), "{made}");
        let keys = made["public_key"]["jwks"]["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1, "{made}");
        let id = made["client_id"].as_str().unwrap();
        let token = format!("token --client-id {id} --private-key {private}");
        let token = run_as_client(&desk, &token).worked();
        let shown = desk.run(&format!("introspect {} -o json", token.trim())).json();
        assert_eq!((&shown["active"], &shown["client_id"]), (&true.into(), &id.into()), "{name}");

        let text = fs::read_to_string(&private).unwrap();
        let piped = desk.command(&format!("token --client-id {id} --private-key - -o json"));
        let piped = with_input(piped, &text).json();
        assert_eq!(piped["token_type"], "Bearer");
        let issuer = format!("token --client-id {id} --private-key {private} --issuer");
        let wrong = run_as_client(&desk, &format!("{issuer} https://other.example"));
        assert_eq!(wrong.code, Some(4), "{wrong:?}");
        let shown = desk.run(&format!("credential show acme/crm/{id}")).worked();
        assert!(shown.contains("public_key"), "{shown}");
    }
    let name = desk.run("credential list acme/crm -o name").worked();
    assert_eq!(name.lines().count(), 4);
}

#[test]
fn keys_are_replaced_by_a_set_with_both() {
    let (desk, folder) = (Desk::new(&[]), TempDir::new().unwrap());
    acme(&desk);
    let (old, old_public) = key_pair(&folder, "old", "-algorithm ED25519");
    let (new, new_public) = key_pair(&folder, "new", "-algorithm ED25519");
    let create = format!("credential create acme/crm --kind public-key --pem {old_public}");
    let made = desk.run(&format!("{create} -o name")).worked();
    let id = made.trim().rsplit_once('/').unwrap().1.to_owned();
    let token = |key: &str, more: &str| {
        let line = format!("token --client-id {id} --private-key {key}{more}");
        run_as_client(&desk, &line).code
    };
    assert_eq!((token(&old, ""), token(&new, "")), (Some(0), Some(4)));

    // A PEM file may have several keys; a JWK set gives them ids.
    let both = folder.path().join("both.pem");
    let texts = [&old_public, &new_public].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&both, texts.concat()).unwrap();
    let update = format!("credential update acme/crm/{id} --pem {}", both.display());
    let shown = desk.run(&format!("{update} -o json")).json();
    assert_eq!((token(&old, ""), token(&new, "")), (Some(0), Some(0)));

    let mut set = shown["public_key"]["jwks"].clone();
    set["keys"].as_array_mut().unwrap().remove(0);
    set["keys"][0]["kid"] = "new".into();
    let jwks = folder.path().join("jwks.json");
    fs::write(&jwks, set.to_string()).unwrap();
    desk.run(&format!("credential update acme/crm/{id} --jwks {}", jwks.display())).worked();
    assert_eq!((token(&old, ""), token(&new, " --key-id new")), (Some(4), Some(0)));
    assert_eq!((token(&new, ""), token(&new, " --key-id old")), (Some(0), Some(4)));
}

#[test]
fn private_key_does_not_leave_the_machine() {
    let (desk, folder) = (Desk::new(&[]), TempDir::new().unwrap());
    acme(&desk);
    let (private, public) =
        key_pair(&folder, "key", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    let create = "credential create acme/crm --kind public-key";
    desk.fails(&format!("{create} --pem {private}"), 2, "has a private key");
    let jwks = folder.path().join("jwks.json");
    for text in [r#"{"keys":[{"kty":"EC","d":"x"}]}"#, r#"{"kty":"oct","k":"x"}"#] {
        fs::write(&jwks, text).unwrap();
        desk.fails(&format!("{create} --jwks {}", jwks.display()), 2, "has a private key");
    }
    fs::write(&jwks, r#"{"keys":[{"kty":"EC"}]}"#).unwrap();
    let faulty = desk.run(&format!("{create} --jwks {}", jwks.display()));
    assert!(faulty.stderr.contains("public_key.jwks.keys[0]"), "{faulty:?}");
    desk.fails(&format!("{create} --pem {public} --jwks {}", jwks.display()), 2, "cannot be used");
    let inner = desk.run(&format!("{create} --jwks-uri https://127.0.0.1/jwks"));
    assert!(inner.stderr.contains("outbound.allowed_networks"), "{inner:?}");
    assert!(desk.run(create).stderr.contains("public_key"));

    // Keys that cannot sign, and what to do.
    let traditional = folder.path().join("traditional.pem").display().to_string();
    let convert = format!("rsa -in {private} -traditional -out {traditional}");
    assert!(Command::new("openssl").args(convert.split(' ')).status().unwrap().success());
    for (file, says) in [
        (traditional.as_str(), "pkcs8 -topk8"),
        (public.as_str(), "no PRIVATE KEY block"),
        ("/does/not/exist", "/does/not/exist"),
    ] {
        let line = format!("token --client-id x --private-key {file}");
        let finished = run_as_client(&desk, &line);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(says), "{finished:?}");
    }
    let nameless = run_as_client(&desk, &format!("token --private-key {private}"));
    assert!(nameless.stderr.contains("--client-id"), "{nameless:?}");
    desk.fails("token --key-id k", 2, "--private-key");
}
