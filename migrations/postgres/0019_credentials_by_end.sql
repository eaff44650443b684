-- Finds credentials that expire soon, for metrics. A server of the version before keeps it up to date
-- without knowing it.
--
-- Not built concurrently, so that it can be built through a pooler. Changes of credentials wait until
-- it is built: about a second for a million credentials with an expiry.

-- small table: it has only credentials with an expiry
create index credentials_by_end on credentials (expires_at)
  where expires_at is not null and not disabled;

insert into schema_compatibility (migration, oldest_program) values (19, 16);
