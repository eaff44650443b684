-- What a client without a shared secret is recognised by: its public keys, certificate or federated
-- subject, as JSON. None of it is secret. Null for client secrets and API keys.
--
-- A server of the version before does not read it, and keeps it when it updates a row. It refuses the
-- new kinds of credentials, so create them when all servers have been replaced.

alter table credentials add column registration text;

insert into schema_compatibility (migration, oldest_program) values (20, 19);
