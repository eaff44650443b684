-- Names in the order of creation too: a page of a search in that order is chosen by the same small
-- rows alone.

-- Made once for all at the end, which is faster than row by row.
drop index application_names_by_part;

alter table application_names add column created_at bigint;

update application_names n set created_at = a.created_at from applications a
where a.tenant_id = n.tenant_id and a.id = n.application_id;

alter table application_names alter column created_at set not null;

create or replace function name_application() returns trigger
language plpgsql
as $$
begin
  insert into application_names (tenant_id, application_id, search_name, created_at)
  values (new.tenant_id, new.id, new.search_name, new.created_at)
  on conflict (tenant_id, application_id) do update set search_name = excluded.search_name;
  return null;
end
$$;

create index application_names_by_creation
  on application_names (tenant_id, created_at, application_id, search_name);

create index application_names_by_part on application_names
  using gin (application_parts(tenant_id, search_name)) with (gin_pending_list_limit = 256);

drop function names_with_parts(text, bigint);

-- Some of the names that have all of the parts: so many at most. Nothing but the index is of use,
-- whatever the planner makes of its statistics.
create function names_with_parts(parts text, most bigint)
returns table (application_id text, search_name text, created_at bigint)
language sql stable rows 1000
set enable_seqscan = off
set jit = off
as $$
  select n.application_id, n.search_name, n.created_at from application_names n
  where application_parts(n.tenant_id, n.search_name) @> string_to_array(parts, ' ')
  limit most
$$;
