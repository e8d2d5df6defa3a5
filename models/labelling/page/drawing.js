// Skeletons on canvases, and the curve of accuracy. Nothing here talks to the server.

const PITCH = 0.16; // radians that the eye looks down
const GRID_M = 0.5;
const HEAD_M = 0.1;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Return a clip with what drawing needs: metres around its centre, sizes, sides of joints. */
export function prepared(clip) {
  const frames = clip.joints_mm.map((flat) => {
    const joints = [];
    for (let i = 0; i < flat.length; i += 3) {
      joints.push([flat[i] / 1000, flat[i + 1] / 1000, flat[i + 2] / 1000]);
    }
    return joints;
  });
  const hip = clip.names.indexOf("hip_center");
  const middle = (axis) => {
    const all = frames.map((joints) => joints[hip][axis]);
    return (Math.min(...all) + Math.max(...all)) / 2;
  };
  const [x, z] = [middle(0), middle(2)];
  let [low, high, reach] = [Infinity, -Infinity, 0.5];
  for (const joints of frames) {
    for (const joint of joints) {
      joint[0] -= x;
      joint[2] -= z;
      low = Math.min(low, joint[1]);
      high = Math.max(high, joint[1]);
      reach = Math.max(reach, Math.hypot(joint[0], joint[2]));
    }
  }
  const side = clip.names.map((name) => name.match(/^(left|right)_/)?.[1] ?? "body");
  const hands = ["left_hand", "right_hand"].map((name) => clip.names.indexOf(name));
  return { ...clip, frames, low, high, reach, side, hands, head: clip.names.indexOf("head") };
}

/** Draw the frame nearest to a time, seen from `yaw` radians beside the camera. */
export function drawSkeleton(canvas, clip, frame, yaw) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  if (!clip) return;
  const tall = clip.high - clip.low + 2 * clip.reach * Math.sin(PITCH) + 0.35;
  const scale = Math.min(width / (2 * clip.reach + 0.3), height / tall);
  const [c, s] = [Math.cos(yaw), Math.sin(yaw)];
  const [up, back] = [Math.cos(PITCH), Math.sin(PITCH)];
  const centre = (clip.high + clip.low) / 2;
  // x grows to the left as the camera sees it, z away from it.
  const point = ([x, y, z]) => [
    width / 2 - scale * (c * x + s * z),
    height / 2 - scale * (up * (y - centre) + back * (c * z - s * x)),
  ];
  const line = (points, style, thickness, alpha = 1) => {
    g.strokeStyle = style;
    g.lineWidth = thickness;
    g.globalAlpha = alpha;
    g.beginPath();
    for (const p of points) g.lineTo(...point(p));
    g.stroke();
    g.globalAlpha = 1;
  };
  g.lineCap = g.lineJoin = "round";
  const span = GRID_M * Math.ceil(clip.reach / GRID_M);
  for (let at = -span; at <= span + 1e-6; at += GRID_M) {
    line([[at, clip.low, -span], [at, clip.low, span]], colour("--grid"), 1);
    line([[-span, clip.low, at], [span, clip.low, at]], colour("--grid"), 1);
  }
  const style = { left: colour("--left"), right: colour("--right"), body: colour("--body") };
  for (const hand of clip.hands) {
    const path = clip.frames.map((joints) => joints[hand]);
    line(path, style[clip.side[hand]], 1.5, 0.22);
    line(path.slice(0, frame + 1), style[clip.side[hand]], 1.5, 0.55);
  }
  const joints = clip.frames[frame];
  const thick = Math.max(3, 0.035 * scale);
  for (const [a, b] of clip.edges) {
    const own = [clip.side[a], clip.side[b]].find((name) => name !== "body") ?? "body";
    line([joints[a], joints[b]], style[own], thick);
  }
  g.fillStyle = style.body;
  g.beginPath();
  g.arc(...point(joints[clip.head]), HEAD_M * scale, 0, 2 * Math.PI);
  g.fill();
}

const SVG = "http://www.w3.org/2000/svg";

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
}

/** Draw accuracy on held-out labels over labels learned from, with what chance leaves open. */
export function drawCurve(svg, rounds) {
  svg.replaceChildren();
  const measured = rounds.filter((done) => done.accuracy !== undefined);
  const most = Math.max(20, ...measured.map((done) => done.labels)) * 1.05;
  const x = (labels) => 44 + (404 * labels) / most;
  const y = (share) => 160 - 148 * share;
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    add(svg, "line", { class: "axis", x1: 44, x2: 448, y1: y(share), y2: y(share) });
    add(svg, "text", { x: 36, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`);
  }
  const step = [5, 10, 20, 50, 100, 200, 500, 1000].find((n) => most / n <= 6) ?? 2000;
  for (let at = 0; at <= most; at += step) {
    add(svg, "text", { x: x(at), y: 176, "text-anchor": "middle" }, at);
  }
  add(svg, "text", { x: 246, y: 193, "text-anchor": "middle" }, "labels learned from");
  svg.setAttribute("aria-label", "Accuracy on held-out labels after each round");
  if (!measured.length) {
    add(svg, "text", { x: 246, y: 90, "text-anchor": "middle" }, "accuracy after each round");
    return;
  }
  const path = (points) => points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ");
  const band = [
    ...measured.map((done) => [x(done.labels), y(done.high)]),
    ...measured.map((done) => [x(done.labels), y(done.low)]).reverse(),
  ];
  add(svg, "polygon", { class: "band", points: path(band) });
  const line = measured.map((done) => [x(done.labels), y(done.accuracy)]);
  add(svg, "polyline", { class: "line", points: path(line) });
  for (const [cx, cy] of line) add(svg, "circle", { class: "point", cx, cy, r: 3.5 });
}
