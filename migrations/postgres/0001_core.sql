-- Moments are microseconds since the epoch (UTC), taken from the server's clock.

create table tenants (
  id                            text collate "C" not null primary key,
  display_name                  text not null,
  default_audience              text not null,
  -- Separated by spaces, which no audience has.
  additional_audiences          text not null,
  access_token_lifetime_seconds bigint not null,
  disabled                      boolean not null,
  epoch                         bigint not null,
  revision                      bigint not null,
  created_at                    bigint not null,
  updated_at                    bigint not null
);

create table scopes (
  tenant_id   text collate "C" not null references tenants (id) on delete cascade,
  name        text collate "C" not null,
  description text not null,
  domain      text not null,
  family      text not null,
  disabled    boolean not null,
  revision    bigint not null,
  created_at  bigint not null,
  updated_at  bigint not null,
  primary key (tenant_id, name)
);

create table applications (
  tenant_id     text collate "C" not null references tenants (id) on delete cascade,
  id            text collate "C" not null,
  display_name  text not null,
  description   text not null,
  contact_email text not null,
  expires_at    bigint,
  disabled      boolean not null,
  epoch         bigint not null,
  revision      bigint not null,
  -- Names the request that made the row (AIP-155), so that its repetition is known.
  request_id    text,
  created_at    bigint not null,
  updated_at    bigint not null,
  primary key (tenant_id, id),
  unique (tenant_id, request_id)
);

create table application_scopes (
  tenant_id      text collate "C" not null,
  application_id text collate "C" not null,
  scope          text collate "C" not null,
  primary key (tenant_id, application_id, scope),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade,
  foreign key (tenant_id, scope) references scopes (tenant_id, name) on delete cascade
);

create index application_scopes_by_scope on application_scopes (tenant_id, scope, application_id);

create table credentials (
  -- The client id: unique across tenants.
  id             text collate "C" not null primary key,
  tenant_id      text collate "C" not null,
  application_id text collate "C" not null,
  kind           text not null,
  display_name   text not null,
  expires_at     bigint,
  disabled       boolean not null,
  epoch          bigint not null,
  revision       bigint not null,
  request_id     text,
  created_at     bigint not null,
  updated_at     bigint not null,
  unique (tenant_id, application_id, request_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade
);

create index credentials_by_application on credentials (tenant_id, application_id, id);

create table secrets (
  credential_id text collate "C" not null references credentials (id) on delete cascade,
  version       bigint not null,
  -- argon2id under a pepper that is not in this database; a PHC string.
  hash          text not null,
  last_four     text not null,
  created_at    bigint not null,
  expires_at    bigint,
  primary key (credential_id, version)
);

create table signing_keys (
  -- 1, 2, 3 …: of two replicas that add the next key at once, one fails.
  generation         bigint not null primary key,
  id                 text collate "C" not null unique,
  algorithm          text not null,
  -- Sealed under the master key, which is not in this database.
  sealed_private_key text not null,
  created_at         bigint not null,
  activates_at       bigint not null
);

create table revoked_tokens (
  id         text collate "C" not null primary key,
  tenant_id  text collate "C" not null references tenants (id) on delete cascade,
  revoked_at bigint not null,
  -- When the token ends by itself; the row says nothing from then on.
  expires_at bigint not null
);

create index revoked_tokens_by_end on revoked_tokens (expires_at);
