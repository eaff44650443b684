-- Whether tokens of a credential are always bound to the client certificate of the connection
-- (RFC 8705, section 3.4).
--
-- A server of the version before does not read it, and issues tokens of the credential that are not
-- bound. Set it when all servers have been replaced.

alter table credentials add column certificate_bound_tokens boolean not null default false;

insert into schema_compatibility (migration, oldest_program) values (23, 19);
