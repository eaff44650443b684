#!/bin/sh
# Makes the role and the database of Keyward: the image of PostgreSQL runs this once, when its
# volume is empty. The role owns its database, so it can migrate it, and is no superuser: it can
# read no other database, no file of the server, and run no program there.
#
# A role that cannot change the schema and only add to the audit log is made by
# postgres-server-role.sql: then `keyward migrate` runs as the owner before each new version.
set -eu
# psql reads the password from its environment: arguments are seen by everyone on the machine.
psql --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv password KEYWARD_DATABASE_PASSWORD
create role keyward login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
  password :'password';
create database keyward owner keyward;
revoke connect on database keyward from public;
SQL
