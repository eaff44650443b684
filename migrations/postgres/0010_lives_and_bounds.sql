-- Names are used again: which bearer of a name something belongs to. And limits that are bounded.

-- The number of the tenant's first event in the audit log, which goes on under its name: events
-- before it are of other tenants.
alter table tenants add column life bigint not null default 1;

update tenants set life = coalesce(
  (select max(number) from audit_events
    where tenant_id = tenants.id and resource = 'tenants/' || tenants.id
      and action = 'CreateTenant' and not refused),
  1);

-- By the database, so that a server of an older version begins lives too. After the insert: until
-- then it may have waited for a transaction that deletes a tenant of the same name. The event of
-- the creation follows in the same transaction.
create function begin_life_of_tenant() returns trigger
language plpgsql
as $$
begin
  update tenants
    set life = (select coalesce(max(number), 0) + 1 from audit_events where tenant_id = new.id)
    where id = new.id;
  return null;
end
$$;

create trigger tenants_begin_a_life after insert on tenants
for each row execute function begin_life_of_tenant();

-- The number of the event that ended the application of the same name before; 0: there was none,
-- or both were there before this column was.
alter table applications add column life bigint not null default 0;

create function begin_life_of_application() returns trigger
language plpgsql
as $$
declare
  ended bigint;
begin
  select max(number) into ended from audit_events
    where tenant_id = new.tenant_id and action = 'DeleteApplication' and not refused
      and resource = 'tenants/' || new.tenant_id || '/applications/' || new.id;
  if ended is not null then
    update applications set life = ended where tenant_id = new.tenant_id and id = new.id;
  end if;
  return null;
end
$$;

create trigger applications_begin_a_life after insert on applications
for each row execute function begin_life_of_application();

-- The most that any application can have, as default_limits is written.
alter table tenants add column max_limits text;

-- Whether an application's own limits may go beyond default_limits.
alter table applications add column limits_lifted boolean not null default false;

-- What the platform gave stays as it is. What a user gave narrows the default and lifts nothing.
update applications set limits_lifted = true
where limits is not null and coalesce(
  (select user_name is null from audit_events
    where tenant_id = applications.tenant_id and not refused
      and resource = 'tenants/' || applications.tenant_id || '/applications/' || applications.id
      and changes like '%"field":"limits"%'
    order by number desc limit 1),
  true);

-- What limits have counted, where one server counts alone on SQLite: it outlives a restart.
create table counted_windows (
  name    text collate "C" not null primary key,
  -- Microseconds, as all times here.
  length  bigint not null,
  newest  bigint not null,
  -- From then on the row says nothing.
  ends_at bigint not null,
  -- A JSON array of parts of the window and what they hold.
  parts   text not null
);

create index counted_windows_by_end on counted_windows (ends_at);
