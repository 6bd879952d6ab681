// Starts the page: reads the document inside it and puts the views together.

import { App } from "./app.js";
import { byId } from "./dom.js";

new App(JSON.parse(byId("document").textContent));
