-- Finds credentials that expire soon, for metrics. A server of the version before keeps it up to date
-- without knowing it.

create index credentials_by_end on credentials (expires_at)
  where expires_at is not null and not disabled;

insert into schema_compatibility (migration, oldest_program) values (19, 16);
