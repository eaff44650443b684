-- What changed in each tenant, for servers that keep what they read: apart from the audit log, so
-- that neither its refused attempts nor how long it is kept matter to them. Old rows are deleted,
-- all but the last one of a tenant.

create table tenant_changes (
  tenant_id text collate "C" not null,
  -- That of the event in the audit log. Writers of one tenant wait for each other, so these are
  -- committed in their order.
  number    bigint not null,
  at        bigint not null,
  -- What changed.
  resource  text collate "C" not null,
  primary key (tenant_id, number)
);

create index tenant_changes_by_time on tenant_changes (at);

create function tell_of_changes() returns trigger
language plpgsql
as $$
begin
  insert into tenant_changes (tenant_id, number, at, resource)
  select tenant_id, number, at, resource from added where not refused;
  return null;
end
$$;

-- By the database, so that no change is without its row, whichever version of a server writes it.
create trigger audit_events_tell_of_changes after insert on audit_events
referencing new table as added
for each statement execute function tell_of_changes();
