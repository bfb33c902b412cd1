// The declarations are written by hand; here they are held against the module and the generated wire types.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as module from "../../../gateway/web/makoto.js";

const read = (name) => readFileSync(new URL(`../../../gateway/web/${name}`, import.meta.url), "utf-8");
const declarations = read("makoto.d.ts");
const source = read("makoto.js");

const bodyOf = (name) => new RegExp(`declare class ${name} [^{]*\\{(.*?)\\n\\}`, "s").exec(declarations)[1];
const declared = (name) => [...bodyOf(name).matchAll(/^ {2}(?:readonly )?(\w+)[(<:]/gm)].map(([, member]) => member);

test("every export is declared, and nothing else", () => {
  const names = [...declarations.matchAll(/^export declare (?:class|const) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(names.sort(), Object.keys(module).sort());
});

test("every wire type that is used exists", () => {
  const [, used] = /import type \{(.*?)\} from "\.\/wire\.js"/s.exec(declarations);
  const existing = [...read("wire.d.ts").matchAll(/^export (?:interface|type) (\w+)/gm)].map(([, name]) => name);
  for (const name of used.split(",").map((part) => part.trim()).filter(Boolean)) {
    assert.ok(existing.includes(name), name);
  }
});

for (const name of ["MakotoClient", "RunAssembly", "MakotoError"]) {
  test(`the methods of ${name} are declared`, () => {
    const methods = Object.getOwnPropertyNames(module[name].prototype).filter((method) => method !== "constructor");
    for (const method of methods) assert.ok(declared(name).includes(method) || name === "MakotoError", method);
  });
}

test("what a caller may leave out may be undefined, too", () => {
  const given = [...declarations.matchAll(/^export interface (?:MakotoClientOptions|Message|Paging) \{.*?\n\}/gms)];
  assert.equal(given.length, 3);
  const optional = given.flatMap(([text]) => [...text.matchAll(/^ {2}(\w+)\?: (.*?);$/gms)])
    .filter(([, , type]) => !type.startsWith("{"))
    .concat([...declarations.matchAll(/\{ (\w+)\?: ([^;}]*) \}/g)]);
  assert.ok(optional.length > 12);
  for (const [, name, type] of optional) assert.match(type, /\| undefined$/, name);
});

test("what is declared of a run and of a client is there", () => {
  const client = new module.MakotoClient({ url: "ws://x/", token: async () => "", WebSocket: class {} });
  const run = client.send("Hello");
  for (const member of declared("Run").filter((each) => each !== "constructor")) assert.ok(member in run, member);
  for (const member of declared("MakotoClient").filter((each) => each !== "constructor")) {
    assert.ok(member in client, member);
  }
  client.close();
});

test("every code that the client makes is declared", () => {
  const made = new Set([...source.matchAll(/"(client\.\w+)"/g)].map(([, code]) => code));
  const known = new Set([...declarations.matchAll(/\| "(client\.\w+)"/g)].map(([, code]) => code));
  assert.deepEqual([...made].sort(), [...known].sort());
});
