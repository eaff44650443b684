-- The master keys that each running server holds, so that nothing is written under a key that another
-- server lacks. A server writes its row every few seconds, deletes it when it stops, and ignores rows
-- that are older than half a minute.
--
-- A server of the version before writes no row: update all servers before the master key is changed.

create table server_keys (
  -- Random, of one run of a server.
  id             text collate "C" not null primary key,
  -- The host and the address of the gRPC listener, for people.
  name           text not null,
  -- The id of the master key that the server writes with.
  primary_key    text collate "C" not null,
  -- The id of another key that it opens with. Null: none.
  additional_key text collate "C",
  seen_at        bigint not null
);
