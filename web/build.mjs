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

// The licences of what is bundled ask to go with it.
const licences = ["preact", "uplot", "d3-hierarchy"].map((name) => {
  const folder = join(here, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version}\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
});
const files = [...built.outputFiles, { path: "LICENSES.txt", text: `page.js holds:\n\n${licences.join("\n\n")}` }];

let stale = false;
for (const file of files) {
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
