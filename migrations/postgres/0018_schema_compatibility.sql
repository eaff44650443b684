-- Which versions of Keyward can use the schema. A server that finds migrations that it does not know
-- reads here whether it can serve on them. Each later migration adds its own row.
--
-- A server of the version before does not know this table. It refuses any migration that it does not
-- know when it starts, and goes on if it runs already.

create table schema_compatibility (
  -- The number of a migration.
  migration      bigint not null primary key,
  -- A keyward that does not know this migration, either, cannot use the schema.
  oldest_program bigint not null
);

insert into schema_compatibility (migration, oldest_program) values (18, 16);
