// Starts the page: reads the document inside it, packed or not, and puts the views together.

import { App } from "./app.js";
import { byId } from "./dom.js";

async function read(element) {
  if (element.type === "application/json") return JSON.parse(element.textContent);
  const bytes = Uint8Array.from(atob(element.textContent), (character) => character.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).json();
}

read(byId("document")).then((data) => new App(data));
