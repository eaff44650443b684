-- Whether it was the platform, acting for no user, that disabled something: then no user enables it.
-- Where `disabled` is not set this says nothing: a server of the version before leaves it.

alter table applications add column disabled_by_platform boolean not null default false;
alter table credentials add column disabled_by_platform boolean not null default false;
alter table scopes add column disabled_by_platform boolean not null default false;
alter table users add column disabled_by_platform boolean not null default false;
alter table tenants add column api_credentials_disabled_by_platform boolean not null default false;

-- Of what is disabled already, the audit log says who did it last.

update applications set disabled_by_platform = true
  where disabled = true and (select e.user_name is null from audit_events e
    where e.tenant_id = applications.tenant_id
      and e.resource = 'tenants/' || applications.tenant_id || '/applications/' || applications.id
      and e.refused = false
      and (e.changes like '%{"field":"disabled","before":"false","after":"true"}%'
        or e.changes like '%{"field":"disabled","before":null,"after":"true"}%')
    order by e.number desc limit 1) = true;

update credentials set disabled_by_platform = true
  where disabled = true and (select e.user_name is null from audit_events e
    where e.tenant_id = credentials.tenant_id
      and e.resource = 'tenants/' || credentials.tenant_id || '/applications/' || credentials.application_id || '/credentials/' || credentials.id
      and e.refused = false
      and (e.changes like '%{"field":"disabled","before":"false","after":"true"}%'
        or e.changes like '%{"field":"disabled","before":null,"after":"true"}%')
    order by e.number desc limit 1) = true;

update scopes set disabled_by_platform = true
  where disabled = true and (select e.user_name is null from audit_events e
    where e.tenant_id = scopes.tenant_id
      and e.resource = 'tenants/' || scopes.tenant_id || '/scopes/' || scopes.name
      and e.refused = false
      and (e.changes like '%{"field":"disabled","before":"false","after":"true"}%'
        or e.changes like '%{"field":"disabled","before":null,"after":"true"}%')
    order by e.number desc limit 1) = true;

update users set disabled_by_platform = true
  where disabled = true and (select e.user_name is null from audit_events e
    where e.tenant_id = users.tenant_id
      and e.resource = 'tenants/' || users.tenant_id || '/users/' || users.id
      and e.refused = false
      and (e.changes like '%{"field":"disabled","before":"false","after":"true"}%'
        or e.changes like '%{"field":"disabled","before":null,"after":"true"}%')
    order by e.number desc limit 1) = true;

update tenants set api_credentials_disabled_by_platform = true
  where api_credentials_disabled = true and (select e.user_name is null from audit_events e
    where e.tenant_id = tenants.id
      and e.resource = 'tenants/' || tenants.id
      and e.refused = false
      and (e.changes like '%{"field":"policy.api_credentials_disabled","before":"false","after":"true"}%'
        or e.changes like '%{"field":"policy.api_credentials_disabled","before":null,"after":"true"}%')
    order by e.number desc limit 1) = true;
