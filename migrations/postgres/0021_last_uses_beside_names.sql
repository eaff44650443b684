-- The last use of an application beside its name, so that a search in the order of last use need not
-- look each match up in application_uses.
--
-- Triggers copy each use, so a server of the version before keeps the copies right without knowing
-- them. What was used before is copied by the servers in batches. Until then it is null, and the
-- search looks it up.

alter table application_names add column last_used_at bigint;

-- A use changes this column alone. No index has it, not even in a condition, so PostgreSQL adds no
-- entry to any index if the page of the row has room (a HOT update).
alter table application_names set (fillfactor = 90);

create or replace function name_application() returns trigger
language plpgsql
as $$
begin
  insert into application_names (tenant_id, application_id, search_name, created_at, last_used_at)
  values (new.tenant_id, new.id, new.search_name, new.created_at, 0)
  on conflict (tenant_id, application_id) do update set search_name = excluded.search_name;
  return null;
end
$$;

-- The transaction of a use holds the lock of its tenant, so it must not wait long for a lock here. The
-- server writes uses that failed again.
create function copy_last_uses() returns trigger
language plpgsql
set lock_timeout = '500ms'
as $$
begin
  update application_names n set last_used_at = u.last_used_at
  from used u
  where n.tenant_id = u.tenant_id and n.application_id = u.application_id
    and n.last_used_at is distinct from u.last_used_at;
  return null;
end
$$;

-- Once for each statement, because servers write many uses in one.
create trigger application_uses_copy_to_names after update on application_uses
referencing new table as used for each statement execute function copy_last_uses();

-- As names_like, which servers of the version before use.
create function names_and_uses_like(tenant text, pattern text, max_names bigint)
returns table (application_id text, search_name text, created_at bigint, last_used_at bigint)
language sql stable rows 1000
set enable_seqscan = off
set jit = off
as $$
  select n.application_id, n.search_name, n.created_at, n.last_used_at from application_names n
  where array[n.tenant_id] @> array[tenant] and n.search_name like pattern
  limit max_names
$$;

-- How far servers have copied what was used before: up to this application, in the order of the
-- primary key. An index of the rows that are still null would prevent HOT updates.
create table copied_last_uses (
  only_row       bigint not null primary key check (only_row = 1),
  tenant_id      text collate "C" not null,
  application_id text collate "C" not null,
  finished       boolean not null
);

insert into copied_last_uses (only_row, tenant_id, application_id, finished)
values (1, '', '', false);

insert into schema_compatibility (migration, oldest_program) values (21, 19);
