//! Keyward manages API credentials of multi-tenant platforms and exchanges them for short-lived
//! signed JWTs.
//!
//! This page is the map of the code: its modules, what always holds between them, and one request
//! and one revocation followed step by step. What Keyward is and how to run it is in `README.md`
//! and `deploy/README.md`; recipes (add a resource, a grant, a column, a metric) are in
//! `.github/CONTRIBUTING.md`. Services that verify tokens need [`verifier`] only.
//!
//! # The modules
//!
//! A module imports only from modules on lines above its own. `MAY_IMPORT` in
//! `tests/it/architecture.rs` lists which ones, and the test checks it:
//!
//! ```text
//! clock      error      proto      transport
//! domain
//! admission  certificates  incidents  jose  keys  secrets  store
//! backoff
//! redis
//! limiter    gateway    outbound   revocation
//! config     service    verifier
//! grpc       http       telemetry
//! server
//! cli
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`domain`] | types and rules: ids, scopes, grants, policies, what revokes what. [`domain::rights`] is the table of who may do what |
//! | [`error`] | the one error type, in Keyward's own terms |
//! | [`clock`] | the time, handed in |
//! | [`admission`] | budgets of what one source, and all sources together, may use: connections, first requests, memory |
//! | [`store`] | SQLite or PostgreSQL: rows in, domain values out; connections in pools by purpose |
//! | [`secrets`] | generation, form, hashing and sealing of secrets; the only source of randomness |
//! | [`certificates`] | client certificates: names, validity, the path to an authority, the rules of credentials |
//! | [`jose`] | JWTs that others signed, and the keys of the signers |
//! | [`keys`] | signing keys and their schedule; making and verifying JWTs |
//! | [`redis`](mod@redis) | one link to Redis or Valkey: one server, Sentinels or a cluster |
//! | [`limiter`] | sliding windows: arithmetic, over counters in this process or in Redis |
//! | [`gateway`] | what gateways ask: the request of a client as they describe it, and the answer as statuses and headers |
//! | [`outbound`] | documents of other hosts, within bounds: key sets of those who sign for us |
//! | [`revocation`] | the list of revocations in memory, kept up to date with the database, and its copy in Redis |
//! | [`service`] | the use cases: all business logic. The areas are below |
//! | [`grpc`], [`http`](mod@http) | the interfaces: parse, call one method of the service, convert the result |
//! | [`server`] | the composition root: listeners, connections, background tasks, shutdown; backups and `keyward doctor` |
//! | [`cli`] | the commands; those that manage talk gRPC like any client |
//! | [`config`], [`telemetry`], [`incidents`] | settings in three layers; logs, traces and metrics; what was refused, grouped for the log |
//! | `backoff` | pauses between attempts to connect |
//! | `transport` | gRPC channels and TLS of the command line and the verifier |
//! | [`verifier`] | a client for services that verify tokens themselves; the server does not import it |
//! | [`proto`] | the generated messages and stubs |
//!
//! The service has five areas, each a struct that owns only its own fields:
//!
//! | area | holds |
//! |---|---|
//! | `auth` | who calls: one file for each way to authenticate, the throttle of wrong secrets, caches of verified secrets and tokens |
//! | `tokens` | one file for each grant, with the phases that all grants share; introspect, revoke |
//! | `access` | `CheckAccess`, and the same question of gateways |
//! | `admin` | one file for each resource |
//! | `signing` | keys: schedule, rotation, JWKS |
//!
//! They share the announcements of master keys, the cache of clients, the unit of work (transaction, audit event, revocations), the
//! limits, and the count of uses. Beside them are the lists and streams that verifiers follow, and
//! the background task that adds audit events to the hash chain.
//!
//! # What always holds
//!
//! **Architecture Invariant:** [`domain`] has no I/O, no async and no clock. It is where a rule can
//! be read and tested by itself. A rule that two interfaces need is there or in [`service`], never
//! in an interface.
//!
//! **Architecture Invariant:** time comes from a [`clock::Clock`] that is handed in, and randomness
//! from [`secrets`]. `clippy.toml` forbids all other sources, so tests can move time.
//!
//! **Architecture Invariant:** nothing below the interfaces imports tonic, axum, prost or hyper,
//! except [`outbound`], which is an HTTP client. [`grpc`] and [`http`](mod@http) do not import each
//! other. Protobuf types are not the domain: fields that are wrong are found once, where messages
//! become domain values.
//!
//! **Architecture Invariant:** there is no storage trait. There are two known databases. A query is
//! written once and expanded for both drivers; errors of drivers become an [`error::Error`] in
//! [`store`] and go no further. One contract suite runs on both.
//!
//! **Architecture Invariant:** a server serves on its own schema and on that of the next release.
//! Migrations expand before they contract, queries name their columns, and the schema says which
//! programs it supports. The rules are in `migrations/README.md`, and a test checks them.
//!
//! **Architecture Invariant:** a change is one unit of work. It reads what the caller may do,
//! changes rows, writes its audit event and its revocations in one transaction, which cannot commit
//! without an event. Side effects (caches, Redis, watchers) follow the commit.
//!
//! **Architecture Invariant:** writers of one tenant wait for each other. An update of a resource
//! also names the `revision` that was read, and fails if the row has another one now. Updates of
//! many rows at once, as when applications are handed over, rely on the tenant's lock alone.
//!
//! **Architecture Invariant:** every lookup is by tenant and id. A client id alone names its
//! tenant; what a caller claims about it is not used.
//!
//! **Architecture Invariant:** the database is the truth of what is revoked. Redis passes on news
//! and counts; what it lacks or has lost proves nothing, and what it has must carry a MAC (HMAC)
//! made with a master key of this server.
//!
//! **Architecture Invariant:** nothing is written with a master key that a running server lacks.
//! Servers announce the ids of their keys in the database before they write. A server has one
//! primary key, which writes, and can have another, which only opens and verifies. A stored value
//! names its key, and is moved to another one only where it is still the value that was read.
//!
//! **Architecture Invariant:** a one-time token (a client assertion, a `DPoP` proof) is spent last, when
//! all else about its request is known to be right, and by the database alone. A database that does
//! not answer means `UNAVAILABLE`, never "used before", and never "accepted".
//!
//! **Architecture Invariant:** the list of revocations in memory never moves back by itself. A
//! database that knows less than was known confirms nothing. Without confirmation for
//! `revocations.max_staleness`, the answer is `UNAVAILABLE`, never "good".
//!
//! **Architecture Invariant:** a cache never decides alone. A cached client is used for 5 minutes at
//! most, and only while the change feed of its tenant, read a few seconds ago, has no change of it.
//! Of a verified secret the cache keeps a tag of the secret, and of a verified token a hash of the
//! token, never the secret. Neither says whether the credential is accepted now.
//!
//! **Architecture Invariant:** a secret is in the clear only in [`secrets::Secret`], which does not
//! print itself and wipes its memory. It leaves in one field of one response.
//!
//! **Architecture Invariant:** what a stranger sends costs a bounded amount of memory, time,
//! descriptors and log, and takes nothing from callers who are known. Over gRPC the caller is
//! established from the headers, before a body is read.
//!
//! **Architecture Invariant:** a one-time token of a client is spent last. It is verified first, and
//! everything else that can refuse its request comes before, so nothing but a right request uses it
//! up. What the database does not confirm is `UNAVAILABLE`, never accepted and never a replay.
//!
//! **Architecture Invariant:** no rule is for one platform. What tenants differ in is policy, roles
//! and profiles: data.
//!
//! **Architecture Invariant:** an address that a tenant names is fetched by [`outbound`] alone. It
//! checks where the name leads before it connects, and follows no redirect.
//!
//! **Architecture Invariant:** a failure is logged once, at the boundary where it is answered.
//! Secrets, tokens and bodies are logged at no level.
//!
//! # One request: a credential is exchanged for a token
//!
//! A client sends `POST /oauth2/token`, or calls `TokenService.IssueToken`.
//!
//! 1. *Connection.* [`server`] accepts it. [`admission`] gives it a place in the budget of its
//!    source, or closes it. With TLS, the handshake follows, with a deadline; the certificates of
//!    the client, whose key it proved to have, go with each request. hyper reads the connection under explicit bounds:
//!    streams, headers, windows, the time until the first request.
//! 2. *Observation.* [`telemetry`] counts the request as in progress and starts a span under the
//!    caller's `traceparent`.
//! 3. *Interface.* [`grpc`] looks the method up by its path: who may call it, how large it may be.
//!    The body takes memory from the budget while it arrives, and is checked before it is decoded.
//!    [`http`](mod@http) reads the form. Both stop after `limits.request_timeout`, or at the
//!    caller's own deadline.
//! 4. *Parse.* The interface converts the request: the proof of the client, and the scopes and
//!    audiences that it asks for. All wrong fields are reported at once.
//! 5. *Authenticate* (area `auth`). What does not have the form of a secret, checksum included, is
//!    refused at no cost. If the client is cached, current, and the secret has the tag of one that
//!    was verified before, it is the client. Otherwise: is the source's budget of wrong secrets
//!    used up? Is there a place in the queue of hashes? Sources take turns in it. Then the client
//!    is read from [`store`], Redis is asked whether another server verified this secret, and if
//!    not it is hashed (argon2id). An unknown client costs the same. After the hash the client is
//!    read again, because the hash may have waited for seconds.
//!    A client that signs an assertion instead is read by the id in it, and its keys verify the
//!    signature, without a hash. The assertion is spent in step 8. A token of the client's platform
//!    is verified with the keys of its issuer, and is not spent.
//! 6. *Known source.* The interface tells [`admission`] that a client authenticated, so its source
//!    is known for ten minutes.
//! 7. *Grant* (area `tokens`). [`domain`] decides: the scopes that the application was given, that
//!    the catalogue has enabled and that the owner's roles allow today; the audiences of the
//!    tenant; an expiry no later than that of credential and application. A scope that cannot be
//!    granted is an error, never left out.
//! 8. *Limits.* All limits that apply are asked with one call of [`limiter`]. This is the last step
//!    that can refuse, so a token that is refused for another reason is not counted; and it is
//!    before the signature, so that a refused token costs none.
//!    A one-time assertion is spent here, after the limits were asked and before the token counts,
//!    so that a refused request does not use it up.
//! 9. *Sign.* The key that [`keys`] has active now signs the claims. They include the epochs of
//!    tenant, application and credential.
//! 10. *Count.* The use is counted in memory, and written every two seconds for many credentials
//!     together. No row is written for a token.
//! 11. *Answer.* The interface converts the token, or the [`error::Error`] by its table.
//!     [`telemetry`] counts the outcome, ends the span, and writes a line of the access log if it
//!     is on.
//!
//! # One revocation: an application's tokens are revoked
//!
//! An administrator calls `TokenService.RevokeTokens` for an application on server A. Servers B and
//! C share its database; a verifier follows server B.
//!
//! 1. *Caller.* [`grpc`] establishes from the headers who calls and for which user, before it reads
//!    the body.
//! 2. *Unit of work* (area `admin`). A transaction starts on a connection that is reserved for
//!    changes. It locks the tenant and reads the user's roles. Without the permission
//!    `applications.edit` for this application the call ends here, and the refusal is an audit
//!    event.
//! 3. *Change.* The epoch of the application goes up by one. Every token carries the epoch that it
//!    was issued under, so one number revokes all older tokens and no newer one.
//! 4. *Entry.* The revocation (this application, tokens below this epoch, until the last of them
//!    has ended by itself) gets the next number in the list of revocations. Numbers have no gaps,
//!    and go up in the order of commits. The audit event is written.
//! 5. *Commit.* Entry, epoch and event are durable together, or not at all.
//! 6. *Server A refuses.* [`revocation`] applies the entry to its index in memory; cached clients
//!    of the tenant are marked as outdated. Only now the call returns: from here on server A
//!    refuses the tokens, whatever interface they come through.
//! 7. *Redis.* A task of server A writes the entry to the copy of the list in Redis, with a MAC
//!    made with the master key, and publishes how far the list goes.
//! 8. *Servers B and C* receive that message, and read what they do not have from the database.
//!    Without Redis they ask every `revocations.poll_interval` (1 s). A server that does not reach
//!    the database takes the entries from Redis.
//! 9. *Verifiers.* The streams of `WatchRevocations` on server B wake and send the entry.
//!    [`verifier`] applies it and refuses the tokens. Each second it gets a heartbeat that says how
//!    old the server's own knowledge is.
//! 10. *The bound.* A server whose list was not confirmed for 5 s answers `UNAVAILABLE`; a verifier
//!     that received nothing for `max_lag` refuses. So no token is accepted for longer than that
//!     after the call returned.
//! 11. *The end.* An hour after the entry's expiry it is purged, when both clocks, the database's
//!     and the monotonic one, say so. A revocation in force is never purged.

#![cfg_attr(
    not(feature = "server"),
    allow(dead_code, unused_imports, reason = "the verifier uses a part of each module")
)]

#[cfg(feature = "server")]
mod admission;
mod backoff;
#[cfg(feature = "server")]
mod certificates;
#[cfg(feature = "server")]
mod cli;
mod clock;
#[cfg(feature = "server")]
mod config;
mod domain;
mod error;
#[cfg(feature = "server")]
mod gateway;
#[cfg(feature = "server")]
mod grpc;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "server")]
mod incidents;
#[cfg(feature = "internals")]
pub mod internals;
mod jose;
mod keys;
#[cfg(feature = "server")]
mod limiter;
#[cfg(feature = "server")]
mod outbound;
pub mod proto;
#[cfg(feature = "server")]
mod redis;
mod revocation;
mod secrets;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;
#[cfg(feature = "server")]
mod store;
#[cfg(feature = "server")]
mod telemetry;
mod transport;
pub mod verifier;

#[cfg(feature = "server")]
pub use cli::run;
