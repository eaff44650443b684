//! Master keys.

use super::timestamp;
use crate::domain::ServerKeys;
use crate::proto::admin as pb;
use crate::service::{MasterKeyStatus, MasterKeyUse};

pub(in crate::grpc) fn status(status: MasterKeyStatus) -> pb::GetMasterKeyStatusResponse {
    pb::GetMasterKeyStatusResponse {
        master_keys: status.keys.into_iter().map(key).collect(),
        servers: status.servers.into_iter().map(server).collect(),
    }
}

fn key(key: MasterKeyUse) -> pb::MasterKey {
    pb::MasterKey {
        id: key.id,
        primary: key.is_primary,
        held: key.is_held,
        sealed_values: key.sealed_values,
        secret_hashes: key.secret_hashes,
        audit_signatures: key.audit_signatures,
        removable: key.is_removable,
    }
}

fn server(server: ServerKeys) -> pb::ServerMasterKeys {
    pb::ServerMasterKeys {
        server: server.name,
        primary_key_id: server.primary,
        additional_key_id: server.additional.unwrap_or_default(),
        last_seen_time: Some(timestamp(server.seen_at)),
    }
}
