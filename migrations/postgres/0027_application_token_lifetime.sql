-- How long an application's access tokens live, if it is not as long as the tenant's; null: as long as
-- the tenant's. The shorter of the two applies.
--
-- A server of the version before does not read it, and keeps it when it updates a row. It issues
-- tokens that live as long as the tenant's, so set it when all servers have been replaced.

alter table applications add column access_token_lifetime_seconds bigint;

insert into schema_compatibility (migration, oldest_program) values (27, 19);
