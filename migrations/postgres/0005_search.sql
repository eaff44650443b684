-- Search by any part of a name. Of each name, the runs of one, two and three characters that it
-- has are kept in an index: what has all runs of a search is found at once, few among many.

-- Apart from the application, whose row is written anew with each use: the index is large.
create table application_names (
  tenant_id      text collate "C" not null,
  application_id text collate "C" not null,
  search_name    text collate "C" not null,
  primary key (tenant_id, application_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade
);

-- Each run with its tenant, in hexadecimal digits.
create function application_parts(tenant text, name text) returns text[]
language sql immutable strict parallel safe
as $$
  select array_agg(encode(convert_to(tenant || '/' || substr(name, place, size), 'UTF8'), 'hex'))
  from generate_series(1, 3) as size, generate_series(1, char_length(name) + 1 - size) as place
$$;

create function name_application() returns trigger
language plpgsql
as $$
begin
  insert into application_names (tenant_id, application_id, search_name)
  values (new.tenant_id, new.id, new.search_name)
  on conflict (tenant_id, application_id) do update set search_name = excluded.search_name;
  return null;
end
$$;

create trigger applications_are_named after insert on applications
for each row execute function name_application();

create trigger applications_are_renamed after update of search_name on applications
for each row when (old.search_name <> new.search_name) execute function name_application();

insert into application_names (tenant_id, application_id, search_name)
select tenant_id, id, search_name from applications;

-- What was added last is looked through one by one, so it must stay short.
create index application_names_by_part on application_names
  using gin (application_parts(tenant_id, search_name)) with (gin_pending_list_limit = 256);

-- Some of the applications whose name has all of the parts: so many at most. Nothing but the index
-- is of use, whatever the planner makes of its statistics.
create function applications_with_parts(parts text, most bigint) returns setof text
language sql stable rows 1000
set enable_seqscan = off
set jit = off
as $$
  select application_id from application_names
  where application_parts(tenant_id, search_name) @> string_to_array(parts, ' ')
  limit most
$$;

-- For filters that leave few.
create index applications_by_end on applications (tenant_id, expires_at, id)
  where expires_at is not null;
create index applications_disabled on applications (tenant_id, id) where disabled;
create index users_disabled on users (tenant_id, id) where disabled;
