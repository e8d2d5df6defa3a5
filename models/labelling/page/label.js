// The page: asks the server what there is, shows a clip, and says what somebody said of it.

import { drawCurve, drawSkeleton, prepared } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const TOKEN = new URLSearchParams(location.search).get("token") ?? "";
const KEYS = [..."123456789abcdefghijklmnopqrstuvwxyz"];
const POLL_MS = 1000;
const BUSY_POLL_MS = 400;
const HOLD_S = 0.6; // the last pose stays so long before a clip begins again
const NEW_CLIPS = 10;

let state = null;
let clip = null; // what is shown, prepared for drawing
let wanted = null; // name of what is to be shown
let seconds = 0;
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
let yaw = 0;

// ---- talking to the server

async function ask(path, body) {
  const request = { headers: { "X-Token": TOKEN } };
  if (body) {
    request.method = "POST";
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Error("The server has ended. Start 'innervate label' again: all labels are kept.");
  }
  if (answer.status === 204) return null;
  const content = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(content.error), { status: answer.status });
  return content;
}

function say(text, bad = false) {
  $("message").hidden = !text;
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

let lost = false;

async function poll() {
  try {
    const news = await ask(`/api/state?since=${lost || !state ? -1 : state.version}`);
    if (lost) say("");
    lost = false;
    if (news) take(news);
  } catch (error) {
    lost = true;
    say(error.message, true);
  }
  setTimeout(poll, state?.job ? BUSY_POLL_MS : POLL_MS);
}

let sending = Promise.resolve();

/** Send what somebody did, one thing after the other; then do `after` with what holds now. */
function send(path, body, after = () => {}) {
  sending = sending.then(async () => {
    try {
      const news = await ask(path, body());
      say("");
      take(news);
      after();
    } catch (error) {
      say(error.message, true);
      if (clip && !wanted) wanted = clip.name;
      if (error.status === 409) {
        take(await ask("/api/state"));
        next();
      }
    }
  }).catch((error) => say(error.message, true));
}

// ---- what somebody does

const labelOf = (name) => state.history.find((item) => item.clip === name)?.class ?? null;
const next = () => show(state.queue[0] ?? null);

function label(name) {
  if (!clip || clip.name !== wanted) return; // it is not on the screen yet
  const body = { clip: clip.name, name, was: labelOf(clip.name) };
  wanted = null;
  send("/api/label", () => body, next);
}

function skip() {
  if (!clip || clip.name !== wanted) return;
  const body = { clip: clip.name, was: labelOf(clip.name) };
  wanted = null;
  send("/api/skip", () => body, next);
}

function undo() {
  if (!state?.undo) return;
  const name = state.undo;
  send("/api/undo", () => ({ clip: name }), () => show(name));
}

function addClass(event) {
  event.preventDefault();
  const name = $("new-class").value.trim();
  if (!name) return;
  send("/api/class", () => ({ name }), () => {
    $("new-class").value = "";
    $("new-class").blur();
  });
}

function togglePlay() {
  playing = !playing;
  if (playing && clip && seconds >= lastSecond()) seconds = 0;
  showPlaying();
}

// ---- showing what there is

function take(news) {
  if (state && news.version < state.version) return; // an older answer came late
  state = news;
  document.title = `${news.labels} labelled · innervate label`;
  $("session").textContent = news.session;
  $("counts").textContent =
    `${news.labels} labelled · ${news.skipped} skipped · ${news.clips} clips`;
  showClasses();
  showHistory();
  showLearning();
  if (!wanted && !clip) next();
  else showClip();
  if (news.problem) say(news.problem, true);
}

function showClasses() {
  $("no-class").hidden = state.classes.length > 0;
  const own = clip ? labelOf(clip.name) : null;
  fill($("classes"), state.classes.map(({ name, count }, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(
      element("kbd", KEYS[number].toUpperCase()), element("span", name), element("small", count),
    );
    button.setAttribute("aria-keyshortcuts", KEYS[number]);
    button.setAttribute("aria-pressed", String(name === own));
    button.addEventListener("click", () => label(name));
    return button;
  }));
}

function showHistory() {
  fill($("history"), state.history.map((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-current", String(item.clip === clip?.name));
    const said = element("span", item.class ?? "skipped");
    const name = element("span", item.clip);
    name.className = "name";
    button.append(said, name, element("small", item.held_out ? "held out" : ""));
    button.title = item.held_out ? "This label measures; it is not learned from." : "Show it again";
    button.addEventListener("click", () => show(item.clip));
    const line = document.createElement("li");
    line.append(button);
    return line;
  }));
  const out = Object.entries(state.left_out);
  $("left-out").textContent = out.length ? `${out.length} clips left out` : "";
  $("left-out").title = out.map(([name, reason]) => `${name} ${reason}`).join("\n");
}

function showLearning() {
  drawCurve($("curve"), state.rounds);
  const last = state.rounds.at(-1);
  const percent = (share) => `${Math.round(100 * share)} %`;
  if (!last) {
    $("accuracy").textContent = "One label in five is held out at random, to measure.";
  } else if (last.accuracy === undefined) {
    $("accuracy").textContent = "No label is held out yet, so nothing is measured.";
  } else {
    $("accuracy").textContent =
      `${percent(last.accuracy)} of ${last.held_out} held-out labels are recognised` +
      ` (95 % interval ${percent(last.low)} to ${percent(last.high)}).`;
  }
  const fresh = state.labels - (last ? last.labels + last.held_out : 0);
  $("since").textContent = fresh > 0 ? `${fresh} new labels` : "";
  const job = state.job;
  $("work").hidden = !job;
  if (job) {
    const { stage = "starting", done = 0, of = 0 } = job;
    $("stage").textContent = of > 1 ? `${stage}: ${done} of ${of}` : stage;
    if (of > 1) $("progress").value = done / of;
    else $("progress").removeAttribute("value");
  }
  $("train").disabled = Boolean(state.cannot_train);
  $("train").classList.toggle("main", fresh >= NEW_CLIPS || !last);
  $("export").disabled = Boolean(job) || !last;
  $("why").textContent = job ? "" : state.cannot_train && `To train: ${state.cannot_train}`;
  const made = state.exported;
  $("exported").hidden = !made;
  if (made) {
    $("exported").textContent =
      `Round ${made.round} is in ${made.file}. Every tick agrees with PyTorch` +
      ` to ${made.error.toExponential(1)}.`;
  }
}

async function show(name) {
  wanted = name;
  if (!name) clip = null;
  if (!name || clip?.name === name) {
    showClip();
    return;
  }
  try {
    const found = await ask(`/api/clip?name=${encodeURIComponent(name)}`);
    if (wanted !== name) return; // somebody went on meanwhile
    clip = prepared(found);
    seconds = 0;
    const video = $("video");
    $("video-box").hidden = !found.video;
    if (found.video) {
      video.src = `/api/video?name=${encodeURIComponent(name)}&token=${encodeURIComponent(TOKEN)}`;
    } else {
      video.removeAttribute("src");
      video.load();
    }
    $("position").max = clip.frames.length - 1;
    showPlaying();
    showClip();
  } catch (error) {
    say(error.message, true);
  }
}

function showClip() {
  const own = clip && labelOf(clip.name);
  $("clip-name").textContent = clip ? clip.name : "";
  const item = clip && state.history.find((one) => one.clip === clip.name);
  $("clip-note").textContent = item ? (own ? `labelled ${own}` : "skipped") : "";
  const preparing = state.job?.kind === "prepare";
  $("waiting").hidden = Boolean(clip);
  $("waiting-text").textContent = preparing
    ? "Finding out which movements are alike, before the first clip.\nName the classes meanwhile."
    : "Every clip is labelled or skipped.";
  for (const id of ["front", "side"]) {
    $(id).setAttribute("aria-label", clip ? `Skeleton of ${clip.name}` : "No clip");
  }
  $("skip").disabled = !clip;
  $("undo").disabled = !state.undo;
  showClasses();
  for (const button of $("history").querySelectorAll("button")) {
    const name = button.querySelector(".name").textContent;
    button.setAttribute("aria-current", String(name === clip?.name));
  }
}

/** Replace children, and leave the keyboard's focus where it was. */
function fill(parent, children) {
  const at = [...parent.children].findIndex((child) => child.contains(document.activeElement));
  parent.replaceChildren(...children);
  if (at >= 0) (children[at]?.querySelector("button") ?? children[at])?.focus();
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

// ---- playing

const lastSecond = () => (clip.frames.length - 1) / clip.fps;

function showPlaying() {
  $("play").textContent = playing ? "Pause" : "Play";
  const video = $("video");
  if (!video.getAttribute("src")) return;
  if (playing) video.play().catch(() => {});
  else video.pause();
}

let before = performance.now();

function tick(time) {
  if (clip && playing) {
    seconds += Math.min(0.1, (time - before) / 1000);
    if (seconds > lastSecond() + HOLD_S) {
      seconds = 0;
      if (!$("video-box").hidden) $("video").currentTime = 0;
    }
  }
  before = time;
  const frame = clip ? Math.min(clip.frames.length - 1, Math.round(seconds * clip.fps)) : 0;
  if (clip) {
    $("position").value = frame;
    $("time").textContent = `${(frame / clip.fps).toFixed(1)} of ${lastSecond().toFixed(1)} s`;
  }
  drawSkeleton($("front"), clip, frame, yaw);
  drawSkeleton($("side"), clip, frame, yaw + Math.PI / 2);
  requestAnimationFrame(tick);
}

for (const canvas of [$("front"), $("side")]) {
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) yaw += event.movementX / 120;
  });
}

