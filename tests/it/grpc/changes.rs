//! What changes of a tenant do to clients that were read a moment ago.

use keyward::proto::admin as pb;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::harness::{Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(refused_attempt_writes_no_change_and_touches_no_cache,);

const CRM: &str = "tenants/acme/applications/crm";

/// Runs a statement beside the server, then reads one number.
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

async fn refused_attempt_writes_no_change_and_touches_no_cache(backend: Backend) {
    const CHANGES: &str = "select count(*) from tenant_changes where tenant_id = 'acme'";
    const REFUSED: &str =
        "select count(*) from audit_events where tenant_id = 'acme' and refused = ";
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let vic = admin.user("acme", "vic", &[]).await;
    let mut vic = admin.console(&kw).await.acting_for(&vic);
    crm.token(&kw.grpc()).await;
    // By hand, which no event tells of: whoever reads the client again finds it disabled.
    let (yes, refused) = match backend {
        Backend::Sqlite => ("1", format!("{REFUSED} 1")),
        Backend::Postgres => ("true", format!("{REFUSED} true")),
    };
    let disable = format!("update applications set disabled = {yes} where id = 'crm'");
    let changes = sql(&kw, &disable, CHANGES).await;
    assert_eq!(sql(&kw, "select 1", &refused).await, 0);

    let delete = pb::DeleteApplicationRequest { name: CRM.to_owned(), ..Default::default() };
    vic.applications.delete_application(delete).await.unwrap_err();
    assert_eq!(sql(&kw, "select 1", &refused).await, 1, "the audit log has it");
    assert_eq!(sql(&kw, "select 1", CHANGES).await, changes, "the feed does not");
    // A change of another application has the feed read again, past the attempt.
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
    assert_eq!(reason(&status), "INVALID_CLIENT", "it was read again");
}
