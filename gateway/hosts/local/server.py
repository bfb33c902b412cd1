"""The local host: builds a gateway around its own sockets and serves it on one port.

Its end is a sequence with bounded waits: stop accepting; tell every client to go away; let the answers
finish; interrupt the rest, which is stored as such; close the sockets; close the storage. A second signal
ends the process at once.
"""

import asyncio
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from gateway.bootstrap.handlers import make_gateway, make_recovery
from gateway.bootstrap.local import LocalFoundation, open_foundation
from gateway.hosts.local.background import run_beside
from gateway.hosts.local.clocks import Clocks
from gateway.hosts.local.http import bounded_http
from gateway.hosts.local.limits import HostLimits
from gateway.hosts.local.run_tasks import RunTasks
from gateway.hosts.local.sockets import Sockets
from gateway.hosts.local.upgrades import Upgrades
from gateway.identity.demo_guard import LOOPBACK_NAMES
from gateway.routes.health import health_router
from gateway.routes.http_app import make_http_app
from gateway.routes.local_sign_in import demo_token_router, keys_router
from gateway.routes.page import page_router
from gateway.routes.payloads import payloads_router
from gateway.routes.tickets import tickets_router
from gateway.runs.transport import GoneError
from gateway.runs.unread import end_unread
from gateway.settings import Settings, SettingsError
from gateway.tenants.allowance import Allowance
from gateway.wire.answers import GoAway, milliseconds
from gateway.wire.errors import CloseCode
from storage import ttl
from storage.purge import purge_forever
from streaming.models.chat_model import ChatModel

HTTP_PORT = 80

INTERRUPT_S = 5.0
"""How long interrupted answers have to be stored."""

CLOSE_S = 2.0
"""How long sockets have for the closing handshake."""

