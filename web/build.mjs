// Bundles src/ into the two files that the report package carries; `--check` only compares with them.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const assets = join(here, "..", "src", "longpole", "report", "assets");

const built = await build({
  entryPoints: [join(here, "src", "page.jsx")],
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2021"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "ascii",
  legalComments: "inline",
  absWorkingDir: here,
  outdir: assets,
  write: false,
});

let stale = false;
for (const file of built.outputFiles) {
  const name = file.path.split(/[\\/]/).pop();
  if (process.argv.includes("--check")) {
    let committed = "";
    try {
      committed = readFileSync(join(assets, name), "utf8");
    } catch {}
    if (committed !== file.text) {
      console.error(`${name} is not what web/ builds: run make web and commit it`);
      stale = true;
    }
  } else {
    writeFileSync(join(assets, name), file.text);
    console.log(`${name} ${file.text.length} bytes`);
  }
}
process.exit(stale ? 1 : 0);
