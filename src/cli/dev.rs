//! `keyward dev`: a trial server with a sample tenant.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use tonic::{Code, Status};

use super::print::{print_json, say};
use super::profile::ProfileFile;
use super::sample_key::SampleKey;
use super::serve::StopSignal;
use super::{Failure, ServerConnection, ServerOptions, token};
use crate::clock::Clock;
use crate::proto::admin as pb;
use crate::proto::admin::credential::public_key::Keys;
use crate::proto::admin::credential::{Kind, PublicKey, Registration};
use crate::server::{Server, raise_limit};
use crate::service::FirstCredential;
use crate::telemetry::Telemetry;

const PROFILE: &str = include_str!("../../deploy/profiles/voiso.toml");
const TENANT: &str = "demo";
const APPLICATION: &str = "sample";
const SCOPES: [&str; 2] = ["campaigns.read", "users.read"];

/// Start a server with a sample tenant, and print commands to try
///
/// Issues and verifies a token, then serves until Ctrl-C. Ignores the environment, and deletes all
/// data at the end. With --data-dir, keeps the data in that directory and reads the environment.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyward dev
  keyward dev --grpc 127.0.0.1:0 --http 127.0.0.1:0 --ops 127.0.0.1:0")]
pub(super) struct Dev {
    #[command(flatten)]
    options: ServerOptions,
}

/// The credentials of the sample application.
struct Sample {
    client_id: String,
    client_secret: String,
    /// The client id of the credential with a key pair, and the file with its private key.
    key_client_id: String,
    key_file: PathBuf,
}

impl Dev {
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        self.options.log.get_or_insert_with(|| "warn".to_owned());
        // Dropping it deletes the directory. That happens after the server's shutdown.
        let folder = if self.options.data_dir.is_none() {
            let folder = tempfile::Builder::new()
                .prefix("keyward-dev-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir();
            Some(folder.map_err(Failure::new)?)
        } else {
            None
        };
        let config = match &folder {
            Some(folder) => self.options.read_temporary(folder.path())?,
            None => self.options.read_for_trial()?,
        };
        if config.tls.grpc.is_some() || config.tls.http.is_some() || config.tls.ops.is_some() {
            return Err(Failure::usage(
                "the configuration has certificates, and `keyward dev` serves without TLS: use \
                 `keyward serve`",
            ));
        }
        let telemetry = Telemetry::start(&config.telemetry).map_err(Failure::usage)?;
        let mut stop = StopSignal::new()?;
        raise_limit();
        let server = tokio::select! {
            server = Server::start(&config, Clock::system()) => server?,
            _ = stop.received() => return Ok(()),
        };
        let admin = match &server.first_credential {
            Some(first) => first.clone(),
            None => server.service.admin.bootstrap().await.map_err(Failure::new)?,
        };
        let shown = tokio::select! {
            shown = show(&server, &admin, &config.data_dir, folder.is_some()) => match shown {
                Ok(()) => {
                    stop.received().await;
                    Ok(())
                }
                failed => failed,
            },
            _ = stop.received() => Ok(()),
        };
        server.shutdown().await;
        telemetry.stop();
        shown
    }
}

/// Issues and verifies a token like any client, and prints the result.
async fn show(
    server: &Server,
    admin: &FirstCredential,
    data_dir: &Path,
    temporary: bool,
) -> Result<(), Failure> {
    let connection = ServerConnection {
        server: Some(format!("http://{}", server.grpc)),
        client_id: Some(admin.client_id.clone()),
        client_secret: Some(admin.client_secret.expose().to_owned()),
        ..ServerConnection::default()
    };
    let sample = make_sample(&connection, data_dir).await?;
    let as_sample = ServerConnection {
        client_id: Some(sample.client_id.clone()),
        client_secret: Some(sample.client_secret.clone()),
        ..connection
    };
    let fresh = as_sample.exchange_for(as_sample.credential()?, Vec::new(), Vec::new()).await?;
    let issuer = server.service.issuer();
    let claims = token::verify(&as_sample, &fresh.access_token, Some(issuer)).await?;

    let kept = if temporary { "will be deleted when the server stops" } else { "will be kept" };
    say!("Keyward is serving. Its data is in {} and {kept}.\n", data_dir.display());
    say!("  gRPC        {}\n  OAuth       http://{}", server.grpc, server.http);
    say!("  operations  http://{}\n", server.ops);
    say!("tenants/{TENANT}/applications/{APPLICATION} exchanged its secret for a token.");
    say!("The published keys verify it. Its claims:\n");
    print_json(&claims)?;
    print_lines(server, admin, &sample);
    Ok(())
}

