// The workbench of a webhook: what is typed is tried as it is typed. Without this, the button "Try" does it.
import { morph, parse } from "./live.js";

const REST_MS = 200; // after the last key
const form = document.querySelector("form[data-try]");
const shown = document.getElementById("preview");
let due = 0;
let asking = null;

async function tryOut() {
  asking?.abort();
  asking = new AbortController();
  const typed = new URLSearchParams(new FormData(form));
  typed.delete("signing_secret"); // it has no part in what is shown
  try {
    const response = await fetch(form.dataset.try, { method: "POST", body: typed, headers: { "x-live": "preview", accept: "text/html" }, signal: asking.signal });
    const next = response.ok && parse(await response.text()).getElementById("preview");
    if (next) morph(shown, next);
  } catch (error) {
    if (error.name !== "AbortError") shown.querySelector("[role=status]")?.replaceChildren("The server does not answer; what is below is from before.");
  }
}

document.addEventListener("input", ({ target }) => {
  if (target.form !== form) return;
  clearTimeout(due);
  due = setTimeout(tryOut, REST_MS);
});
