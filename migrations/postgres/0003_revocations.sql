-- Revocations: a list that is read from a number on, without a gap.

-- One row. Whoever adds revocations holds it until he commits, so that they appear in the order of
-- their numbers.
create table revocation_feed (
  only_row       bigint not null primary key check (only_row = 1),
  -- Names this list: a reader of another one must begin anew.
  id             text not null,
  last_number    bigint not null,
  -- Of the rows up to this one some have lapsed and are gone.
  purged_through bigint not null
);

insert into revocation_feed (only_row, id, last_number, purged_through)
values (1, replace(gen_random_uuid()::text, '-', ''), 0, 0);

-- Outlives what it is about: it refers to nothing.
create table revocations (
  number     bigint not null primary key,
  -- token, credential, application or tenant
  kind       text not null,
  -- The id of a token, the resource name of anything else.
  subject    text not null,
  -- Tokens of the subject with less than this are revoked; nought for a token.
  epoch      bigint not null,
  revoked_at bigint not null,
  -- By then every token that it is about has ended by itself.
  expires_at bigint not null
);

create index revocations_by_subject on revocations (kind, subject);
create index revocations_by_end on revocations (expires_at);

insert into revocations (number, kind, subject, epoch, revoked_at, expires_at)
select row_number() over (order by revoked_at, id), 'token', id, 0, revoked_at, expires_at
from revoked_tokens;

update revocation_feed set last_number = (select count(*) from revocations);

drop table revoked_tokens;
