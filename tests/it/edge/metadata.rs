//! Repeated metadata that identifies the caller.

use tonic::Code;

use super::served::Served;
use crate::grpc::raw::{all_methods, call_with};
use crate::harness::reason;

#[tokio::test(flavor = "multi_thread")]
async fn repeated_metadata_is_refused_by_every_method() {
    let server = Served::start("true", &[]);
    let grpc = server.grpc_url();
    let token = server.admin.exchange(&grpc, &[], &["keyward"]).await.unwrap();
    let bearer = format!("Bearer {}", token.access_token);
    for path in all_methods() {
        let metadata = [("authorization", bearer.as_str()), ("authorization", &bearer)];
        let status = call_with(&grpc, &path, Vec::new(), &metadata).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
        assert!(status.message().contains("repeated"), "{path}: {status:?}");

        let user = "tenants/acme/users/sam";
        let metadata =
            [("authorization", bearer.as_str()), ("keyward-user", user), ("keyward-user", user)];
        let status = call_with(&grpc, &path, Vec::new(), &metadata).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        assert_eq!(reason(&status), "INVALID_FIELD", "{path}");
    }
}
