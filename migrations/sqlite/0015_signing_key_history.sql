-- The life of signing keys. signing_keys has the private keys that sign or will sign; this table has
-- a row for each key that ever was, with its public key while it is published.
--
-- A server of the version before reads and writes signing_keys only. It keeps a key that disappears
-- there published for an hour, so it can run beside this version while keys are rotated. The keys
-- that it makes get their rows here from a server of this version.

create table signing_key_history (
  -- The kid.
  id                text not null primary key,
  -- Not unique: a server of the version before counts from the rows of signing_keys alone.
  generation        integer not null,
  algorithm         text not null,
  -- Sealed, so that a key that was written by others is not accepted. Null: no longer published.
  sealed_public_key text,
  created_at        integer not null,
  activates_at      integer not null,
  -- When it was withdrawn before it signed.
  retired_at        integer,
  revoked_at        integer
) strict;
