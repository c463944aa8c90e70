// What moves on the pages. Every page works without it.
"use strict";

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : prefersDark.matches;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  name();
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("lhp-theme", theme);
    name();
  });
}

// Figures: the library is loaded when the first one is there.

const DATA = { Accept: "application/json" };
const loading = {};

function load(address) {
  loading[address] ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`can't load ${address}`));
    document.head.append(script);
  });
  return loading[address];
}

async function draw(place) {
  const options = new URLSearchParams(place.dataset.options ?? "");
  const address = place.dataset.figure;
  const separator = address.includes("?") ? "&" : "?";
  place.setAttribute("aria-busy", "true");
  try {
    const [reply] = await Promise.all([
      fetch(options.size ? `${address}${separator}${options}` : address, { headers: DATA }),
      load(place.dataset.plotly).then(() => load(place.dataset.script)),
    ]);
    if (!reply.ok) {
      const problem = await reply.json().catch(() => ({}));
      throw new Error(problem.detail ?? `the service answered ${reply.status}`);
    }
    await lhpDraw(place, await reply.json(), { title: !place.dataset.title });
    tell(place, "");
  } catch (error) {
    // A figure that was drawn before stays.
    tell(place, `The figure can't be drawn: ${error.message}.`);
    lookAtDatabase(false);
  }
  place.removeAttribute("aria-busy");
}

function tell(place, text) {
  let note = place.parentElement.querySelector("[data-note]");
  if (!note) {
    note = document.createElement("p");
    note.dataset.note = "";
    note.className = "error";
    note.setAttribute("role", "alert");
    place.parentElement.append(note);
  }
  note.textContent = text;
}

function setUpFigures(part) {
  for (const place of part.querySelectorAll("[data-figure]:not([data-drawn])")) {
    place.dataset.drawn = "";
    draw(place);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-set]");
  if (!button) return;
  const [name, value] = button.dataset.set.split("=");
  const place = button.closest(".card").querySelector("[data-figure]");
  const options = new URLSearchParams(place.dataset.options ?? "");
  options.set(name, value);
  place.dataset.options = options;
  for (const each of button.parentElement.querySelectorAll(`[data-set^="${name}="]`)) {
    each.setAttribute("aria-pressed", String(each === button));
  }
  draw(place);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-image]");
  if (!button) return;
  const place = document.querySelector("[data-figure]");
  Plotly.downloadImage(place, { format: button.dataset.image, filename: button.dataset.name });
});

// Whether the database is there. While it is away, the page says so, keeps what it shows, and looks
// again; once it is back, a page that had nothing to show is loaded again.

const LOOK_S = 2;
const LOOK_IDLE_S = 10;
let looking = false;

/* `isAway`: something has failed for it, or the page says so already. */
async function lookAtDatabase(isAway) {
  if (looking) return;
  looking = true;
  const place = document.getElementById("away");
  const wasEmpty = document.querySelector("[data-passes]") !== null;
  for (;;) {
    const reply = await fetch(place.dataset.address, { headers: { "HX-Request": "true" } })
      .catch(() => null);
    if (reply && reply.status !== 200) break; // 204: it is there
    isAway = true;
    if (!reply) {
      place.innerHTML = '<p class="banner"><b>The service is away.</b> What this page shows stays.'
        + " It looks again by itself.</p>";
    } else if (!wasEmpty) {
      const text = await reply.text();
      if (place.innerHTML !== text) place.innerHTML = text;
    }
    await new Promise((resolve) => { setTimeout(resolve, 1000 * LOOK_S); });
  }
  looking = false;
  if (!isAway) return;
  place.textContent = "";
  // A question under way is asked again by its page.
  if (wasEmpty || document.getElementById("measuring")) location.reload();
  else document.querySelectorAll("[data-renew-s]").forEach(renew);
}

document.addEventListener("htmx:response:error", (event) => {
  // The service leaves what is there if the database is away, and nothing else fails so.
  const { response } = event.detail.ctx;
  if (response.status === 503 && response.headers.get("HX-Reswap") === "none") lookAtDatabase(true);
});
document.addEventListener("htmx:error", () => lookAtDatabase(true));

function setUpLooking() {
  if (document.querySelector("[data-passes], #away p")) lookAtDatabase(true);
  setInterval(() => { if (!document.hidden) lookAtDatabase(false); }, 1000 * LOOK_IDLE_S);
}

// Lines to paste: a proxy may offer the service at another address than the one that it knows.

function setUpLines(part) {
  const here = new URL(document.body.dataset.root, location.href).href.replace(/\/$/, "");
  for (const lines of part.querySelectorAll("[data-service]")) {
    const known = lines.dataset.service;
    delete lines.dataset.service;
    if (known === here) continue;
    const texts = document.createTreeWalker(lines, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      texts.currentNode.data = texts.currentNode.data.replaceAll(known, here);
    }
  }
}

// The point of a figure that was tapped, or that the arrow keys have reached, in words: on a phone in
// a sheet at the bottom, elsewhere beside the pointer (by the figure) and for screen readers.

