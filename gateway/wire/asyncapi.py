"""The protocol as an AsyncAPI document, seen from the gateway: it receives commands and sends answers.

Source: AsyncAPI 3.0.0 and the WebSockets binding 0.1.0.
"""

from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import JsonSchemaValue

from gateway.wire.json_schema import members
from gateway.wire.limits import COMMAND_BYTES, MESSAGE_BYTES, SUBPROTOCOL

SCHEMA_FILE = "makoto.v1.schema.json"

ANSWERS: dict[str, tuple[str, ...]] = {
    "Hello": ("Ready",),
    "Auth": ("Notice",),
    "Send": ("Accepted", "Events", "Payload"),
    "Regenerate": ("Accepted", "Events", "Payload"),
    "Cancel": (),
    "Resume": ("Resumed", "Events", "Payload"),
    "Subscribe": ("Subscribed", "Events", "Payload"),
    "Unsubscribe": ("Unsubscribed",),
    "History": ("Page", "Payload"),
    "Sessions": ("Page", "Payload"),
    "Session": ("Page",),
    "Memories": ("Page", "Payload"),
    "Forget": ("Page",),
    "Upload": ("UploadReady",),
    "Ping": ("Pong",),
}
"""What each command brings; `error` may come instead of, or for a run after, any of these."""

Document = dict[str, Any]


def asyncapi(schema: JsonSchemaValue) -> Document:
    """Return the document; its messages refer to the definitions in `SCHEMA_FILE` beside it.

    Args:
        schema: from `gateway.wire.json_schema.protocol_schema`.
    """
    definitions = schema["$defs"]
    commands, answers = members(definitions["AnyCommand"]), members(definitions["AnyAnswer"])
    names = [*commands, *answers]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Makoto Gateway",
            "version": SUBPROTOCOL.removeprefix("makoto."),
            "description": "One WebSocket, one JWT, an answer that is never lost or doubled. "
            "PROTOCOL.md is the authority; this document and its schema are made from the server.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:{port}",
                "protocol": "ws",
                "description": "A gateway on this machine; elsewhere `wss` on the operator's host.",
                "variables": {"port": {"default": "8765"}},
                "security": _refs("securitySchemes", SECURITY),
            }
        },
        "channels": {"socket": _channel(definitions, names)},
        "operations": {
            **{_operation_id(name): _receive(name) for name in commands},
            "answer": {
                "action": "send",
                "channel": _ref("channels", "socket"),
                "summary": "Everything the gateway sends, asked for or not.",
                "messages": _channel_messages(answers),
            },
        },
        "components": {
            "messages": {name: _message(name, definitions[name]) for name in names},
            "securitySchemes": SECURITY,
        },
    }


SECURITY: Document = {
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": f"Browsers: `{SUBPROTOCOL}, bearer.<jwt>`; only `{SUBPROTOCOL}` is echoed.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Everything but browsers: `Authorization: Bearer <jwt>`.",
    },
    "ticket": {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "From `POST /v1/tickets`: good once, within 60 s.",
    },
}


def _channel(definitions: JsonSchemaValue, names: Iterable[str]) -> Document:
    return {
        "address": "/v1/ws",
        "title": "The socket",
        "description": _channel_text(definitions),
        "messages": {name: _ref("components", "messages", name) for name in names},
        "bindings": {"ws": _HANDSHAKE},
    }


_HANDSHAKE: Document = {
    "method": "GET",
    "query": {
        "type": "object",
        "properties": {"ticket": {"type": "string", "description": "A single-use ticket."}},
    },
    "headers": {
        "type": "object",
        "properties": {
            "Sec-WebSocket-Protocol": {"type": "string"},
            "Authorization": {"type": "string"},
            "Origin": {
                "type": "string",
                "description": "Has to be on the server's list if it is there.",
            },
        },
    },
    "bindingVersion": "0.1.0",
}


def _channel_text(definitions: JsonSchemaValue) -> str:
    return "\n".join(
        [
            "JSON text frames. A client sends each command as one frame of at most "
            f"{COMMAND_BYTES:,} bytes; no message is larger than {MESSAGE_BYTES:,} bytes.",
            "",
            "Close codes:",
            "",
            *_list(definitions["CloseCode"]),
            "",
            "Error codes:",
            "",
            *_list(definitions["ErrorCode"]),
        ]
    )


def _list(enumeration: JsonSchemaValue) -> list[str]:
    return [f"- `{one['const']}`: {one['description']}" for one in enumeration["oneOf"]]


def _receive(name: str) -> Document:
    socket = _ref("channels", "socket")
    return {
        "action": "receive",
        "channel": socket,
        "messages": _channel_messages([name]),
        "reply": {"channel": socket, "messages": _channel_messages([*ANSWERS[name], "Error"])},
    }


def _message(name: str, definition: JsonSchemaValue) -> Document:
    return {
        "name": definition["properties"]["type"]["const"],
        "title": name,
        "summary": definition["description"].partition("\n")[0],
        "payload": {"$ref": f"{SCHEMA_FILE}#/$defs/{name}"},
    }


def _operation_id(name: str) -> str:
    return name[0].lower() + name[1:]


def _channel_messages(names: Iterable[str]) -> list[Document]:
    return [_ref("channels", "socket", "messages", name) for name in names]


def _refs(kind: str, named: Document) -> list[Document]:
    return [_ref("components", kind, name) for name in named]


def _ref(*path: str) -> Document:
    return {"$ref": "#/" + "/".join(path)}
