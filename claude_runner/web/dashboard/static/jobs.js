// What a schedule comes to, while it is being typed.
import { morph, parse } from "./live.js";

const PAUSE_MS = 150; // after the last key
const READ = ["cron", "timezone", "starts_at", "ends_at", "blackouts"];
const form = document.querySelector("[data-job-form]");
const shown = document.getElementById("preview");
let waiting = 0;
let asked = "";

async function look() {
  const query = new URLSearchParams(READ.map((name) => [name, form.elements[name].value])).toString();
  if (query === asked) return;
  asked = query;
  const response = await fetch(`/jobs/preview?${query}`, { headers: { accept: "text/html" } }).catch(() => null);
  if (!response?.ok || query !== asked) return; // the server is away, or more was typed meanwhile
  const next = shown.cloneNode();
  next.append(...parse(await response.text()).body.childNodes);
  morph(shown, next);
}

form.addEventListener("input", ({ target }) => {
  if (target.name === "tools") form.querySelector("[name=grants][value=some]").checked = true;
  if (!READ.includes(target.name)) return;
  clearTimeout(waiting);
  waiting = setTimeout(look, PAUSE_MS);
});
