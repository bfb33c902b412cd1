// The same relay on Node: `ws` for the socket, fetch for the provider's event stream.
// The client sends {"content"}; every fragment of the called function's arguments is forwarded
// as {"type": "delta", "text"}, then {"type": "done"}. Neither authentication nor storage.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const { OPENAI_BASE_URL, OPENAI_API_KEY } = process.env;
const { model, tool } = JSON.parse(readFileSync(new URL("../request.json", import.meta.url), "utf8"));

async function openStream(content) {
  const response = await fetch(`${OPENAI_BASE_URL}/chat/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${OPENAI_API_KEY}` },
    body: JSON.stringify({
      model,
      messages: [
        { role: "system", content: "You are a friendly companion." },
        { role: "user", content },
      ],
      tools: [tool],
      tool_choice: { type: "function", function: { name: tool.function.name } },
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok) throw new Error(`the provider answered ${response.status}`);
  return response.body;
}

async function* dataLines(body) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

async function answer(socket, content) {
  for await (const data of dataLines(await openStream(content))) {
    if (data === "[DONE]") continue; // read to the end, so that the connection can be used again
    for (const call of JSON.parse(data).choices[0]?.delta.tool_calls ?? []) {
      const text = call.function?.arguments;
      if (text) socket.send(JSON.stringify({ type: "delta", text }));
    }
  }
  socket.send(JSON.stringify({ type: "done" }));
}

const server = createServer();
const sockets = new WebSocketServer({ server, path: "/ws" });

sockets.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", async (message) => {
    try {
      await answer(socket, JSON.parse(message).content);
    } catch (error) {
      socket.send(JSON.stringify({ type: "error", message: String(error) }));
    }
  });
});

server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
