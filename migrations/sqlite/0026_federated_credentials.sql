-- Finds the credentials of the kind `federated` that may accept a token, by its issuer and subject, when
-- it is presented without a client id: as the subject_token of an exchange.
--
-- A server of the version before cannot create such credentials, and does not know this table. If it
-- deletes one, the row is deleted too.

create table federated_credentials (
  credential_id text not null primary key references credentials (id) on delete cascade,
  tenant_id     text not null,
  -- SHA-256 of issuer and subject, in base64url. The subject is empty if only claims decide.
  subject_key   text not null
) strict, without rowid;

create index federated_credentials_by_subject on federated_credentials (tenant_id, subject_key);

insert into schema_compatibility (migration, oldest_program) values (26, 19);
