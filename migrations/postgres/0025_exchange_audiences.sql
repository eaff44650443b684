-- The audiences for which an application may exchange tokens of other applications (RFC 8693),
-- separated by spaces. Empty: it may not exchange tokens.
--
-- A server of the version before does not read it, and keeps it when it updates a row. It issues no
-- exchanged tokens and refuses those of newer servers, so let applications exchange tokens when all
-- servers and verifiers have been replaced.

alter table applications add column exchange_audiences text not null default '';

insert into schema_compatibility (migration, oldest_program) values (25, 19);
