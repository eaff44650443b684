-- Users, roles, policies, the audit log and use.

create table users (
  tenant_id    text collate "C" not null references tenants (id) on delete cascade,
  id           text collate "C" not null,
  display_name text not null,
  disabled     boolean not null,
  revision     bigint not null,
  created_at   bigint not null,
  updated_at   bigint not null,
  primary key (tenant_id, id)
);

create table roles (
  tenant_id    text collate "C" not null references tenants (id) on delete cascade,
  id           text collate "C" not null,
  display_name text not null,
  description  text not null,
  -- Separated by spaces, which no permission has.
  permissions  text not null,
  all_scopes   boolean not null,
  revision     bigint not null,
  created_at   bigint not null,
  updated_at   bigint not null,
  primary key (tenant_id, id)
);

create table role_scopes (
  tenant_id text collate "C" not null,
  role_id   text collate "C" not null,
  scope     text collate "C" not null,
  primary key (tenant_id, role_id, scope),
  foreign key (tenant_id, role_id) references roles (tenant_id, id) on delete cascade,
  foreign key (tenant_id, scope) references scopes (tenant_id, name) on delete cascade
);

create index role_scopes_by_scope on role_scopes (tenant_id, scope, role_id);

create table user_roles (
  tenant_id text collate "C" not null,
  user_id   text collate "C" not null,
  role_id   text collate "C" not null,
  primary key (tenant_id, user_id, role_id),
  foreign key (tenant_id, user_id) references users (tenant_id, id) on delete cascade,
  foreign key (tenant_id, role_id) references roles (tenant_id, id) on delete cascade
);

create index user_roles_by_role on user_roles (tenant_id, role_id, user_id);

create table application_roles (
  tenant_id      text collate "C" not null,
  application_id text collate "C" not null,
  role_id        text collate "C" not null,
  primary key (tenant_id, application_id, role_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade,
  foreign key (tenant_id, role_id) references roles (tenant_id, id) on delete cascade
);

create index application_roles_by_role on application_roles (tenant_id, role_id, application_id);

-- Who owns it: a user of the tenant, or the account (null). SQLite adds no foreign key to a
-- table that is there: that the user exists is seen to when he is deleted.
alter table applications add column owner_user_id text collate "C";
alter table applications add column protected boolean not null default false;
alter table applications add column limit_requests bigint;
-- Null: no limits of its own.
alter table applications add column limit_window_seconds bigint;
alter table applications add column limit_items bigint;
-- The display name in lower case, for search and order; the server writes it.
alter table applications add column search_name text collate "C" not null default '';
-- Nought: never.
alter table applications add column last_used_at bigint not null default 0;
alter table applications add column last_used_address text;

update applications set search_name = lower(display_name);

create index applications_by_owner on applications (tenant_id, owner_user_id, id);
create index applications_by_name on applications (tenant_id, search_name, id);
create index applications_by_creation on applications (tenant_id, created_at, id);
create index applications_by_use on applications (tenant_id, last_used_at, id);

alter table credentials add column last_used_at bigint not null default 0;
alter table credentials add column last_used_address text;

create index credentials_by_tenant on credentials (tenant_id, id);

-- Sealed under the master key, which is not in this database.
alter table secrets add column sealed text;

alter table scopes add column display_name text not null default '';

alter table tenants add column api_credentials_disabled boolean not null default false;
alter table tenants add column max_credentials bigint;
-- Words with a space between.
alter table tenants add column allowed_owners text not null default '';
alter table tenants add column secrets_viewable boolean not null default false;
alter table tenants add column fixed_fields text not null default '';
alter table tenants add column max_credential_lifetime_seconds bigint;
alter table tenants add column limit_requests bigint;
alter table tenants add column limit_window_seconds bigint;
alter table tenants add column limit_items bigint;
alter table tenants add column user_deletion text not null default 'refuse';

-- How often a credential was used, by day. Outlives the credential, not the application.
create table usage_days (
  tenant_id      text collate "C" not null,
  application_id text collate "C" not null,
  credential_id  text collate "C" not null,
  -- As 2026-11-22, UTC.
  day            text collate "C" not null,
  exchanges      bigint not null,
  checks         bigint not null,
  primary key (tenant_id, application_id, day, credential_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade
);

-- Outlives what it tells of, the tenant included: it refers to nothing.
create table audit_events (
  tenant_id      text collate "C" not null,
  -- 1, 2, 3 … in each tenant, without gaps.
  number         bigint not null,
  at             bigint not null,
  service        text collate "C" not null,
  user_name      text collate "C",
  source_address text,
  action         text collate "C" not null,
  resource       text collate "C" not null,
  refused        boolean not null,
  detail         text not null,
  -- A JSON array of field, before, after.
  changes        text not null,
  primary key (tenant_id, number)
);

create index audit_events_by_resource on audit_events (tenant_id, resource, number);
create index audit_events_by_service on audit_events (tenant_id, service, number);
create index audit_events_by_user on audit_events (tenant_id, user_name, number);

-- What happened stays as it was told.
create function audit_events_stay() returns trigger language plpgsql as
$$ begin raise exception 'audit events cannot be changed or deleted'; end $$;

create trigger audit_events_stay before update or delete or truncate on audit_events
  for each statement execute function audit_events_stay();
