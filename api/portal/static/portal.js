// Keeps a page up to date: fetches it again when there is news, and puts the new parts in the place of the old ones.
// Everything works without it; what it shows is what a reload would show.
"use strict";

const PAUSE_MS = 1000; // at most one fetch in this time
const FALLBACK_MS = 5000; // where there is no stream of events

/** Put each live part of `fresh` in the place of the one with its id; focus, scroll and what is open stay. */
function update(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.innerHTML === part.innerHTML) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[open]")].map((one) => one.id);
    const scrolled = [...part.querySelectorAll("[tabindex]")].map((one) => ({
      id: one.id,
      left: one.scrollLeft,
      top: one.scrollTop,
      atEnd: one.scrollTop + one.clientHeight >= one.scrollHeight - 4,
    }));
    part.replaceChildren(...next.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    for (const { id, left, top, atEnd } of scrolled) {
      document.getElementById(id)?.scrollTo(left, atEnd ? Number.MAX_SAFE_INTEGER : top);
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
  document.title = fresh.title;
  if (!fresh.querySelector("main").dataset.refreshSeconds) clearInterval(polling); // all of it is over
}

let polling = null; // where a page is fetched every few seconds
let asked = 0;
let shown = 0;

/** Fetch this page again. An answer that comes after that to a later question is not shown. */
async function refresh() {
  const number = ++asked;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (answer?.redirected) return location.reload(); // the session has ended
  if (!answer?.ok) return;
  const text = await answer.text();
  if (number < shown) return;
  shown = number;
  update(new DOMParser().parseFromString(text, "text/html"));
}

/** Return a function that refreshes soon, however often it is called. */
function coalesced() {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      refresh();
    }, PAUSE_MS);
  };
}

/**
 * Refresh whenever the job's stream says that something happened.
 * Only while the page is seen: a browser has six connections to a host, and each stream holds one.
 */
function follow(address) {
  const soon = coalesced();
  let events = null;
  let fallback = null;
  let over = false;

  function open() {
    clearInterval(fallback);
    fallback = null;
    events = new EventSource(address);
    events.addEventListener("job.event", soon);
    events.addEventListener("progress", soon);
    events.addEventListener("done", () => {
      over = true;
      events.close();
      refresh();
    });
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) fallback ??= setInterval(refresh, FALLBACK_MS);
    });
  }

  document.addEventListener("visibilitychange", () => {
    events.close();
    clearInterval(fallback);
    if (!document.hidden && !over) open();
  });
  open();
}

const main = document.querySelector("main");
if (main.dataset.events) follow(main.dataset.events);
if (main.dataset.refreshSeconds) {
  polling = setInterval(() => document.hidden || refresh(), 1000 * main.dataset.refreshSeconds);
}

(document.getElementById("errors") ?? document.getElementById("notice"))?.focus();
document.getElementById("log-text")?.scrollTo(0, Number.MAX_SAFE_INTEGER);

// Another method is another page: what was typed so far goes along.
for (const link of document.querySelectorAll("[data-carries]")) {
  link.addEventListener("click", () => {
    const address = new URL(link.href);
    const name = link.dataset.carries;
    address.searchParams.set(name, document.getElementById(name).value);
    link.href = address;
  });
}

// What is known to be too large is not sent.
addEventListener("change", ({ target }) => {
  if (!target.dataset.bytesMax) return;
  const isTooLarge = [...target.files].some((file) => file.size > target.dataset.bytesMax);
  target.setCustomValidity(isTooLarge ? target.dataset.tooLarge : "");
  if (isTooLarge) target.reportValidity();
});

/** Send a form and show how far it is; then go to where the answer leads, or show what is wrong. */
function send(form) {
  const part = form.querySelector(".progress");
  const [bar, words] = [part.querySelector("progress"), part.querySelector("span")];
  const request = new XMLHttpRequest();
  request.responseType = "document";
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = (100 * loaded) / total;
    words.textContent = loaded < total ? `${Math.floor(bar.value)} %` : "being looked at and stored";
  });
  request.addEventListener("load", () => {
    if (request.responseURL !== form.action) return location.assign(request.responseURL);
    main.replaceChildren(...request.response.querySelector("main").childNodes);
    document.title = request.response.title;
    (document.getElementById("errors") ?? main).focus();
  });
  request.addEventListener("error", () => {
    bar.hidden = true;
    words.textContent = "The connection broke before the answer came. Try again.";
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  });
  part.hidden = bar.hidden = false;
  request.open("POST", form.action);
  request.send(new FormData(form));
}

addEventListener("submit", (event) => {
  if (!("progress" in event.target.dataset)) return;
  event.preventDefault();
  send(event.target);
});

// An id is copied by one click, where the browser lets a page do so.
for (const button of document.querySelectorAll("[data-copies]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copies);
    document.getElementById("copied").textContent = `${button.dataset.copies} is copied.`;
    button.firstChild.textContent = "Copied";
  });
}

// A second click submits nothing, unless the page is shown again by going back.
addEventListener("submit", ({ target }) => {
  for (const button of target.querySelectorAll("button")) button.disabled = target.method === "post";
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button")) button.disabled = false;
});
