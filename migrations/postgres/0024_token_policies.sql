-- Rules of a tenant for credentials and tokens: which kinds of credentials can be created (words,
-- separated by spaces; empty: all), whether tokens must be bound, and claims that all tokens carry
-- (JSON; null: none).
--
-- A server of the version before does not know these rules, and does not apply them. So set them when
-- all servers have been replaced.

alter table tenants add column allowed_credential_kinds text not null default '';
alter table tenants add column require_bound_tokens boolean not null default false;
alter table tenants add column token_claims text;

insert into schema_compatibility (migration, oldest_program) values (24, 19);
