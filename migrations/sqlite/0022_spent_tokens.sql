-- The one-time tokens that were accepted: client assertions, subject tokens and DPoP proofs. A row stays
-- until its token would no longer be accepted, so that each is accepted once by all servers together.
--
-- A server of the version before accepts no such tokens, and does not know this table.

create table spent_tokens (
  -- SHA-256 of the purpose, who made the token, and its id.
  key        blob not null primary key,
  expires_at integer not null
) strict, without rowid;

create index spent_tokens_by_end on spent_tokens (expires_at);

insert into schema_compatibility (migration, oldest_program) values (22, 16);
