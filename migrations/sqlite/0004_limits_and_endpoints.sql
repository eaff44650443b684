-- Limits in one column each, as the server writes them:
-- `requests=40/60 tokens=10/60 items=1000 observe_only`. Null: none of its own; empty: without
-- any limit. Credentials and whole tenants get limits too.

alter table tenants add column default_limits text;
alter table tenants add column tenant_limits text;
alter table applications add column limits text;
alter table credentials add column limits text;

-- Numbers got an upper bound that they had not.
update tenants set default_limits = trim(
    case when limit_requests > 0
      then 'requests=' || min(limit_requests, 1000000000000) || '/' || limit_window_seconds
      else '' end
    || case when limit_items > 0 then ' items=' || min(limit_items, 1000000000000) else '' end)
  where limit_window_seconds is not null;

update applications set limits = trim(
    case when limit_requests > 0
      then 'requests=' || min(limit_requests, 1000000000000) || '/' || limit_window_seconds
      else '' end
    || case when limit_items > 0 then ' items=' || min(limit_items, 1000000000000) else '' end)
  where limit_window_seconds is not null;

alter table tenants drop column limit_requests;
alter table tenants drop column limit_window_seconds;
alter table tenants drop column limit_items;
alter table applications drop column limit_requests;
alter table applications drop column limit_window_seconds;
alter table applications drop column limit_items;

-- Which scopes a request to the platform's own API needs.
create table endpoints (
  tenant_id   text not null references tenants (id) on delete cascade,
  -- `*`: any.
  method      text not null,
  path        text not null,
  -- Scopes with a space between. They may be of no catalogue any more: then nobody has them.
  all_of      text not null,
  any_of      text not null,
  -- As above.
  limits      text,
  description text not null,
  primary key (tenant_id, path, method)
) strict;
