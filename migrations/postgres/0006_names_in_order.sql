-- Names in their order, apart from the applications, and those that have the parts of a name with
-- their ids: a page of a search is chosen by what these small rows have alone.

create index application_names_in_order
  on application_names (tenant_id, search_name, application_id);

drop function applications_with_parts(text, bigint);

-- Some of the names that have all of the parts: so many at most. Nothing but the index is of use,
-- whatever the planner makes of its statistics.
create function names_with_parts(parts text, most bigint)
returns table (application_id text, search_name text)
language sql stable rows 1000
set enable_seqscan = off
set jit = off
as $$
  select n.application_id, n.search_name from application_names n
  where application_parts(n.tenant_id, n.search_name) @> string_to_array(parts, ' ')
  limit most
$$;
