// The page: takes updates from the run, hands them to the views, and says what is wrong.

import { Arms } from "./arms.js";
import { figure, followTheme } from "./canvas.js";
import { RunTables } from "./run.js";
import { VIEWS } from "./views.js";

const $ = (id) => document.getElementById(id);
const STATUS = ":status";
const LOG = ":log";
const RETRY_MS = 1000;
const WATCH_MS = 500;
const MISSED_MS = 5000;

let socket = null;
let panels = new Map(); // by stream: box, view, when something came last
let tables = null;
let arms = null;
let waiting = null; // an update that is not drawn yet; there is never more than one
let ended = false;
let skippedBefore = 0; // by connections that are over
let skipped = 0;

// ---- the connection

function connect() {
  socket = new WebSocket(`ws://${location.host}${location.pathname}live`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => {
    const message = MessagePack.decode(new Uint8Array(event.data));
    if (message.about) {
      open(message.about);
      return;
    }
    waiting = message;
    // The last one is shown at once, since nothing can go on any more.
    if (message.end) show();
    else if (!document.hidden) requestAnimationFrame(show);
  };
  socket.onclose = () => {
    if (ended) return;
    if (!document.body.dataset.state || document.body.dataset.state !== "lost") {
      const time = new Date().toLocaleTimeString();
      say("lost", "connection lost", `The connection to the run was lost at ${time}. What is shown is old.`);
    }
    setTimeout(connect, RETRY_MS);
  };
}

document.addEventListener("visibilitychange", () => {
  // A hidden page draws nothing and asks for nothing; then it goes on with what is newest.
  if (!document.hidden && waiting) requestAnimationFrame(show);
});

/** Draw the update that waits, and ask for the next one. */
function show() {
  if (!waiting) return;
  const { streams, end } = waiting;
  skipped = waiting.skipped;
  waiting = null;
  for (const [name, chunks] of Object.entries(streams)) {
    if (name === STATUS) takeStatus(chunks.at(-1));
    else if (name === LOG) chunks.forEach((chunk) => tables.addLog(chunk.lines));
    else takeChunks(name, chunks);
  }
  const total = skippedBefore + skipped;
  $("skipped").textContent = total ? `This page was too slow for ${total} updates.` : "";
  if (end) finish(end.message);
  else if (socket.readyState === WebSocket.OPEN) socket.send("drawn");
}

/** Ask the run for something; while nothing can be heard from it, nothing is asked. */
function ask(wish) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wish));
}

// ---- panels

function open(about) {
  about.ask = ask;
  skippedBefore += skipped;
  skipped = 0;
  $("pipeline").textContent = about.pipeline;
  document.title = about.pipeline;
  const enlarged = document.querySelector(".enlarged")?.dataset.stream;
  $("panels").replaceChildren();
  panels = new Map();
  tables = new RunTables(about);
  arms = new Arms($("arms"));
  say("connected", "connected");
  const videos = about.panels.filter((panel) => panel.view === "video");
  for (const panel of about.panels) {
    const box = $("panel").content.firstElementChild.cloneNode(true);
    box.dataset.stream = panel.name;
    box.classList.add(`view-${panel.view}`);
    box.hidden = true;
    box.querySelector("h2").textContent = panel.name;
    box.querySelector(".about").textContent = describe(panel);
    const button = box.querySelector(".enlarge");
    button.setAttribute("aria-label", `Enlarge ${panel.name}`);
    button.onclick = () => enlarge(box);
    $("panels").append(box);
    const view = new VIEWS[panel.view](panel, box, about);
    panels.set(panel.name, { box, view, came: 0, missed: [], inVideo: false });
    if (panel.name === enlarged) enlarge(box);
  }
  // Joints in pixels are drawn into the picture that they were found in, where there is only one.
  if (videos.length === 1) {
    const video = panels.get(videos[0].name);
    for (const panel of panels.values()) {
      if (panel.view.about.kind !== "keypoints") continue;
      video.view.over.push(panel.view);
      panel.inVideo = true;
    }
  }
}

