// The memories of a conversation's answers: read once, from the newest back.
import assert from "node:assert/strict";
import { test } from "node:test";

import { NotedMemories } from "../../../gateway/web/page/memories.js";

/** A client with memories of these times, newest first, two on a page; it notes what it is asked. */
function clientWith(times) {
  const items = times.map((time) => ({ message_id: `m${Math.floor(time / 10)}`, value: `${time}`, created_at: time }));
  const asked = [];
  return {
    asked,
    async memories({ before = "0" }) {
      asked.push(before);
      const end = Number(before) + 2;
      return { items: items.slice(Number(before), end), next: end < items.length ? `${end}` : undefined };
    },
  };
}

const valuesOf = (noted, id) => noted.get(id)?.map((item) => item.value);

test("as far back as is asked for, and on from there", async () => {
  const client = clientWith([51, 50, 41, 40, 31, 30]);
  const noted = new NotedMemories(client);
  assert.deepEqual(valuesOf(await noted.since(50), "m5"), ["50", "51"]);
  assert.deepEqual(client.asked, ["0", "2"]);
  assert.deepEqual(valuesOf(await noted.since(45), "m4"), ["40", "41"]);
  assert.deepEqual(client.asked, ["0", "2"]);
  const [one, other] = await Promise.all([noted.since(10), noted.since(10)]);
  assert.deepEqual([valuesOf(one, "m3"), valuesOf(other, "m3")], [["30", "31"], ["30", "31"]]);
  assert.deepEqual(client.asked, ["0", "2", "4"]);
});

test("a page that cannot be read is read by the next who asks", async () => {
  const client = clientWith([50]);
  const read = client.memories;
  client.memories = async () => { throw new Error("no connection"); };
  const noted = new NotedMemories(client);
  assert.equal((await noted.since(50)).size, 0);
  client.memories = read;
  assert.equal((await noted.since(50)).size, 1);
});

test("nobody's memories are none", async () => {
  const client = clientWith([]);
  const noted = new NotedMemories(client);
  await noted.since(1);
  await noted.since(1);
  assert.deepEqual(client.asked, ["0"]);
});
