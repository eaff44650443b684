//! Turns the protos into Rust: no `protoc` to install, protox reads them.

use std::path::PathBuf;

const PROTOS: &[&str] = &[
    "keyward/access/v1/access.proto",
    "keyward/access/v1/key.proto",
    "keyward/access/v1/revocation.proto",
    "keyward/admin/v1/application.proto",
    "keyward/admin/v1/audit.proto",
    "keyward/admin/v1/credential.proto",
    "keyward/admin/v1/endpoint.proto",
    "keyward/admin/v1/master_key.proto",
    "keyward/admin/v1/policy.proto",
    "keyward/admin/v1/role.proto",
    "keyward/admin/v1/scope.proto",
    "keyward/admin/v1/signing_key.proto",
    "keyward/admin/v1/tenant.proto",
    "keyward/admin/v1/user.proto",
    "keyward/errors/v1/error_reason.proto",
    "keyward/token/v1/token.proto",
];

/// What `keyward_build_info` says of the build: the compiler, and the commit if `SOURCE_COMMIT` has
/// it.
fn describe_build() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    let commit = std::env::var("SOURCE_COMMIT").unwrap_or_default();
    let commit = if commit.is_empty() { "unknown" } else { commit.as_str() };
    println!("cargo::rustc-env=KEYWARD_BUILD_COMMIT={commit}");
    let output = std::process::Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    let version = String::from_utf8(output.stdout)?;
    let version = version.split_whitespace().nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=KEYWARD_BUILD_RUSTC={version}");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    describe_build()?;
    println!("cargo::rerun-if-changed=proto");
    // sqlx embeds the migrations and notices a changed file, but not a new one.
    println!("cargo::rerun-if-changed=migrations");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("keyward_descriptor.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        // Secrets travel in these: `src/proto.rs` gives them a Debug that does not tell.
        .skip_debug([
            ".keyward.access.v1.BatchCheckAccessRequest",
            ".keyward.access.v1.CheckAccessRequest",
            ".keyward.admin.v1.CreateCredentialResponse",
            ".keyward.admin.v1.RevealCredentialResponse",
            ".keyward.admin.v1.RotateCredentialResponse",
            ".keyward.token.v1.ClientSecret",
            ".keyward.token.v1.ClientAssertion",
            ".keyward.token.v1.IssueTokenRequest",
            ".keyward.token.v1.IssueTokenRequest.credential",
            ".keyward.token.v1.IssueTokenResponse",
            ".keyward.token.v1.ExchangeTokenRequest",
            ".keyward.token.v1.ExchangeTokenRequest.credential",
            ".keyward.token.v1.ExchangeTokenResponse",
            ".keyward.token.v1.IntrospectTokenRequest",
            ".keyward.token.v1.RevokeTokenRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
