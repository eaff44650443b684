-- The change feed of each tenant, for servers that cache resources. It is separate from the audit
-- log, so that it does not depend on refused attempts and on the retention of the log. Servers
-- delete old rows, except for the last one of each tenant.

create table tenant_changes (
  tenant_id text not null,
  -- The number of the event in the audit log. Writers of one tenant wait for each other, so the
  -- changes of a tenant are committed in the order of their numbers.
  number    integer not null,
  at        integer not null,
  -- The name of the resource that changed.
  resource  text not null,
  primary key (tenant_id, number)
) strict, without rowid;

create index tenant_changes_by_time on tenant_changes (at);

-- A trigger, so that each change has a row, whichever version of the server writes the event.
create trigger audit_events_add_tenant_changes after insert on audit_events
when not new.refused
begin
  insert into tenant_changes (tenant_id, number, at, resource)
  values (new.tenant_id, new.number, new.at, new.resource);
end;
