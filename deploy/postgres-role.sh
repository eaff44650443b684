#!/bin/sh
# Creates the role and the database of Keyward. The PostgreSQL image runs this once, when its volume
# is empty. The role owns its database, so it can migrate it. It is not a superuser, so it cannot
# read other databases or files of the server, or run programs there.
#
# postgres-server-role.sql creates a role that cannot change the schema and can only append to the
# audit log. With that role, run `keyward migrate` as the owner before each new version.
set -eu
# psql reads the password from its environment, because arguments are visible to all users of the
# machine.
psql --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv password KEYWARD_DATABASE_PASSWORD
create role keyward login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
  password :'password';
create database keyward owner keyward;
revoke connect on database keyward from public;
SQL
