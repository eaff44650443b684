"""Follows keys and revocations over gRPC: connects, reads, resumes after a disconnect, renews its token.

One session is one connection with both streams. It ends when one of them does, after a silence, and before its
access token expires; the next one continues from the cursor.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from keyward.access.v1.key_pb2 import WatchJwksRequest, WatchJwksResponse
from keyward.access.v1.key_pb2_grpc import KeyServiceStub
from keyward.access.v1.revocation_pb2 import WatchRevocationsRequest, WatchRevocationsResponse
from keyward.access.v1.revocation_pb2 import Revocation as RevocationMessage
from keyward.access.v1.revocation_pb2_grpc import RevocationServiceStub
from keyward.token.v1.token_pb2 import ClientSecret, IssueTokenRequest
from keyward.token.v1.token_pb2_grpc import TokenServiceStub

from .revocations import Feed, FeedError, Revocation

LOG = logging.getLogger(__name__)
CALL_SECONDS = 5
# The server sends a message each second.
SILENCE_SECONDS = 3
MAX_PAUSE_SECONDS = 2
FORGET_EACH_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """Where Keyward is, and the credential: of an application of `system` with the scope `keyward.verify`."""

    target: str
    client_id: str
    client_secret: str
    # None: without TLS, for loopback and networks that are protected themselves.
    tls: grpc.ChannelCredentials | None


class Follower:
    def __init__(self, server: Server, feed: Feed, take_keys: Callable[[bytes], None]) -> None:
        self.server = server
        self.feed = feed
        self.take_keys = take_keys
        self.changed = threading.Condition()
        self._stopped = threading.Event()
        # The wall clock at the start and then a monotonic one: setting the clock ahead must not remove
        # revocations.
        self._started = time.time() - time.monotonic()
        self._forgot = 0.0
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="keyward-verifier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.05
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._session()
                pause = 0.0
            except grpc.RpcError as error:
                # OUT_OF_RANGE: CURSOR_TOO_OLD. INVALID_ARGUMENT: the cursor is of something else.
                if error.code() in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT):
                    self.feed.lose()
                self._note(error.code().name, error.details())
            except FeedError as error:
                self.feed.lose()
                self._note("FEED", str(error))
            except TimeoutError as error:
                self._note("SILENCE", str(error))
            if time.monotonic() - began > 10:
                pause = 0.0
            self._stopped.wait(pause * random.uniform(0.5, 1))
            pause = min(max(2 * pause, 0.05), MAX_PAUSE_SECONDS)

    def _note(self, kind: str, cause: str) -> None:
        """Logs that revocations are not followed, when it starts and when the cause changes."""
        if kind != self._trouble:
            LOG.warning("revocations are not followed: %s: %s", kind, cause)
        self._trouble = kind

    @contextmanager
    def _channel(self) -> Iterator[grpc.Channel]:
        # A channel of its own, so that each session may reach another server behind the name.
        options = [("grpc.use_local_subchannel_pool", 1)]
        target, tls = self.server.target, self.server.tls
        opened = (
            grpc.insecure_channel(target, options)
            if tls is None
            else grpc.secure_channel(target, tls, options)
        )
        with opened as channel:
            yield channel

    def _session(self) -> None:
        """Returns when the access token should be renewed."""
        with self._channel() as channel:
            asked = time.monotonic()
            token = TokenServiceStub(channel).IssueToken(
                IssueTokenRequest(
                    client_secret=ClientSecret(
                        client_id=self.server.client_id, client_secret=self.server.client_secret
                    ),
                    scopes=["keyward.verify"],
                    audiences=["keyward"],
                ),
                timeout=CALL_SECONDS,
            )
            renew_at = asked + token.expires_in.seconds * 0.8
            metadata = (("authorization", f"Bearer {token.access_token}"),)
            self.feed.begin()
            asked = time.monotonic()
            calls = [
                RevocationServiceStub(channel).WatchRevocations(
                    WatchRevocationsRequest(cursor=self.feed.cursor), metadata=metadata
                ),
                KeyServiceStub(channel).WatchJwks(WatchJwksRequest(), metadata=metadata),
            ]
            messages: queue.SimpleQueue[object] = queue.SimpleQueue()
            readers = [
                threading.Thread(target=_read, args=(call, messages), daemon=True) for call in calls
            ]
            for reader in readers:
                reader.start()
            try:
                self._follow(messages, asked, renew_at)
            finally:
                for call in calls:
                    call.cancel()
                for reader in readers:
                    reader.join()

    def _follow(self, messages: queue.SimpleQueue[object], asked: float, renew_at: float) -> None:
        # The first message is not older than its request, and no other is older than its arrival.
        has_keys, received, sent = False, asked, asked
        while (now := time.monotonic()) < renew_at and not self._stopped.is_set():
            try:
                message = messages.get(timeout=max(0.0, received + SILENCE_SECONDS - now))
            except queue.Empty:
                raise TimeoutError("the server sends no messages") from None
            now = time.monotonic()
            if now - received > SILENCE_SECONDS:
                # This process may have been suspended, and the message is as old as the pause.
                raise TimeoutError("the stream was not read for a while")
            if isinstance(message, WatchJwksResponse):
                self.take_keys(message.jwks.encode())
                has_keys = True
            elif isinstance(message, WatchRevocationsResponse):
                take(self.feed, message, sent or now)
                self._trouble = ""
                self._forget()
                received, sent = now, None
            elif isinstance(message, grpc.RpcError):
                raise message
            else:
                raise TimeoutError("the server ended a stream")
            if not has_keys and now - asked > SILENCE_SECONDS:
                raise TimeoutError("the server sends no keys")
            with self.changed:
                self.changed.notify_all()

    def _forget(self) -> None:
        now = self._started + time.monotonic()
        if now > self._forgot + FORGET_EACH_SECONDS:
            self.feed.revocations.forget(now)
            self._forgot = now


def take(feed: Feed, message: WatchRevocationsResponse, sent: float) -> None:
    """Applies a message that was sent at `sent`, on the monotonic clock, or later."""
    complete = None
    if message.HasField("staleness"):
        complete = sent - message.staleness.ToTimedelta().total_seconds()
    entries = [_revocation(entry) for entry in message.revocations]
    feed.take(entries, message.cursor, message.snapshot, complete)


def _read(call: Iterator[object], messages: queue.SimpleQueue[object]) -> None:
    try:
        for message in call:
            messages.put(message)
        messages.put(None)
    except grpc.RpcError as error:
        messages.put(error)


def _revocation(message: RevocationMessage) -> Revocation:
    kind = message.WhichOneof("revoked")
    if kind is None or message.number < 1 or not message.HasField("expire_time"):
        # A newer server revokes something that this version cannot represent.
        raise FeedError(f"revocation {message.number} is of an unknown kind")
    end = message.expire_time.seconds
    return Revocation(message.number, (kind, getattr(message, kind)), message.epoch, end)
