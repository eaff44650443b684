//! The effect of changes in a tenant on cached clients.

use keyward::proto::admin as pb;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::harness::{Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(refused_attempt_adds_no_change_to_feed,);

const CRM: &str = "tenants/acme/applications/crm";

/// Runs a statement without the server, and then reads one number.
async fn sql(kw: &Keyward, statement: &str, number: &str) -> i64 {
    let (statement, number) =
        (sqlx::raw_sql(AssertSqlSafe(statement.to_owned())), AssertSqlSafe(number.to_owned()));
    if let Some(url) = kw.database_url() {
        let mut connection = PgConnection::connect(url).await.unwrap();
        statement.execute(&mut connection).await.unwrap();
        return sqlx::query_scalar(number).fetch_one(&mut connection).await.unwrap();
    }
    let url = format!("sqlite:{}/keyward.db", kw.folder().display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    statement.execute(&mut connection).await.unwrap();
    let number = sqlx::query_scalar(number).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    number
}

async fn refused_attempt_adds_no_change_to_feed(backend: Backend) {
    const CHANGES: &str = "select count(*) from tenant_changes where tenant_id = 'acme'";
    const REFUSED: &str =
        "select count(*) from audit_events where tenant_id = 'acme' and refused = ";
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let vic = admin.user("acme", "vic", &[]).await;
    let mut vic = admin.console(&kw).await.acting_for(&vic);
    crm.token(&kw.grpc()).await;
    // A change by hand has no event. The server sees it when it loads the client again.
    let (yes, refused) = match backend {
        Backend::Sqlite => ("1", format!("{REFUSED} 1")),
        Backend::Postgres => ("true", format!("{REFUSED} true")),
    };
    let disable = format!("update applications set disabled = {yes} where id = 'crm'");
    let changes = sql(&kw, &disable, CHANGES).await;
    assert_eq!(sql(&kw, "select 1", &refused).await, 0);

    let delete = pb::DeleteApplicationRequest { name: CRM.to_owned(), ..Default::default() };
    vic.applications.delete_application(delete).await.unwrap_err();
    assert_eq!(sql(&kw, "select 1", &refused).await, 1, "the audit log has the attempt");
    assert_eq!(sql(&kw, "select 1", CHANGES).await, changes, "the feed does not have it");
    // After a change of another application, the server reads the feed again. The cached client
    // stays.
    admin.application("acme", "erp", &["a"]).await;
    crm.token(&kw.grpc()).await;

    let display_name = "changed".to_owned();
    let application = pb::Application { name: CRM.to_owned(), display_name, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["display_name"]),
    };
    admin.applications.update_application(request).await.unwrap();
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(
        reason(&status),
        "INVALID_CLIENT",
        "a change of the application loads the client again"
    );
}
