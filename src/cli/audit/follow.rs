//! Reads a stream of audit events up to the signed head. Continues on a new connection if the stream
//! ends early, as it does when the access token expires or the server is replaced.

use tonic::{Code, Status};

use crate::cli::print::note;
use crate::cli::{Failure, ServerConnection};
use crate::proto::admin::audit_service_client::AuditServiceClient;
use crate::proto::admin::{WatchAuditEventsRequest, WatchAuditEventsResponse};

/// Passes on messages until all events up to the head were received.
pub(super) async fn follow(
    connection: &ServerConnection,
    parent: &str,
    cursor: String,
    mut receive: impl FnMut(WatchAuditEventsResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor = cursor;
    loop {
        let channel = connection.authorized().await?;
        let mut client = AuditServiceClient::new(channel);
        let request = WatchAuditEventsRequest { parent: parent.to_owned(), cursor: cursor.clone() };
        let mut stream = client.watch_audit_events(request).await?.into_inner();
        let mut progressed = false;
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(Failure::new("the server ended the stream of events")),
                Err(status) if progressed && is_passing(&status) => {
                    note(&format!("the stream ended ({}); continuing", status.message()));
                    break;
                }
                Err(status) => return Err(status.into()),
            };
            let is_end = message.head.is_some() || message.records.is_empty();
            progressed |= !message.records.is_empty();
            cursor.clone_from(&message.cursor);
            receive(message)?;
            if is_end {
                return Ok(());
            }
        }
    }
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unauthenticated | Code::Aborted)
}
