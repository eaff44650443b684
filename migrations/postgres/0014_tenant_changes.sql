-- The change feed of each tenant, for servers that cache resources. It is separate from the audit
-- log, so that it does not depend on refused attempts and on the retention of the log. Servers
-- delete old rows, except for the last one of each tenant.

create table tenant_changes (
  tenant_id text collate "C" not null,
  -- The number of the event in the audit log. Writers of one tenant wait for each other, so the
  -- changes of a tenant are committed in the order of their numbers.
  number    bigint not null,
  at        bigint not null,
  -- The name of the resource that changed.
  resource  text collate "C" not null,
  primary key (tenant_id, number)
);

create index tenant_changes_by_time on tenant_changes (at);

create function add_tenant_changes() returns trigger
language plpgsql
as $$
begin
  insert into tenant_changes (tenant_id, number, at, resource)
  select tenant_id, number, at, resource from new_events where not refused;
  return null;
end
$$;

-- A trigger, so that each change has a row, whichever version of the server writes the event.
create trigger audit_events_add_tenant_changes after insert on audit_events
referencing new table as new_events
for each statement execute function add_tenant_changes();
