-- Search for any part of a name with SQLite's trigram index (FTS5).

-- Each tenant gets a number, and its names get a range of numbers, so that the index skips the
-- names of other tenants.
alter table tenants add column number integer;

update tenants set number = x.number
from (select id, row_number() over (order by id) as number from tenants) x
where tenants.id = x.id;

create unique index tenants_by_number on tenants (number);

create trigger tenants_set_number after insert on tenants
begin
  update tenants set number = (select coalesce(max(number), 0) + 1 from tenants) where id = new.id;
end;

drop trigger applications_are_named;
drop trigger applications_are_renamed;
drop trigger application_names_are_taken_apart;
drop trigger application_names_are_forgotten;
drop table application_parts;

create table numbered_names (
  -- The number of the tenant in the upper 32 bits.
  number         integer not null primary key,
  tenant_id      text not null,
  application_id text not null,
  search_name    text not null,
  created_at     integer not null,
  unique (tenant_id, application_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade
) strict;

insert into numbered_names (number, tenant_id, application_id, search_name, created_at)
select (t.number << 32) + row_number() over (partition by n.tenant_id order by n.application_id),
  n.tenant_id, n.application_id, n.search_name, n.created_at
from application_names n join tenants t on t.id = n.tenant_id;

drop table application_names;
alter table numbered_names rename to application_names;

create index application_names_in_order
  on application_names (tenant_id, search_name, application_id);
create index application_names_by_creation
  on application_names (tenant_id, created_at, application_id, search_name);

-- Servers fold the names before they write them, so the index is case-sensitive.
create virtual table application_search using fts5 (
  search_name, content = 'application_names', content_rowid = 'number',
  detail = none, columnsize = 0, tokenize = 'trigram case_sensitive 1'
);

insert into application_search (application_search) values ('rebuild');

create trigger application_names_index_insert after insert on application_names
begin
  insert into application_search (rowid, search_name) values (new.number, new.search_name);
end;

create trigger application_names_index_update after update of search_name on application_names
begin
  insert into application_search (application_search, rowid, search_name)
  values ('delete', old.number, old.search_name);
  insert into application_search (rowid, search_name) values (new.number, new.search_name);
end;

create trigger application_names_index_delete after delete on application_names
begin
  insert into application_search (application_search, rowid, search_name)
  values ('delete', old.number, old.search_name);
end;

create trigger applications_insert_name after insert on applications
begin
  insert into application_names (number, tenant_id, application_id, search_name, created_at)
  select
    1 + coalesce(
      (select max(number) from application_names
        where number between t.number << 32 and (t.number << 32) + 4294967295),
      t.number << 32),
    new.tenant_id, new.id, new.search_name, new.created_at
  from tenants t where t.id = new.tenant_id;
end;

create trigger applications_update_name after update of search_name on applications
when old.search_name <> new.search_name
begin
  update application_names set search_name = new.search_name
  where tenant_id = new.tenant_id and application_id = new.id;
end;