log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None],
    limits: HostLimits | None = None,
    model: ChatModel | None = None,
    clock: Callable[[], float] = time.time,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`.

    Args:
        settings: what the operator wants.
        on_ready: called once with the URL of the demo page, when connections are accepted.
        limits: instead of those that the settings give.
        model: who answers, instead of the one that the settings name.
        clock: Unix time in seconds.
        stop: begins the end when it is set, as a signal does; for whoever runs this beside other work.

    Raises:
        SettingsError, UnusableDataError, LocalKeyError: it cannot start; the text is one line.
    """
    limits = limits or _limits(settings)
    aside = limits.set_aside_bytes
    commands = Allowance(burst=limits.commands_at_once, per_s=limits.commands_per_s)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        port: int = listener.getsockname()[1]
        sockets = Sockets()
        foundation = await open_foundation(
            settings,
            stack=stack,
            transport=sockets,
            own_origins=_own_origins(settings, port),
            model=model,
            clock=clock,
            allow=commands.take,
            uploads=Allowance(burst=aside, per_s=aside / ttl.UPLOAD),
            long_answers=Allowance(burst=aside, per_s=aside / ttl.DOWNLOAD_URL),
        )
        runs = RunTasks(generate=foundation.generator.generate, live=foundation.live)
        recovery = make_recovery(foundation, starter=runs)
        upgrades = Upgrades(
            gateway=make_gateway(
                foundation,
                starter=runs,
                recovery=recovery,
                new_claim=lambda: foundation.generator.new_claim() if runs.may_claim else None,
            ),
            sockets=sockets,
            limits=limits,
            commands=commands,
            ids=foundation.ids,
            proxies=frozenset(settings.trusted_proxies),
        )
        await recovery.at_start(await foundation.store.unfinished())
        run_beside(stack, Clocks(sockets=sockets, limits=limits, clock=clock).run)
        run_beside(
            stack,
            lambda: purge_forever(
                foundation.store, foundation.blobs, clock=clock, every_s=settings.purge_s
            ),
        )
        if settings.unread_run_s:
            after_s, every_s = settings.unread_run_s, limits.sweep_s
            run_beside(stack, lambda: end_unread(foundation.live, after_s=after_s, every_s=every_s))
        wind_down = WindDown(
            upgrades=upgrades,
            sockets=sockets,
            runs=runs,
            patience_s=settings.shutdown_s,
            clock=clock,
        )
        server = LocalServer(
            uvicorn.Config(
                _http_app(foundation, upgrades, port),
                http=bounded_http(limits.head_s),
                ws=upgrades.protocol,  # type: ignore[arg-type] # called like a class
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=5,
            ),
            wind_down=wind_down,
            on_started=lambda: on_ready(f"http://{_shown(settings.host)}:{port}/"),
            stop=stop or asyncio.Event(),
        )
        await server.serve(sockets=[listener])


class WindDown:
    """Ends what the sockets and runs have under way, each step within a bound.

    Args:
        upgrades: to be refused from now on.
        sockets: to be told, then closed.
        runs: to be waited for.
        patience_s: how long answers may go on, in seconds.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        upgrades: Upgrades,
        sockets: Sockets,
        runs: RunTasks,
        patience_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._upgrades = upgrades
        self._sockets = sockets
        self._runs = runs
        self._patience_s = patience_s
        self._clock = clock

    async def run(self) -> None:
        """Go through the sequence once."""
        log.info("winding down", extra={"sockets": len(self._sockets), "runs": len(self._runs)})
        self._upgrades.refuse_new()
        deadline = milliseconds(self._clock() + self._patience_s)
        notice = GoAway(reason="deploy", deadline=deadline).encode()
        for each in self._sockets:
            with suppress(GoneError):
                self._sockets.post(each.connection.connection_id, notice)
        await self._runs.drain(patience_s=self._patience_s, interrupt_s=INTERRUPT_S)
        closing = [
            asyncio.create_task(each.ws.close(CloseCode.RESTART, "restart"))
            for each in self._sockets
        ]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_S)
        for each in self._sockets:  # whose client does not answer
            each.ws.transport.abort()
        await self._upgrades.wait_closed(timeout=CLOSE_S)


class LocalServer(uvicorn.Server):
    """uvicorn with our end of life: the first signal winds down and exits 0, a second one exits now.

    Args:
        config: of uvicorn.
        wind_down: what goes between the last accepted connection and the end.
        on_started: called when connections are accepted.
        stop: begins the end when it is set.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        wind_down: WindDown,
        on_started: Callable[[], None],
        stop: asyncio.Event,
    ) -> None:
        super().__init__(config)
        self._wind_down = wind_down
        self._on_started = on_started
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections and say so."""
        await super().startup(sockets)
        self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end; at the second signal be gone."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Tell, ten times a second, whether the end shall begin."""
        self.should_exit = self.should_exit or self._stop.is_set()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wind down, then let the open HTTP requests end."""
        for server in self.servers:
            server.close()
        await self._wind_down.run()
        await super().shutdown(sockets)


def _http_app(foundation: LocalFoundation, upgrades: Upgrades, port: int) -> FastAPI:
    settings, clock = foundation.settings, foundation.clock
    routers = [
        page_router(),
        health_router(is_serving=upgrades.is_serving),
        tickets_router(admission=foundation.admission),
        payloads_router(blobs=foundation.blobs, clock=clock),
    ]
    if foundation.local_issuer is not None:
        routers.append(keys_router(issuer=foundation.local_issuer))
        if _offers_demo_tokens(settings):
            routers.append(
                demo_token_router(issuer=foundation.local_issuer, port=port, clock=clock)
            )
    return make_http_app(routers, origins=settings.allowed_origins)


def _limits(settings: Settings) -> HostLimits:
    return HostLimits(
        idle_s=settings.idle_s,
        lifetime_s=settings.lifetime_s,
        sockets=settings.sockets,
        sockets_per_user=settings.user_sockets,
        commands_per_s=settings.user_commands,
        commands_at_once=4 * settings.user_commands,
        set_aside_bytes=max(HostLimits().set_aside_bytes, 16 * settings.content_bytes),
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named, the protocol has asyncio switch off Nagle's algorithm as uvloop always does: a delta behind
    # another frame would wait for the client's delayed ACK, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as exc:
        listener.close()
        where = f"{_shown(settings.host)}:{settings.port}"
        raise SettingsError(f"cannot listen on {where}: {exc.strerror}") from None
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_origins(settings: Settings, port: int) -> frozenset[str]:
    """Return the origins of the demo page: known only where the server binds loopback."""
    if not _is_loopback(settings.host):
        return frozenset()
    suffix = "" if port == HTTP_PORT else f":{port}"
    return frozenset(f"http://{name}{suffix}" for name in LOOPBACK_NAMES)


def _offers_demo_tokens(settings: Settings) -> bool:
    """Whether nobody but this machine's own page can be asking; see `gateway.identity.demo_guard`."""
    if settings.trusted_proxies:  # behind them everybody comes from loopback
        return False
    hosts = (urlsplit(origin).hostname or "" for origin in settings.allowed_origins)
    return _is_loopback(settings.host) and all(map(_is_loopback, hosts))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
