// Keeps an open page as it would be if it were loaded now. One stream tells the names of what changed; each element
// that has one of them in data-live is asked for again, by its id, and made equal to what comes.
const policy = window.trustedTypes?.createPolicy("live", { createHTML: (html) => html });
export const parse = (html) => new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");

const badge = document.querySelector("[data-live-status]");
const REST_MS = 100; // between two looks
const AGAIN_MS = 1500; // after a failure
const handlers = new Map();
let changed = new Set();
let looking = null;
let source = null;
let everOpen = false;

function say(state, text) {
  badge.dataset.state = state;
  badge.textContent = text;
  badge.title = state === "open" ? "This page follows what happens" : "The connection is lost; it comes back by itself";
}

// Has a stream's messages of a kind handled; a page that needs more than names.
export function on(name, handle) {
  handlers.set(name, handle);
  source?.addEventListener(name, handle);
}

const isTyped = (element) => element?.matches("input, textarea, select") && element.type !== "hidden";

async function look() {
  const names = changed;
  changed = new Set();
  const stale = [...document.querySelectorAll("[data-live]")].filter(
    (element) => (names.has("*") || element.dataset.live.split(" ").some((name) => names.has(name))) &&
      !(element.contains(document.activeElement) && isTyped(document.activeElement)));
  if (stale.length) {
    const response = await fetch(location.href, { headers: { "x-live": stale.map(({ id }) => id).join(" "), accept: "text/html" } });
    if (response.ok) {
      const fresh = parse(await response.text());
      for (const element of stale) {
        const next = fresh.getElementById(element.id);
        if (next && element.isConnected) morph(element, next);
      }
      dispatchEvent(new CustomEvent("fresh"));
    } else if ((response.status === 404 || response.status === 410) && !document.querySelector("form[data-sent]")) {
      location.reload(); // what the page is about has gone, and not by a form of its own, which leads elsewhere
    }
  }
  await new Promise((done) => setTimeout(done, REST_MS));
}

function lookSoon() {
  looking ??= look()
    .catch(() => new Promise((done) => setTimeout(done, AGAIN_MS))) // the stream tells when there is a server again
    .finally(() => {
      looking = null;
      if (changed.size) lookSoon();
    });
}

export function refresh(...names) {
  names.forEach((name) => changed.add(name));
  lookSoon();
}

// Makes an element equal to another in place, so that focus, selection, scrolling and open details stay. What is in an
// element with data-keep stays, too, where it comes empty and with the same mark.
export function morph(old, next) {
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && !(name === "open" && old.matches("details"))) old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const kept = new Map([...old.children].filter((child) => child.id || child.dataset?.id).map((child) => [child.id || child.dataset.id, child]));
  let place = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const key = wanted.nodeType === 1 && (wanted.id || wanted.dataset?.id);
    const match = key ? kept.get(key) : place;
    if (match && match.nodeName === wanted.nodeName && (key || !(match.id || match.dataset?.id))) {
      if (match !== place) old.insertBefore(match, place);
      else place = place.nextSibling;
      if (match.nodeType === 1) {
        const kept = match.dataset?.keep && match.dataset.keep === wanted.dataset.keep && !wanted.firstElementChild;
        if (!kept && !match.isEqualNode(wanted)) morph(match, wanted);
      } else if (match.nodeValue !== wanted.nodeValue) match.nodeValue = wanted.nodeValue;
    } else old.insertBefore(document.adoptNode(wanted), place);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

function open(url) {
  source = new EventSource(typeof url === "function" ? url() : url);
  source.addEventListener("hello", ({ data }) => {
    say("open", "live");
    if (everOpen || data !== document.body.dataset.seen) refresh("*"); // something has changed meanwhile
    everOpen = true;
  });
  source.addEventListener("changed", ({ data }) => refresh(...data.split(" ")));
  source.addEventListener("error", () => {
    say("lost", "reconnecting");
    if (source?.readyState === EventSource.CLOSED) {
      const given = source;
      setTimeout(() => source === given && open(url), AGAIN_MS); // the browser gives up where it is answered with an error
    }
  });
  for (const [name, handle] of handlers) source.addEventListener(name, handle);
}

export function start(url) {
  const follow = () => {
    source?.close();
    source = null;
    if (!document.hidden) open(url); // six connections are all that a browser gives a site
  };
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", ({ persisted }) => persisted && follow());
  follow();
}
