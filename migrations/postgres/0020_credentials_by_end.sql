-- Finds credentials that expire soon, for metrics. A server of the version before keeps it up to date
-- without knowing it.
--
-- Not built concurrently, because with a pooler all migrations run in one transaction. Changes of
-- credentials wait until it is built: it has only rows with an expiry, about a second for a million.

create index credentials_by_end on credentials (expires_at)
  where expires_at is not null and not disabled;
