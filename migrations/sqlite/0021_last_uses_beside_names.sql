-- The last use of an application beside its name, so that a search in the order of last use need not
-- look each match up in application_uses.
--
-- Triggers copy each use, so a server of the version before keeps the copies right without knowing
-- them. What was used before is copied by the servers in batches. Until then it is null, and the
-- search looks it up.

alter table application_names add column last_used_at integer;

drop trigger applications_insert_name;
create trigger applications_insert_name after insert on applications
begin
  insert into application_names (
    number, tenant_id, application_id, search_name, created_at, last_used_at
  )
  select
    1 + coalesce(
      (select max(number) from application_names
        where number between t.number << 32 and (t.number << 32) + 4294967295),
      t.number << 32),
    new.tenant_id, new.id, new.search_name, new.created_at, 0
  from tenants t where t.id = new.tenant_id;
end;

create trigger application_uses_copy_to_names after update of last_used_at on application_uses
begin
  update application_names set last_used_at = new.last_used_at
  where tenant_id = new.tenant_id and application_id = new.application_id;
end;

-- How far servers have copied what was used before: up to this application, in the order of tenants
-- and ids.
create table copied_last_uses (
  only_row       integer not null primary key check (only_row = 1),
  tenant_id      text not null,
  application_id text not null,
  finished       integer not null
) strict;

insert into copied_last_uses (only_row, tenant_id, application_id, finished)
values (1, '', '', 0);

insert into schema_compatibility (migration, oldest_program) values (21, 19);
