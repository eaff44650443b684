-- Search by any part of a name. Of each name, the runs of one, two and three characters that it
-- has are kept in an index: what has all runs of a search is found at once, few among many.

create table application_names (
  -- A row's own number may change when the file is rewritten; this one does not.
  number         integer not null primary key,
  tenant_id      text not null,
  application_id text not null,
  search_name    text not null,
  unique (tenant_id, application_id),
  foreign key (tenant_id, application_id) references applications (tenant_id, id) on delete cascade
) strict;

-- Each run with its tenant, in hexadecimal digits, which no tokenizer takes apart.
create virtual table application_parts using fts5 (
  parts, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii'
);

create trigger application_names_are_taken_apart after insert on application_names
begin
  insert into application_parts (rowid, parts)
  select new.number, (
    with recursive places (place) as (
      select 1 union all select place + 1 from places where place < length(new.search_name)
    )
    select group_concat(hex(new.tenant_id || '/' || substr(new.search_name, place, column1)), ' ')
    from places, (values (1), (2), (3))
    where place + column1 <= length(new.search_name) + 1
  );
end;

create trigger application_names_are_forgotten after delete on application_names
begin
  delete from application_parts where rowid = old.number;
end;

create trigger applications_are_named after insert on applications
begin
  insert into application_names (tenant_id, application_id, search_name)
  values (new.tenant_id, new.id, new.search_name);
end;

create trigger applications_are_renamed after update of search_name on applications
when old.search_name <> new.search_name
begin
  delete from application_names where tenant_id = new.tenant_id and application_id = new.id;
  insert into application_names (tenant_id, application_id, search_name)
  values (new.tenant_id, new.id, new.search_name);
end;

insert into application_names (tenant_id, application_id, search_name)
select tenant_id, id, search_name from applications;

-- For filters that leave few.
create index applications_by_end on applications (tenant_id, expires_at, id)
  where expires_at is not null;
create index applications_disabled on applications (tenant_id, id) where disabled;
create index users_disabled on users (tenant_id, id) where disabled;
