-- The role of `keyward serve` if another role owns the schema: it reads and writes rows, cannot
-- change tables, and can only append to the audit log. Run this once as the owner after `keyward
-- migrate`, and give the role a password or another way to log in:
--
--   psql "$OWNER_URL" -f deploy/postgres-server-role.sql -c '\password keyward_server'
--
-- From then on, run `keyward migrate` as the owner before a new version is started. With
-- `database.migrate = "wait"`, servers of the new version can start before it.

create role keyward_server login;

grant usage on schema public to keyward_server;
grant select, insert, update, delete on all tables in schema public to keyward_server;
alter default privileges in schema public
  grant select, insert, update, delete on tables to keyward_server;

revoke update, delete on audit_events, audit_chain from keyward_server;
-- With the setting audit.retention, the server deletes old events. Triggers refuse to delete others:
--   grant delete on audit_events, audit_chain to keyward_server;
revoke insert, update, delete on _sqlx_migrations, schema_compatibility from keyward_server;
