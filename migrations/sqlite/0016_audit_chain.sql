-- The audit log as evidence: a hash chain for each tenant, signed heads, and retention.
--
-- Servers compute the hashes in the background, in the order of the numbers. A server of the version
-- before writes events as it always did; a trigger puts their tenant into `audit_unsealed`, and a
-- newer server adds them to the chain. Events from before this migration are added in the same way,
-- in batches. The new tables start empty, so that no index is built on the large table of events.

create table audit_chain (
  tenant_id text not null,
  -- The number of the event.
  number    integer not null,
  -- SHA-256 of the hash before it and the event.
  hash      blob not null,
  -- For searches: the name of the event's resource without its last collection and id.
  parent    text not null,
  -- For searches: the action of the event.
  action    text not null,
  primary key (tenant_id, number)
) strict, without rowid;

create index audit_chain_by_parent on audit_chain (tenant_id, parent, number);
create index audit_chain_by_action on audit_chain (tenant_id, action, number);

-- The signed head of each chain. Refers to nothing: it outlives the tenant, as the events do.
create table audit_heads (
  tenant_id  text not null primary key,
  number     integer not null,
  hash       blob not null,
  signed_at  integer not null,
  public_key blob not null,
  signature  blob not null
) strict, without rowid;

-- The last event of each tenant that was deleted because of its age, signed.
create table audit_checkpoints (
  tenant_id  text not null primary key,
  number     integer not null,
  hash       blob not null,
  signed_at  integer not null,
  public_key blob not null,
  signature  blob not null
) strict, without rowid;

-- Tenants with events that are not in the chain yet.
create table audit_unsealed (
  tenant_id text not null primary key,
  -- The newest event.
  number    integer not null,
  -- The time of the oldest event that is not in the chain.
  since     integer not null
) strict, without rowid;

create trigger audit_events_await_sealing after insert on audit_events
begin
  insert into audit_unsealed (tenant_id, number, since)
  values (new.tenant_id, new.number, new.at)
  on conflict (tenant_id) do update set number = excluded.number;
end;

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
from tenant where id is not null;

-- Events are never changed. They are deleted only up to a checkpoint.
drop trigger audit_events_are_not_deleted;

create trigger audit_events_are_not_deleted before delete on audit_events
when not exists (select 1 from audit_checkpoints
  where tenant_id = old.tenant_id and number >= old.number)
begin select raise(abort, 'audit events cannot be changed or deleted'); end;

create trigger audit_chain_is_not_changed before update on audit_chain
begin select raise(abort, 'audit events cannot be changed or deleted'); end;

create trigger audit_chain_is_not_deleted before delete on audit_chain
when not exists (select 1 from audit_checkpoints
  where tenant_id = old.tenant_id and number >= old.number)
begin select raise(abort, 'audit events cannot be changed or deleted'); end;
