// The keyboard: single keys where nothing is being typed, `g` and a letter for the sections, Ctrl+K for the palette.
// A field keeps the focus for a moment after its dialog was closed: nothing is typed there any more.
const typing = (element) =>
  element?.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]") && element.checkVisibility();

export function keys(openDialog) {
  let going = 0;
  const links = () => [...document.querySelectorAll(".bar nav a[data-key]")];
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      palette(links());
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
    if (Date.now() - going < 1200) {
      going = 0;
      const link = links().find((one) => one.dataset.key === event.key);
      if (link) return link.click();
    }
    const act = {
      g: () => (going = Date.now()),
      q: () => openDialog("quick", "/quick"),
      n: () => location.assign("/jobs/new"),
      "?": () => openDialog("keys", "/keys"),
      "/": () => document.querySelector("input[type=search]")?.focus(),
      j: () => step(1),
      k: () => step(-1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

// To the next or last row of the page's list
function step(by) {
  const rows = [...document.querySelectorAll("[data-list] tbody a[href], [data-list] li > div > a[href]")].filter((link, at, all) => at === 0 || all[at - 1].closest("tr, li") !== link.closest("tr, li"));
  const at = rows.indexOf(document.activeElement);
  rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))]?.focus();
}

let entries = []; // until they have come
async function known(links) {
  const sections = links.map((link) => ({ name: link.textContent, kind: "page", url: link.getAttribute("href") }));
  const fixed = [{ name: "Quick run", kind: "action", url: "/quick" }, { name: "New job", kind: "action", url: "/jobs/new" }, { name: "New webhook", kind: "action", url: "/webhooks/new" }];
  const response = await fetch("/palette").catch(() => null);
  return [...sections, ...fixed, ...(response?.ok ? await response.json() : [])];
}

// Everything there is, by a few letters of its name
async function palette(links) {
  if (document.getElementById("palette")?.open) return;
  document.getElementById("palette")?.remove();
  const dialog = Object.assign(document.createElement("dialog"), { id: "palette", className: "palette" });
  const input = Object.assign(document.createElement("input"), { type: "search", placeholder: "Go to a page, job, webhook or server", autocomplete: "off" });
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-label", "Go to");
  input.setAttribute("aria-expanded", "true");
  input.setAttribute("aria-controls", "palette-list");
  const list = Object.assign(document.createElement("ul"), { id: "palette-list" });
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Results");
  dialog.append(input, list);
  dialog.setAttribute("aria-label", "Go to");
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  let at = 0;
  const shown = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    return entries.filter(({ name, kind }) => words.every((word) => `${name} ${kind}`.toLowerCase().includes(word))).slice(0, 12);
  };
  const draw = () => {
    const found = shown();
    at = Math.max(0, Math.min(at, found.length - 1));
    list.replaceChildren(...found.map(({ name, kind, url }, place) => {
      const item = Object.assign(document.createElement("li"), { id: `palette-${place}` });
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", place === at);
      const label = Object.assign(document.createElement("span"), { textContent: name });
      const small = Object.assign(document.createElement("span"), { textContent: kind, className: "muted small" });
      item.append(label, small);
      item.addEventListener("click", () => location.assign(url));
      return item;
    }));
    if (found.length) input.setAttribute("aria-activedescendant", `palette-${at}`);
    else input.removeAttribute("aria-activedescendant");
  };
  input.addEventListener("input", () => {
    at = 0;
    draw();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      at += event.key === "ArrowDown" ? 1 : -1;
      draw();
    } else if (event.key === "Enter" && shown()[at]) location.assign(shown()[at].url);
    else if (event.key === "Escape") {
      event.preventDefault(); // which would only empty the field
      dialog.close();
    }
  });
  entries = await known(links);
  draw();
}
