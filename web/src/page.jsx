// Decodes the data that the page carries and shows it.
import { render } from "preact";
import { App } from "./app.jsx";
import "uplot/dist/uPlot.min.css";
import "./page.css";

async function decoded(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function start() {
  const root = document.getElementById("app");
  if (typeof DecompressionStream === "undefined") {
    root.textContent = "This page needs a browser of 2023 or later (DecompressionStream is missing).";
    return;
  }
  const data = await decoded(document.getElementById("data").textContent);
  render(<App data={data} />, root);
  document.documentElement.dataset.ready = "yes";
}

start();
