"""`makoto page`: the demo page alone, for a gateway that runs elsewhere."""

import argparse
import asyncio
import socket

import uvicorn

from gateway.cli.failure import CommandFailedError, WrongUsageError
from gateway.cli.ports import port
from gateway.routes.http_app import make_http_app
from gateway.routes.page import Elsewhere, page_router

HOST = "127.0.0.1"
PORT = 8766


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "page",
        help="serve the demo page for a gateway elsewhere",
        description="Serve the demo page on this machine; it talks to the gateway at URL, which must "
        f"allow the page's origin (http://{HOST}:{PORT}), and asks for a token.",
    )
    parser.add_argument("--gateway", required=True, metavar="URL", help="of the socket: wss://...")
    parser.add_argument(
        "--tickets",
        metavar="URL",
        help="where the gateway sells tickets: https://.../v1/tickets. Needed on API Gateway; else "
        "the token goes into the handshake",
    )
    parser.add_argument(
        "--payloads",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="where large texts are kept, if on yet another host; may be repeated",
    )
    parser.add_argument("--port", type=port, default=PORT, help=f"0 for a free one ({PORT})")
    parser.set_defaults(carry_out=_page)


def _page(asked: argparse.Namespace) -> int:
    try:
        elsewhere = Elsewhere(
            socket_url=asked.gateway,
            tickets_url=asked.tickets,
            payload_origins=tuple(asked.payloads),
        )
    except ValueError as exc:
        raise WrongUsageError(str(exc)) from None
    try:
        listener = socket.create_server((HOST, asked.port))
    except OSError as exc:
        raise CommandFailedError(str(exc)) from None
    app = make_http_app([page_router(elsewhere)], origins=())
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning", ws="none"))
    print(f"Open http://{HOST}:{listener.getsockname()[1]}/", flush=True)
    with listener:
        asyncio.run(server.serve(sockets=[listener]))
    return 0