async fn make_sample(connection: &ServerConnection, folder: &Path) -> Result<Sample, Failure> {
    let authorized = connection.authorized().await?;
    let profile = ProfileFile::parse(PROFILE).map_err(Failure::new)?;
    pb::tenant_service_client::TenantServiceClient::new(authorized.clone())
        .apply_profile(profile.request(Some(TENANT))?)
        .await?;
    let application = pb::Application {
        display_name: "Sample integration".to_owned(),
        scopes: SCOPES.map(ToOwned::to_owned).to_vec(),
        ..pb::Application::default()
    };
    let made = pb::application_service_client::ApplicationServiceClient::new(authorized.clone())
        .create_application(pb::CreateApplicationRequest {
            parent: format!("tenants/{TENANT}"),
            application_id: APPLICATION.to_owned(),
            application: Some(application),
            request_id: String::new(),
        })
        .await;
    made.map(drop).or_else(ignore_existing)?;
    let mut credentials = pb::credential_service_client::CredentialServiceClient::new(authorized);
    let new = |kind: Kind, registration| pb::CreateCredentialRequest {
        parent: format!("tenants/{TENANT}/applications/{APPLICATION}"),
        credential: Some(pb::Credential {
            kind: kind.into(),
            registration,
            ..pb::Credential::default()
        }),
        request_id: String::new(),
    };
    let made = credentials.create_credential(new(Kind::ClientSecret, None)).await?.into_inner();
    let key = SampleKey::generate()?;
    let public = PublicKey { keys: Some(Keys::Jwks(key.jwks()?)) };
    let with_key = new(Kind::PublicKey, Some(Registration::PublicKey(public)));
    let with_key = credentials.create_credential(with_key).await?.into_inner();
    Ok(Sample {
        client_id: made.credential.unwrap_or_default().client_id,
        client_secret: made.secret,
        key_client_id: with_key.credential.unwrap_or_default().client_id,
        key_file: key.write(folder)?,
    })
}

/// Accepts that the application exists: a directory that is kept has it from an earlier start.
fn ignore_existing(status: Status) -> Result<(), Status> {
    if status.code() == Code::AlreadyExists { Ok(()) } else { Err(status) }
}

fn print_lines(server: &Server, admin: &FirstCredential, sample: &Sample) {
    let Sample { client_id, client_secret, key_client_id, key_file } = sample;
    let (grpc, http) = (server.grpc, server.http);
    say!("\nTry these commands in another terminal:\n");
    say!("# OAuth: a token for the sample application");
    say!(
        "curl -s -u {client_id}:{client_secret} -d grant_type=client_credentials -d \
         scope={} http://{http}/oauth2/token\n",
        SCOPES[0]
    );
    say!("# gRPC: the same, with any client that supports reflection");
    say!(
        "grpcurl -plaintext -d '{{\"client_secret\":{{\"client_id\":\"{client_id}\",\
         \"client_secret\":\"{client_secret}\"}}}}' {grpc} keyward.token.v1.TokenService/IssueToken\n"
    );
    say!("# The command line, as the administrator");
    say!("export KEYWARD_SERVER=http://{grpc}");
    super::serve::print(admin);
    say!("keyward application list {TENANT}");
    say!("keyward introspect \"$(keyward token)\"");
    say!(
        "keyward check \"$(KEYWARD_CLIENT_ID={client_id} KEYWARD_CLIENT_SECRET={client_secret} \
         keyward token)\" --scope {}",
        SCOPES[0]
    );
    say!("# Without a shared secret: the server has only the public key (private_key_jwt)");
    let key_file = key_file.display();
    say!("keyward token --client-id {key_client_id} --private-key '{key_file}'");
    say!("keyward credential show {TENANT}/{APPLICATION}/{key_client_id}");
    say!("keyward credential delete {TENANT}/{APPLICATION}/{client_id} --yes");
    say!("keyward audit list {TENANT} --resource {TENANT}/{APPLICATION}/{client_id}\n");
    say!("Ctrl-C stops the server.");
}