$("position").addEventListener("input", () => {
  playing = false;
  seconds = Number($("position").value) / clip.fps;
  if (!$("video-box").hidden) $("video").currentTime = seconds;
  showPlaying();
});

// ---- keys

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state) return;
  const target = event.target;
  if (target.id === "new-class") {
    if (event.key === "Escape") target.blur();
    return;
  }
  const turns = { ArrowLeft: -0.2, ArrowRight: 0.2 };
  if (event.key in turns && target.id !== "position") yaw += turns[event.key];
  else if (event.key === " " && target.tagName !== "BUTTON") togglePlay();
  else if (event.repeat) return;
  else if (event.key === "0") skip();
  else if (event.key === "Backspace") undo();
  else if (event.key === "+") $("new-class").focus();
  else {
    const number = KEYS.indexOf(event.key.toLowerCase());
    if (number < 0 || number >= state.classes.length) return;
    label(state.classes[number].name);
  }
  event.preventDefault();
});

// A button that was clicked gives the keys back, so that Space pauses again.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && event.detail > 0) button.blur();
});

$("play").addEventListener("click", togglePlay);
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("add").addEventListener("submit", addClass);
$("train").addEventListener("click", () => send("/api/train", () => ({})));
$("export").addEventListener("click", () => send("/api/export", () => ({})));

requestAnimationFrame(tick);
poll();
