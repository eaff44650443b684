-- The one row that a server writes to find out whether the database takes writes.

create table readiness (
  id         integer primary key check (id = 1),
  -- Microseconds since the epoch.
  checked_at bigint not null
);

insert into readiness (id, checked_at) values (1, 0);