function describe(panel) {
  if (panel.view === "traces") {
    return `${panel.channels} channels${panel.unit ? `, ${panel.unit}` : ""}, ${figure(panel.rate / 1000)} kHz`;
  }
  const what = panel.names.length && !["frame", "skeleton", "keypoints", "notes"].includes(panel.kind)
    ? `${panel.names.length} ` : "";
  const period = panel.period ? `, every ${Number((1000 * panel.period).toPrecision(3))} ms` : "";
  return `${what}${panel.kind}${panel.unit ? `, ${panel.unit}` : ""}${period}`;
}

function takeChunks(name, chunks) {
  const panel = panels.get(name);
  if (!panel) return;
  panel.came = performance.now();
  if (panel.box.hidden && !panel.inVideo) panel.box.hidden = false;
  for (const chunk of chunks) panel.view.add(chunk);
  const age = chunks.at(-1).age;
  panel.age = panel.age === undefined ? age : panel.age + 0.1 * (age - panel.age);
  if (panel.inVideo) return;
  panel.box.classList.remove("silent");
  // Said for some seconds: a picture that lacks packets looks like one of less.
  for (const { missed } of chunks) if (missed) panel.missed.push([panel.came, missed]);
  panel.missed = panel.missed.filter(([at]) => panel.came - at < MISSED_MS);
  const missed = panel.missed.reduce((sum, [, count]) => sum + count, 0);
  panel.box.querySelector(".missed").textContent = missed ? `${missed} packets not shown` : "";
  // What lags looks as live as what does not.
  panel.box.classList.toggle("old", panel.age > patience(panel.view.about));
  panel.box.querySelector(".age").textContent = panel.age < 1000
    ? `${panel.age.toFixed(panel.age < 10 ? 1 : 0)} ms old` : `${(panel.age / 1000).toFixed(1)} s old`;
  draw(panel);
}

/** For how many ms nothing new of a stream is no reason to worry. */
function patience({ period, on_change }) {
  if (on_change) return Infinity;
  return period ? Math.max(1000, 5000 * period) : 5000;
}

function draw({ view, box }) {
  // What is not laid out has no size to draw in.
  if (box.offsetParent && view.chunks.length) view.draw();
}

function enlarge(box) {
  const on = !box.classList.contains("enlarged");
  for (const other of document.querySelectorAll(".enlarged")) {
    other.classList.remove("enlarged");
    other.querySelector(".enlarge").setAttribute("aria-pressed", "false");
  }
  box.classList.toggle("enlarged", on);
  box.querySelector(".enlarge").setAttribute("aria-pressed", String(on));
  document.body.classList.toggle("one", on);
  repaint();
}

function repaint() {
  for (const panel of panels.values()) {
    panel.view.repaint();
    draw(panel);
  }
  tables?.repaint();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input")) return;
  const shown = [...$("panels").children].filter((box) => !box.hidden);
  const box = shown[Number(event.key) - 1];
  if (event.key === "Escape") {
    const enlarged = document.querySelector(".enlarged");
    if (enlarged) enlarge(enlarged);
  } else if (box && /^[1-9]$/.test(event.key)) {
    enlarge(box);
    box.querySelector(".enlarge").focus();
  }
});

// ---- the state of the run

function say(state, text, banner = "", bad = true) {
  document.body.dataset.state = state;
  if (state !== "running") arms?.enable(false);
  if ($("state").textContent !== text) $("state").textContent = text;
  if ($("banner").textContent !== banner) $("banner").textContent = banner;
  $("banner").hidden = !banner;
  $("banner").classList.toggle("bad", bad);
}

function takeStatus(status) {
  tables.take(status);
  const failed = Object.values(status.failed);
  if (failed.length) say("failed", "failed", status.message || failed[0]);
  else say(status.state, status.state);
  arms.take(status, ask);
}

function finish(message) {
  ended = true;
  tables.end();
  const text = message ? `The run has ended: ${message}` : "The run has ended. This is how it was last.";
  say(message ? "failed" : "ended", message ? "failed" : "ended", text, Boolean(message));
}

setInterval(() => {
  if (ended || document.hidden || document.body.dataset.state !== "running") return;
  const now = performance.now();
  for (const { box, came, view } of panels.values()) {
    if (!came || box.hidden) continue;
    const silent = now - came > patience(view.about);
    box.classList.toggle("silent", silent);
    if (silent) box.querySelector(".age").textContent = `silent for ${((now - came) / 1000).toFixed(0)} s`;
  }
}, WATCH_MS);

followTheme(repaint);
addEventListener("resize", repaint);
connect();
