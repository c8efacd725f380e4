// What every page does beyond its markup. Nothing here is needed to use the pages, but for live updates.
import { start, parse } from "./live.js";
import { keys } from "./keys.js";

const root = document.documentElement;

// Light or dark: the cookie is what the server renders by, so that no page flashes.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-theme-form]")) return;
  event.preventDefault();
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  fetch(form.action, { method: "POST", body: new URLSearchParams({ theme: root.dataset.theme }), redirect: "manual" });
});

// A form is sent once, however often it is clicked; one that brings back the page is free again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "1";
});
addEventListener("pageshow", () => document.querySelectorAll("[data-sent]").forEach((form) => delete form.dataset.sent));

// A dialog looks and acts as its page does: with its style sheets and modules, of which `start` is called with it.
function styled({ href }) {
  if (document.querySelector(`link[href="${new URL(href).pathname}"]`)) return null;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(href).pathname });
  document.head.append(link);
  return new Promise((done) => (link.onload = link.onerror = done));
}

// Links that open as a dialog: the page behind the link, its main part.
export async function openDialog(name, url) {
  if (new URL(url, location).pathname === location.pathname) return document.querySelector("main [autofocus]")?.focus();
  let dialog = document.getElementById(`dialog-${name}`);
  if (dialog?.open) return dialog;
  dialog?.remove();
  const response = await fetch(url, { headers: { accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return location.assign(url);
  const page = parse(await response.text());
  const body = page.querySelector("[data-dialog-body]");
  if (!body) return location.assign(url);
  const coming = [...page.querySelectorAll("script[type=module]")].map(({ src }) => import(src).catch(() => null)); // the page was left meanwhile; the form does without
  const [modules] = await Promise.all([Promise.all(coming), ...[...page.querySelectorAll("link[rel=stylesheet]")].map(styled)]);
  dialog = Object.assign(document.createElement("dialog"), { id: `dialog-${name}` });
  dialog.setAttribute("aria-labelledby", body.querySelector("h1, h2").id);
  const close = Object.assign(document.createElement("button"), { type: "button", className: "quiet close", textContent: "✕" });
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.append(document.adoptNode(body), close);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
  dialog.querySelector("[autofocus]")?.focus();
  for (const module of modules) module?.start?.(dialog); // at once, so that no key is lost on whoever types ahead
  dispatchEvent(new CustomEvent("dialog", { detail: dialog }));
  return dialog;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  openDialog(link.dataset.dialog, link.href);
});

// Copy buttons
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  const source = button.dataset.copy ? document.getElementById(button.dataset.copy) : button.parentElement.querySelector("code, input, pre");
  const text = source.value ?? source.textContent;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); // not over plain HTTP: select it instead
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = said), 1500);
});

// What a mark of a chart stands for
const tip = document.getElementById("tip");
function showTip(slot, x, y) {
  tip.textContent = slot.dataset.tip || slot.getAttribute("aria-label");
  tip.showPopover();
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(4, y - 34)}px`;
}
document.addEventListener("pointermove", (event) => {
  const slot = event.target.closest?.("[data-tip]");
  if (slot) showTip(slot, event.clientX, event.clientY);
  else if (tip.matches(":popover-open")) tip.hidePopover();
});

// Times pass
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
function away(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  const [unit, name] = UNITS.find(([unit]) => size >= unit * 0.995) ?? [1, "s"];
  const amount = Math.max(1, Math.round(size / unit));
  return seconds > 0 ? `in ${amount} ${name}` : `${amount} ${name} ago`;
}
function span(seconds) {
  let left = Math.max(0, Math.round(seconds));
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const parts = [];
  for (const [unit, name] of UNITS) {
    const amount = Math.floor(left / unit);
    left %= unit;
    if (amount) parts.push(`${amount} ${name}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function passTime() {
  for (const time of document.querySelectorAll("time[data-relative]")) say(time, away((Date.parse(time.dateTime) - Date.now()) / 1000));
  for (const since of document.querySelectorAll("[data-since]")) say(since, span((Date.now() - Date.parse(since.dataset.since)) / 1000));
}
setInterval(() => document.hidden || passTime(), 1000);

// What is chosen is in sight where a bar of links is wider than the window, and what was refused where a form is long.
for (const chosen of document.querySelectorAll(":is(.bar nav, .tabs) > [aria-current]")) {
  const { parentElement: bar, offsetLeft, offsetWidth } = chosen;
  bar.scrollLeft = offsetLeft - bar.offsetLeft - (bar.clientWidth - offsetWidth) / 2;
}
document.querySelector("main [aria-invalid=true]")?.focus();

keys(openDialog);
// By then every module of the page listens to what comes; where from may change meanwhile.
addEventListener("DOMContentLoaded", () => start(() => document.body.dataset.stream));
