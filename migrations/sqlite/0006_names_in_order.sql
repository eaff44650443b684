-- Names in their order, apart from the applications: a page of a search is chosen by what these
-- small rows have alone.

create index application_names_in_order
  on application_names (tenant_id, search_name, application_id);
