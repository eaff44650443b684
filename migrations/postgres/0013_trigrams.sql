-- Search for any part of a name with PostgreSQL's trigram index.

-- A trusted extension: a role with the privilege create on the database can create it.
create extension if not exists pg_trgm;

drop index application_names_by_part;
drop function application_parts(text, text);

-- The index has the tenant, so that a search does not read the matches of other tenants. A search
-- scans the pending list of new entries, so the list must stay short.
create index application_names_by_trigram on application_names
  using gin ((array[tenant_id]), search_name gin_trgm_ops) with (gin_pending_list_limit = 256);

-- Up to max_names names of a tenant that match a pattern. Only the index is fast enough. With some
-- statistics the planner would choose a sequential scan, so these are disabled.
create function names_like(tenant text, pattern text, max_names bigint)
returns table (application_id text, search_name text, created_at bigint)
language sql stable rows 1000
set enable_seqscan = off
set jit = off
as $$
  select n.application_id, n.search_name, n.created_at from application_names n
  where array[n.tenant_id] @> array[tenant] and n.search_name like pattern
  limit max_names
$$;

-- For servers of the previous version, which run until they are replaced. Each part is the tenant,
-- a slash and a run of characters of the search, in hexadecimal digits. The first run uses the
-- index. The names of the parameters cannot change.
create or replace function names_with_parts(parts text, most bigint)
returns table (application_id text, search_name text, created_at bigint)
language sql stable rows 1000
set enable_seqscan = off
set jit = off
as $$
  with decoded as materialized (
    select convert_from(decode(part, 'hex'), 'UTF8') as part, place
    from string_to_table(parts, ' ') with ordinality as x (part, place)
  ), runs as materialized (
    select split_part(part, '/', 1) as tenant, substr(part, strpos(part, '/') + 1) as run, place
    from decoded
  )
  select n.application_id, n.search_name, n.created_at from application_names n
  where array[n.tenant_id] @> array[(select tenant from runs where place = 1)]
    and n.search_name like
      (select '%' || regexp_replace(run, '([\\%_])', '\\\1', 'g') || '%' from runs where place = 1)
    and not exists (select 1 from runs where strpos(n.search_name, run) = 0)
  limit most
$$;
