"""A relay as most tutorials build it: FastAPI, a WebSocket endpoint, the openai SDK's stream.

The client sends `{"content"}`; every fragment of the called function's arguments is forwarded as
`{"type": "delta", "text"}`, then `{"type": "done"}`. Neither authentication nor storage.
"""

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from openai import AsyncOpenAI

from bench.openai_wire import FUNCTION, MODEL, TOOL

app = FastAPI()
client = AsyncOpenAI()


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    """Answer one message after the other until the client leaves."""
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive_json()
            await answer(websocket, message["content"])
    except WebSocketDisconnect:
        pass


async def answer(websocket: WebSocket, content: str) -> None:
    """Stream one reply."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You are a friendly companion."},
            {"role": "user", "content": content},
        ],
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": FUNCTION}},
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if not chunk.choices:
            continue
        for call in chunk.choices[0].delta.tool_calls or []:
            if call.function and call.function.arguments:
                await websocket.send_json({"type": "delta", "text": call.function.arguments})
    await websocket.send_json({"type": "done"})


def run() -> None:
    """Serve on a free loopback port and print it."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, loop="uvloop", http="httptools", log_level="warning"
    )
    socket = config.bind_socket()
    socket.listen(config.backlog)
    print(f"listening on 127.0.0.1:{socket.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[socket])


if __name__ == "__main__":
    run()
