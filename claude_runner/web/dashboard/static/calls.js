// What a call was given and answered comes with the page; of one that came later, when somebody looks at it.
import { parse } from "./live.js";

async function fill(details) {
  const texts = details.querySelector("[data-keep]");
  if (!details.open || texts.firstElementChild) return;
  const response = await fetch(texts.dataset.keep, { headers: { accept: "text/html" } });
  if (response.ok) texts.replaceChildren(...parse(await response.text()).querySelector("[data-keep]").childNodes);
}

document.addEventListener("toggle", ({ target }) => target.matches?.(".calls details") && fill(target), true);
addEventListener("fresh", () => document.querySelectorAll(".calls details[open]").forEach(fill));
