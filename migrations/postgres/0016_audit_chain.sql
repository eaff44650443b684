-- The audit log as evidence: a hash chain for each tenant, signed heads, and retention.
--
-- Servers compute the hashes in the background, in the order of the numbers. A server of the version
-- before writes events as it always did; a trigger puts their tenant into `audit_unsealed`, and a
-- newer server adds them to the chain. Events from before this migration are added in the same way,
-- in batches. The new tables start empty, so that no index is built on the large table of events.

create table audit_chain (
  tenant_id text collate "C" not null,
  -- The number of the event.
  number    bigint not null,
  -- SHA-256 of the hash before it and the event.
  hash      bytea not null,
  -- For searches: the name of the event's resource without its last collection and id.
  parent    text collate "C" not null,
  -- For searches: the action of the event.
  action    text collate "C" not null,
  primary key (tenant_id, number)
);

create index audit_chain_by_parent on audit_chain (tenant_id, parent, number);
create index audit_chain_by_action on audit_chain (tenant_id, action, number);

-- The signed head of each chain. Refers to nothing: it outlives the tenant, as the events do.
create table audit_heads (
  tenant_id  text collate "C" not null primary key,
  number     bigint not null,
  hash       bytea not null,
  signed_at  bigint not null,
  public_key bytea not null,
  signature  bytea not null
);

-- The last event of each tenant that was deleted because of its age, signed.
create table audit_checkpoints (
  tenant_id  text collate "C" not null primary key,
  number     bigint not null,
  hash       bytea not null,
  signed_at  bigint not null,
  public_key bytea not null,
  signature  bytea not null
);

-- Tenants with events that are not in the chain yet.
create table audit_unsealed (
  tenant_id text collate "C" not null primary key,
  -- The newest event.
  number    bigint not null,
  -- The time of the oldest event that is not in the chain.
  since     bigint not null
);

create function audit_events_await_sealing() returns trigger
language plpgsql
as $$
begin
  -- The row is locked until the commit, so that no server removes it before it sees the event.
  insert into audit_unsealed (tenant_id, number, since)
  select tenant_id, max(number), min(at) from new_events group by tenant_id
  on conflict (tenant_id) do update set number = excluded.number;
  return null;
end
$$;

create trigger audit_events_await_sealing after insert on audit_events
referencing new table as new_events
for each statement execute function audit_events_await_sealing();

-- All tenants that have events. Steps from tenant to tenant in the primary key.
insert into audit_unsealed (tenant_id, number, since)
with recursive tenant (id) as (
  select (select min(tenant_id) from audit_events)
  union all
  select (select min(tenant_id) from audit_events where tenant_id > tenant.id)
  from tenant where tenant.id is not null
)
select id,
  (select number from audit_events where tenant_id = id order by number desc limit 1),
  (select at from audit_events where tenant_id = id order by number limit 1)
from tenant where id is not null
on conflict (tenant_id) do nothing;

-- Events are never changed. They are deleted only up to a checkpoint. The trigger for statements
-- stays, and no longer refuses `delete`: the trigger for rows decides.
create or replace function audit_events_stay() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    return null;
  end if;
  raise exception 'audit events cannot be changed or deleted';
end
$$;

create function audit_events_stay_until_checkpoint() returns trigger language plpgsql as $$
begin
  if exists (select 1 from audit_checkpoints
      where tenant_id = old.tenant_id and number >= old.number) then
    return old;
  end if;
  raise exception 'audit events cannot be changed or deleted';
end
$$;

create trigger audit_events_stay_until_checkpoint before delete on audit_events
for each row execute function audit_events_stay_until_checkpoint();

create trigger audit_chain_stays before update or truncate on audit_chain
for each statement execute function audit_events_stay();

create trigger audit_chain_stays_until_checkpoint before delete on audit_chain
for each row execute function audit_events_stay_until_checkpoint();
