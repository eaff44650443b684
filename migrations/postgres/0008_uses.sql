-- The last use of applications, apart from them: what changes all the time is a small row with two
-- indexes, and no use writes an application and all of its own anew.

-- At once, lest a server that goes on meanwhile and this wait for each other.
lock table applications in access exclusive mode;

create table application_uses (
  tenant_id         text collate "C" not null,
  application_id    text collate "C" not null,
  -- 0: never.
  last_used_at      bigint not null,
  last_used_address text
);

insert into application_uses (tenant_id, application_id, last_used_at, last_used_address)
select tenant_id, id, last_used_at, last_used_address from applications;

alter table application_uses
  add primary key (tenant_id, application_id),
  add foreign key (tenant_id, application_id) references applications (tenant_id, id)
    on delete cascade;

create index application_uses_in_order
  on application_uses (tenant_id, last_used_at, application_id);

drop index applications_by_use;
alter table applications drop column last_used_at, drop column last_used_address;

create function begin_uses() returns trigger
language plpgsql
as $$
begin
  insert into application_uses (tenant_id, application_id, last_used_at)
  values (new.tenant_id, new.id, 0);
  return null;
end
$$;

create trigger applications_begin_unused after insert on applications
for each row execute function begin_uses();
