// The pages of tool servers: a log that is followed, and buttons that say that something takes a moment.
import { refresh } from "./live.js";

for (const part of document.querySelectorAll("[data-every]")) setInterval(() => document.hidden || refresh(part.id), Number(part.dataset.every));

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button?.dataset.busy) return;
  button.dataset.said ??= button.textContent;
  button.textContent = button.dataset.busy;
});
addEventListener("pageshow", () => document.querySelectorAll("[data-said]").forEach((button) => (button.textContent = button.dataset.said)));

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.closest("form[data-call]")?.requestSubmit(event.target.closest("form").querySelector("button.primary, button"));
});

// A log is read from its end, unless somebody has gone up in it.
const log = document.querySelector("#log .log");
const toEnd = () => log && (log.scrollTop = log.scrollHeight);
let atEnd = true;
log?.addEventListener("scroll", () => (atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40));
addEventListener("fresh", () => atEnd && toEnd());
toEnd();
