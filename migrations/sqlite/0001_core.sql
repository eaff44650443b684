-- Moments are microseconds since the epoch (UTC), taken from the server's clock.

create table tenants (
  id                            text not null primary key,
  display_name                  text not null,
  default_audience              text not null,
  -- Separated by spaces, which no audience has.
  additional_audiences          text not null,
  access_token_lifetime_seconds integer not null,
  disabled                      integer not null,
  epoch                         integer not null,
  revision                      integer not null,
  created_at                    integer not null,
  updated_at                    integer not null
) strict;

create table scopes (
  tenant_id   text not null references tenants (id) on delete cascade,
  name        text not null,
  description text not null,
  domain      text not null,
  family      text not null,
  disabled    integer not null,
  revision    integer not null,
  created_at  integer not null,
  updated_at  integer not null,
  primary key (tenant_id, name)
) strict;

create table applications (
  tenant_id     text not null references tenants (id) on delete cascade,
  id            text not null,
  display_name  text not null,
  description   text not null,
  contact_email text not null,
  expires_at    integer,
  disabled      integer not null,
  epoch         integer not null,
  revision      integer not null,
  -- Names the request that made the row (AIP-155), so that its repetition is known.
  request_id    text,
  created_at    integer not null,
  updated_at    integer not null,
  primary key (tenant_id, id),
  unique (tenant_id, request_id)
) strict;

create table application_scopes (
  tenant_id      text not null,
  application_id text not null,
  scope          text not null,
  primary key (tenant_id, application_id, scope),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade,
  foreign key (tenant_id, scope) references scopes (tenant_id, name) on delete cascade
) strict;

create index application_scopes_by_scope on application_scopes (tenant_id, scope, application_id);

create table credentials (
  -- The client id: unique across tenants.
  id             text not null primary key,
  tenant_id      text not null,
  application_id text not null,
  kind           text not null,
  display_name   text not null,
  expires_at     integer,
  disabled       integer not null,
  epoch          integer not null,
  revision       integer not null,
  request_id     text,
  created_at     integer not null,
  updated_at     integer not null,
  unique (tenant_id, application_id, request_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade
) strict;

create index credentials_by_application on credentials (tenant_id, application_id, id);

create table secrets (
  credential_id text not null references credentials (id) on delete cascade,
  version       integer not null,
  -- argon2id under a pepper that is not in this database; a PHC string.
  hash          text not null,
  last_four     text not null,
  created_at    integer not null,
  expires_at    integer,
  primary key (credential_id, version)
) strict;

create table signing_keys (
  -- 1, 2, 3 …: of two replicas that add the next key at once, one fails.
  generation         integer not null primary key,
  id                 text not null unique,
  algorithm          text not null,
  -- Sealed under the master key, which is not in this database.
  sealed_private_key text not null,
  created_at         integer not null,
  activates_at       integer not null
) strict;

create table revoked_tokens (
  id         text not null primary key,
  tenant_id  text not null references tenants (id) on delete cascade,
  revoked_at integer not null,
  -- When the token ends by itself; the row says nothing from then on.
  expires_at integer not null
) strict;

create index revoked_tokens_by_end on revoked_tokens (expires_at);
