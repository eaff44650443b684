-- Names in the order of creation too: a page of a search in that order is chosen by the same small
-- rows alone.

alter table application_names add column created_at integer not null default 0;

update application_names set created_at = (
  select a.created_at from applications a
  where a.tenant_id = application_names.tenant_id and a.id = application_names.application_id
);

drop trigger applications_are_named;
create trigger applications_are_named after insert on applications
begin
  insert into application_names (tenant_id, application_id, search_name, created_at)
  values (new.tenant_id, new.id, new.search_name, new.created_at);
end;

drop trigger applications_are_renamed;
create trigger applications_are_renamed after update of search_name on applications
when old.search_name <> new.search_name
begin
  delete from application_names where tenant_id = new.tenant_id and application_id = new.id;
  insert into application_names (tenant_id, application_id, search_name, created_at)
  values (new.tenant_id, new.id, new.search_name, new.created_at);
end;

create index application_names_by_creation
  on application_names (tenant_id, created_at, application_id, search_name);