const ABOVE_PX = 48;

function makeSheet(figure) {
  const sheet = document.createElement("section");
  sheet.className = "sheet";
  sheet.setAttribute("aria-label", "Point");
  const words = document.createElement("div");
  words.setAttribute("aria-live", "polite");
  const tools = document.createElement("p");
  tools.className = "tools";
  const press = (key) => figure.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const close = () => {
    figure.dispatchEvent(new Event("lhp-close"));
    figure.focus({ preventScroll: true });
  };
  for (const [name, act] of [
    ["Previous", () => press("ArrowLeft")], ["Next", () => press("ArrowRight")], ["Close", close],
  ]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", act);
    tools.append(button);
  }
  sheet.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  sheet.append(words, tools);
  figure.after(sheet);
  return sheet;
}

function readLines(text) {
  // Texts of figures have tags of plotly's; what stands in names is escaped.
  return text.split("<br>").map(
    (line) => new DOMParser().parseFromString(line, "text/html").body.textContent,
  );
}

document.addEventListener("lhp-point", (event) => {
  const figure = event.target;
  const { text, pinned } = event.detail;
  if (!pinned && text) return; // the pointer passes over it
  const known = figure.nextElementSibling;
  const sheet = known?.matches(".sheet") ? known : makeSheet(figure);
  sheet.classList.toggle("open", pinned);
  sheet.firstChild.replaceChildren(...readLines(text).map((line) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    return paragraph;
  }));
  if (pinned) keepAbove(sheet);
});

// Where the last tap was: what was tapped must not be below the sheet.
let tapped = null;
document.addEventListener("pointerdown", (event) => {
  tapped = event.target.closest("[data-figure]") ? event.clientY : null;
}, true);

function keepAbove(sheet) {
  const { top, height } = sheet.getBoundingClientRect();
  if (tapped !== null && height > 1 && tapped > top - ABOVE_PX) scrollBy(0, tapped - top + ABOVE_PX);
  tapped = null;
}

// Code that can be copied.

function setUpCopying(part) {
  if (!navigator.clipboard) return;
  for (const code of part.querySelectorAll("pre:not([data-copies])")) {
    code.dataset.copies = "";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    const box = document.createElement("div");
    box.className = "lines";
    code.replaceWith(box);
    box.append(code, button);
  }
}

// Forms that need no button.

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.matches("[data-submits]")) field.form.requestSubmit();
  if (field.matches("[data-reloads]")) {
    const address = new URL(field.form.action);
    address.search = new URLSearchParams({ [field.name]: field.value });
    location.assign(address);
  }
});

// Parts that renew themselves, unless somebody is at work in them.

function renew(part) {
  const busy = document.hidden || part.contains(document.activeElement)
    || part.querySelector("details.act[open]");
  if (!busy) part.dispatchEvent(new Event("renew"));
}

function setUpRenewing() {
  for (const part of document.querySelectorAll("[data-renew-s]")) {
    setInterval(() => renew(part), 1000 * part.dataset.renewS);
  }
}

// A sweep under way.

const RACE_S = 2;

function follow(part) {
  const events = new EventSource(part.dataset.events);
  let drawing = null;
  events.addEventListener("progress", (event) => {
    const sweep = JSON.parse(event.data);
    const state = part.querySelector("[data-state]");
    state.textContent = sweep.state;
    state.classList.toggle("undecided", sweep.state === "running");
    if (!sweep.progress) return;
    part.querySelector("[data-fraction]").value = sweep.progress.fraction;
    const { stage, num_samples, seconds } = sweep.progress;
    part.querySelector("[data-stage]").textContent =
      `${stage}: ${num_samples.toLocaleString("en")} samples in ${seconds.toFixed(1)} s`;
    // The stages of a race, which the service works out from all samples: not with every event.
    drawing ??= setTimeout(() => {
      drawing = null;
      part.dispatchEvent(new Event("renewed"));
    }, 1000 * RACE_S);
  });
  events.addEventListener("end", () => {
    events.close();
    location.reload();
  });
}

function setUp(part) {
  setUpFigures(part);
  setUpLines(part);
  setUpCopying(part);
}

document.addEventListener("htmx:after:swap", (event) => {
  setUp(document);
  // A window in the background says in its title when the answer is there.
  // A response that names its own place (HX-Retarget) has a selector as its target.
  const target = event.detail.ctx?.target;
  const place = typeof target === "string" ? document.querySelector(target) : target;
  const heading = place?.querySelector?.("h1");
  if (heading) document.title = `${heading.textContent} · lhp`;
});

document.addEventListener("DOMContentLoaded", () => {
  if (matchMedia("(max-width: 760px)").matches) {
    document.querySelector("[data-folds]")?.removeAttribute("open");
  }
  document.querySelector(".top [aria-current]")?.scrollIntoView({ block: "nearest" });
  setUpTheme();
  setUp(document);
  setUpRenewing();
  setUpLooking();
  document.querySelectorAll("[data-events]").forEach(follow);
});
