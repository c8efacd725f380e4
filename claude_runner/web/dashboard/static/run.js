// One run: what happens in it comes as it happens, what is earlier or folded as it is looked at.
import { on, parse, morph } from "./live.js";

const page = document.documentElement;
const list = document.getElementById("transcript");
const jump = document.getElementById("newest");
const NEAR = 90; // px from the end, which still count as being there
const MANY = 200;
const atEnd = () => scrollY + innerHeight >= page.scrollHeight - NEAR;

function toEnd() {
  scrollTo(0, page.scrollHeight);
  requestAnimationFrame(() => scrollTo(0, page.scrollHeight)); // what comes into view has its real height only then
  jump.hidden = true;
}
jump.addEventListener("click", toEnd);
addEventListener("scroll", () => jump.hidden || !atEnd() || (jump.hidden = true), { passive: true });

// What is out of sight is not laid out, once there is much of it.
new MutationObserver(() => list.classList.toggle("long", list.childElementCount > MANY)).observe(list, { childList: true });

async function fetched(url, part) {
  const response = await fetch(url, { headers: { "x-live": part, accept: "text/html" } });
  return response.ok ? parse(await response.text()) : null;
}

// What is long and folded is fetched when it is opened; without this, a link leads to it.
async function unfold(details) {
  const link = details.querySelector("a[data-whole]");
  const item = details.closest("li");
  if (!link || link.dataset.asked) return;
  link.dataset.asked = "1";
  const whole = await fetched(link.href, "step").catch(() => null);
  const next = whole?.getElementById(item.id);
  if (next && item.isConnected && link.isConnected) morph(item, next);
  else delete link.dataset.asked;
}
document.addEventListener("toggle", ({ target }) => target.matches("details.fold") && target.open && unfold(target), true);

function grow(item, news) {
  const text = item.querySelector("[data-text]");
  text.append(...news.querySelector("[data-text]").childNodes);
  morph(item.querySelector("[data-tail]"), news.querySelector("[data-tail]"));
  const length = item.querySelector("[data-length]");
  if (length) length.textContent = news.querySelector("[data-length]").textContent;
}

on("entries", ({ data, lastEventId }) => {
  const follows = atEnd();
  let isNew = false;
  for (const news of [...parse(data).querySelectorAll("body > li")]) {
    const item = document.getElementById(news.id);
    if ("grow" in news.dataset) item && grow(item, news);
    else if (item) {
      morph(item, news);
      item.querySelectorAll("details.fold[open]").forEach(unfold);
    } else {
      list.append(document.adoptNode(news));
      isNew = true;
    }
  }
  document.getElementById("waiting").hidden = true;
  const stream = new URL(document.body.dataset.stream, location.origin);
  stream.searchParams.set("after", lastEventId); // where to go on when the page is looked at again
  document.body.dataset.stream = stream.pathname + stream.search;
  if (follows) toEnd();
  else if (isNew) jump.hidden = false;
});
on("far", () => location.reload());

// Earlier entries, by their button or as the reader comes up to it
let isLoading = false;
async function earlier(link) {
  if (isLoading) return;
  isLoading = true;
  const found = await fetched(link.href.split("#")[0], "transcript").catch(() => null);
  if (found) {
    const first = list.firstElementChild;
    page.style.overflowAnchor = "none"; // where the reader is, is kept below
    const before = first?.getBoundingClientRect().top;
    list.prepend(...[...found.querySelectorAll("#transcript > li")].filter(({ id }) => !document.getElementById(id)));
    const next = found.getElementById("earlier");
    if (next) morph(document.getElementById("earlier"), next);
    else document.getElementById("earlier").remove();
    if (first) scrollBy(0, first.getBoundingClientRect().top - before);
    requestAnimationFrame(() => (page.style.overflowAnchor = ""));
  }
  isLoading = false;
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-earlier]");
  if (!link || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  earlier(link);
});
let lastY = scrollY;
addEventListener("scroll", () => {
  const isUp = scrollY < lastY;
  lastY = scrollY;
  const link = isUp && !isLoading && document.querySelector("a[data-earlier]");
  if (link && link.getBoundingClientRect().bottom > -400 && link.getBoundingClientRect().top < innerHeight) earlier(link);
}, { passive: true });

// The output, copied as it is
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-copy-from]");
  if (!link || event.metaKey || event.ctrlKey || !navigator.clipboard) return;
  event.preventDefault();
  const said = link.textContent;
  try {
    await navigator.clipboard.writeText(await (await fetch(link.href)).text());
    link.textContent = "Copied";
    setTimeout(() => (link.textContent = said), 1500);
  } catch {
    location.assign(link.href); // it can be copied there by hand
  }
});
