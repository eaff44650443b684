-- Names are searched and put in order by one folding of Unicode, which SQL does not have: servers
-- fold them when they write them. Those of rows that were written without it are folded by servers
-- as they run, and so are those that a server of the version before writes meanwhile.

-- The display name that search_name was folded from; null where it was not, or is all ASCII, of
-- which search_name has been the folding all along.
alter table applications add column folded_from text collate "C";

create index applications_to_fold on applications (tenant_id, id)
  where char_length(display_name) <> octet_length(display_name)
    and folded_from is distinct from display_name;
