// The views: each draws what one stream has carried lately.

import { Strip, colours, figure, fit, floats, makeCanvas, ramp, shorts } from "./canvas.js";

const GAP_S = 0.5; // what is missing for longer is seen

class View {
  constructor(about, box, page) {
    this.about = about;
    this.seconds = page.history;
    this.body = box.querySelector(".body");
    this.big = box.querySelector(".big");
    this.chunks = [];
    this.fresh = 0; // chunks that are not drawn yet
  }

  /** Take the next chunk of the stream. */
  add(chunk) {
    const last = this.chunks.at(-1);
    // The clock of the source may start again.
    if (last && (chunk.t < last.t - 1 || chunk.t > last.t + this.seconds)) {
      this.chunks = [];
      this.fresh = 0;
    }
    this.chunks.push(chunk);
    this.fresh += 1;
    while (this.chunks.length > this.about.depth) this.chunks.shift();
    this.fresh = Math.min(this.fresh, this.chunks.length);
  }

  /** Forget what was drawn: the colours have changed. */
  repaint() { this.fresh = this.chunks.length; }

  say(text, small = "") {
    if (this.said === text + small) return;
    this.said = text + small;
    this.big.textContent = text;
    if (small) {
      const rest = document.createElement("small");
      rest.textContent = ` ${small}`;
      this.big.append(rest);
    }
  }
}

class Raster extends View {
  constructor(about, box, page) {
    super(about, box, page);
    const canvas = makeCanvas(this.body, `raster of ${about.name}, the last ${page.history} s`);
    this.strip = new Strip(canvas, page.history);
  }

  repaint() { super.repaint(); this.strip.forget(); }

  draw() {
    const newest = this.chunks.at(-1);
    const recent = this.chunks.slice(-15);
    const hz = recent.reduce((sum, chunk) => sum + chunk.hz, 0) / recent.length;
    this.say(`${hz.toFixed(0)}`, "spikes/s");
    const all = !this.strip.advance(newest.t);
    const { context, canvas } = this.strip;
    const units = Math.max(1, this.about.names.length || 1 + this.most);
    const row = canvas.height / units;
    const tall = Math.max(1, row * 0.8);
    const wide = Math.max(1, Math.round(devicePixelRatio));
    context.fillStyle = colours.mark;
    for (const chunk of all ? this.chunks : this.chunks.slice(-this.fresh || Infinity)) {
      const at = floats(chunk.at);
      const unit = shorts(chunk.unit);
      for (let i = 0; i < at.length; i++) {
        context.fillRect(Math.round(this.strip.x(chunk.t - at[i])) - wide, unit[i] * row, wide, tall);
      }
    }
    this.fresh = 0;
  }

  add(chunk) {
    super.add(chunk);
    if (!this.about.names.length) this.most = Math.max(this.most ?? 0, ...shorts(chunk.unit));
  }
}

class Heat extends View {
  constructor(about, box, page) {
    super(about, box, page);
    const canvas = makeCanvas(this.body, `rates of ${about.name}, the last ${page.history} s`);
    this.strip = new Strip(canvas, page.history);
    this.column = document.createElement("canvas");
    this.column.width = 1;
    this.top = 1;
  }

  repaint() { super.repaint(); this.strip.forget(); }

  draw() {
    const newest = floats(this.chunks.at(-1).rates);
    const peak = newest.indexOf(newest.reduce((a, b) => Math.max(a, b), -Infinity));
    const mean = newest.reduce((a, b) => a + b, 0) / newest.length;
    const name = this.about.names[peak];
    this.say(`${figure(mean)}`, `Hz mean, highest ${figure(newest[peak])} Hz${name ? ` (${name})` : ""}`);
    const all = !this.strip.advance(this.chunks.at(-1).t);
    const first = all ? 0 : this.chunks.length - this.fresh;
    for (let i = first; i < this.chunks.length; i++) this.paint(this.chunks[i], this.chunks[i - 1]);
    this.fresh = 0;
  }

  /** Paint a chunk from where the one before ended, unless that is too long ago. */
  paint(chunk, before) {
    const rates = floats(chunk.rates);
    const high = Float32Array.from(rates).sort()[Math.floor(0.98 * (rates.length - 1))];
    // The scale follows a peak at once and comes down slowly, so that colours hold still.
    if (Number.isFinite(high)) this.top = Math.max(1, 0.995 * this.top, high);
    if (this.column.height !== rates.length) this.column.height = rates.length;
    const small = this.column.getContext("2d");
    const image = small.createImageData(1, rates.length);
    rates.forEach((rate, unit) => {
      const step = Math.max(0, Math.min(255, Math.round((255 * rate) / this.top)));
      image.data.set(ramp.subarray(4 * step, 4 * step + 4), 4 * unit);
    });
    small.putImageData(image, 0, 0);
    const since = before && chunk.t - before.t < GAP_S ? before.t : chunk.t - 1 / 30;
    const { context, canvas } = this.strip;
    context.imageSmoothingEnabled = false;
    const left = Math.floor(this.strip.x(since));
    const right = Math.ceil(this.strip.x(chunk.t));
    context.drawImage(this.column, left, 0, right - left, canvas.height);
  }
}

/** A plot of lines over time; `names` may be none. */
export class Lines {
  constructor(parent, names) {
    this.parent = parent;
    this.names = names;
  }

  repaint() {
    this.plot?.destroy();
    this.plot = null;
  }

  draw(data) {
    const width = this.parent.clientWidth;
    const height = this.parent.clientHeight;
    if (width < 40 || height < 60) return;
    // As many rows as the names need, at some 9 pixels a letter.
    const letters = this.names.reduce((sum, name) => sum + name.length + 5, 0);
    const legend = 30 * Math.max(1, Math.ceil((9 * letters) / width));
    if (!this.plot) {
      const axis = {
        stroke: colours.soft, grid: { stroke: colours.line, width: 1 },
        ticks: { stroke: colours.line, width: 1 }, font: "14px system-ui", size: 54,
      };
      this.plot = new uPlot({
        width, height: height - legend, cursor: { show: false }, padding: [8, 22, 0, 0],
        legend: { live: false, isolate: true }, scales: { x: { time: false } },
        series: [{ label: "s" }, ...this.names.map((label, i) => (
          { label, stroke: colours.lines[i % 6], width: 2, points: { show: false } }
        ))],
        axes: [{ ...axis, size: 30, values: (_, ticks) => ticks.map((t) => `${t} s`) }, axis],
      }, data, this.parent);
    } else {
      if (this.plot.width !== width || this.plot.height !== height - legend) {
        this.plot.setSize({ width, height: height - legend });
      }
      this.plot.setData(data);
    }
  }
}

class Trajectory extends View {
  constructor(about, box, page) {
    super(about, box, page);
    const columns = Array.from({ length: about.columns }, (_, i) => about.names[i] ?? `${i}`);
    if (about.columns > 1) {
      this.path = makeCanvas(this.body, `${columns[0]} and ${columns[1]}, the last 3 s`, "square");
    }
    const parent = document.createElement("div");
    parent.className = "plot";
    this.body.append(parent);
    this.columns = columns;
    this.lines = new Lines(parent, columns);
  }

  add(chunk) {
    super.add({ t: chunk.t, rows: floats(chunk.rows), at: floats(chunk.at) });
  }

  repaint() { super.repaint(); this.lines.repaint(); }

  draw() {
    const n = this.columns.length;
    const now = this.chunks.at(-1).t;
    const newest = this.chunks.at(-1).rows.slice(-n);
    const unit = this.about.unit;
    const shown = [...newest].slice(0, 3).map(figure).join("  ");
    this.say(shown, `${unit}  ${this.columns.slice(0, 3).join(", ")}`);
    const data = Array.from({ length: n + 1 }, () => []);
    for (const chunk of this.chunks) {
      for (let i = 0; i < chunk.at.length; i++) {
        data[0].push(chunk.t - chunk.at[i] - now);
        for (let c = 0; c < n; c++) data[c + 1].push(chunk.rows[i * n + c]);
      }
    }
    this.lines.draw(data);
    if (this.path) this.drawPath(data);
    this.fresh = 0;
  }

  drawPath(data) {
    fit(this.path);
    const context = this.path.getContext("2d");
    const { width } = this.path;
    context.clearRect(0, 0, width, width);
    const both = [...data[1], ...data[2]].filter(Number.isFinite);
    this.reach = Math.max(1e-9, (this.reach ?? 0) * 0.99, ...both.map(Math.abs));
    const place = (i) => [1, 2].map((c) => (
      width / 2 + (c === 1 ? 0.46 : -0.46) * width * (data[c][i] / this.reach)
    ));
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.strokeRect(width / 2, -1, 0, width + 2);
    context.strokeRect(-1, width / 2, width + 2, 0);
    context.strokeStyle = colours.lines[0];
    context.lineWidth = 3 * devicePixelRatio;
    context.lineCap = "round";
    const first = data[0].findIndex((t) => t > -3);
    for (let i = Math.max(1, first); i < data[0].length; i++) {
      context.globalAlpha = Math.max(0.04, 1 + data[0][i] / 3);
      context.beginPath();
      context.moveTo(...place(i - 1));
      context.lineTo(...place(i));
      context.stroke();
    }
    context.globalAlpha = 1;
    context.fillStyle = colours.lines[1];
    context.beginPath();
    context.arc(...place(data[0].length - 1), 7 * devicePixelRatio, 0, 7);
    context.fill();
  }
}

class Label extends View {
  constructor(about, box, page) {
    super(about, box, page);
    this.bars = document.createElement("div");
    this.bars.className = "bars";
    this.body.append(this.bars);
    this.rows = Array.from({ length: Math.min(5, about.names.length) }, () => {
      const row = document.createElement("div");
      row.innerHTML = "<span></span><i><b></b></i><output></output>";
      this.bars.append(row);
      return { name: row.children[0], bar: row.querySelector("b"), value: row.children[2] };
    });
  }

  draw() {
    const { p, label, share } = this.chunks.at(-1);
    this.say(label || "unknown", `${Math.round(100 * share)} %`);
    const values = floats(p);
    const order = [...values.keys()].sort((a, b) => values[b] - values[a]);
    this.rows.forEach((row, i) => {
      const value = values[order[i]];
      row.name.textContent = this.about.names[order[i]];
      row.bar.style.width = `${100 * (value || 0)}%`;
      row.value.textContent = Number.isFinite(value) ? `${(100 * value).toFixed(0)} %` : "–";
    });
  }
}

/** Draw bones; `place` turns x, y, z of a joint into pixels, or null when it is not seen. */
function drawBones(context, about, joints, place, width) {
  const count = about.sides.length;
  context.lineWidth = width;
  context.lineCap = "round";
  for (let first = 0; first + count <= joints.length / 3; first += count) {
    for (const [a, b] of about.bones) {
      const from = place(joints.subarray(3 * (first + a), 3 * (first + a) + 3));
      const to = place(joints.subarray(3 * (first + b), 3 * (first + b) + 3));
      if (!from || !to) continue;
      const side = about.sides[a] && about.sides[a] === about.sides[b] ? about.sides[a] : 0;
      context.strokeStyle = [colours.mark, colours.left, colours.right][side];
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    }
  }
}

class Skeleton extends View {
  constructor(about, box, page) {
    super(about, box, page);
    this.canvas = makeCanvas(this.body, `skeleton of ${about.name}`);
    this.reach = 0;
  }

  repaint() { super.repaint(); this.reach = 0; }

  get joints() { return floats(this.chunks.at(-1).joints); }

  draw() {
    fit(this.canvas);
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const joints = this.joints;
    const flat = this.about.kind === "keypoints";
    const xs = [];
    const ys = [];
    for (let i = 0; i < joints.length; i += 3) {
      if (Number.isFinite(joints[i])) xs.push(joints[i]), ys.push(joints[i + 1]);
    }
    this.say(xs.length ? "" : "nobody in view");
    if (!xs.length) return;
    const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
    const spread = (values) => Math.max(...values) - Math.min(...values);
    this.reach = Math.max(0.98 * this.reach, spread(ys), (spread(xs) * height) / width);
    const scale = (0.9 * height) / (this.reach || 1);
    const [x, y] = [middle(xs), middle(ys)];
    // Metres have x to the left and y up, pixels the other way round.
    const sign = flat ? 1 : -1;
    const place = (joint) => (Number.isFinite(joint[0])
      ? [width / 2 + sign * (joint[0] - x) * scale, height / 2 + sign * (joint[1] - y) * scale]
      : null);
    drawBones(context, this.about, joints, place, 4 * devicePixelRatio);
  }
}

class Video extends View {
  constructor(about, box, page) {
    super(about, box, page);
    this.canvas = makeCanvas(this.body, `picture of ${about.name}`);
    this.over = []; // views of what was found in these frames
  }

  add(chunk) {
    if (!chunk.jpeg) return;
    super.add(chunk);
    const wanted = chunk;
    createImageBitmap(new Blob([chunk.jpeg], { type: "image/jpeg" })).then((picture) => {
      if (this.chunks.at(-1) !== wanted) return;
      this.picture?.close();
      this.picture = picture;
      this.draw();
    });
  }

  draw() {
    if (!this.picture) return;
    fit(this.canvas);
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const scale = Math.min(width / this.picture.width, height / this.picture.height);
    const [w, h] = [this.picture.width * scale, this.picture.height * scale];
    const [left, top] = [(width - w) / 2, (height - h) / 2];
    context.drawImage(this.picture, left, top, w, h);
    for (const view of this.over) {
      if (!view.chunks.length) continue;
      const [across, down] = view.about.size;
      const place = (joint) => (joint[2] >= 0.5
        ? [left + (joint[0] / across) * w, top + (joint[1] / down) * h] : null);
      drawBones(context, view.about, view.joints, place, 3 * devicePixelRatio);
    }
  }
}

class Roll extends View {
  constructor(about, box, page) {
    super(about, box, page);
    this.canvas = makeCanvas(this.body, `piano roll of ${about.name}`);
  }

  draw() {
    fit(this.canvas);
    const { notes, seconds } = this.chunks.at(-1);
    const rows = floats(notes);
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const [low, high] = [21, 108];
    const row = height / (high - low + 1);
    const y = (pitch) => height - (pitch - low + 1) * row;
    const x = (ago) => width * (1 - ago / seconds);
    context.fillStyle = colours.line;
    context.globalAlpha = 0.45;
    for (let pitch = low; pitch <= high; pitch++) {
      if ([1, 3, 6, 8, 10].includes(pitch % 12)) context.fillRect(0, y(pitch), width, row);
    }
    const down = [];
    for (let i = 0; i < rows.length; i += 5) {
      const [pitch, velocity, on, off, end] = rows.subarray(i, i + 5);
      if (off === 0) down.push(pitch);
      context.fillStyle = colours.lines[pitch % 12 in { 1: 0, 3: 0, 6: 0, 8: 0, 10: 0 } ? 1 : 0];
      context.globalAlpha = 0.25;
      context.fillRect(x(on), y(pitch), x(end) - x(on), row);
      context.globalAlpha = 0.55 + velocity / 290;
      context.fillRect(x(on), y(pitch), Math.max(2, x(off) - x(on)), row);
    }
    context.globalAlpha = 1;
    const names = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
    const name = (pitch) => names[pitch % 12] + (Math.floor(pitch / 12) - 1);
    this.say(down.sort((a, b) => a - b).map(name).join(" ") || "–", `${down.length} keys down`);
  }
}

class Matrix extends View {
  constructor(about, box, page) {
    super(about, box, page);
    this.canvas = makeCanvas(this.body, `who drives whom in ${about.name}: from row to column`, "square");
    this.facts = document.createElement("p");
    this.facts.className = "about";
    this.facts.style.whiteSpace = "pre-line";
    this.body.append(this.facts);
    this.small = document.createElement("canvas");
  }

  draw() {
    const { weights, edges, top, facts } = this.chunks.at(-1);
    const steps = new Int8Array(weights.slice().buffer);
    const units = Math.round(Math.sqrt(steps.length));
    this.say(`${edges}`, `edges among ${units} units`);
    this.facts.textContent = [
      "row drives column", `largest weight ${figure(top)}`,
      ...Object.entries(facts).map(([key, value]) => `${key} ${figure(value)}`),
    ].join("\n");
    this.small.width = this.small.height = units;
    const context = this.small.getContext("2d");
    const image = context.createImageData(units, units);
    steps.forEach((step, i) => {
      const colour = step > 0 ? [230, 110, 40] : [60, 125, 215];
      image.data.set([...colour, step ? 60 + 195 * (Math.abs(step) / 127) : 0], 4 * i);
    });
    context.putImageData(image, 0, 0);
    fit(this.canvas);
    const shown = this.canvas.getContext("2d");
    shown.imageSmoothingEnabled = false;
    shown.clearRect(0, 0, this.canvas.width, this.canvas.height);
    shown.drawImage(this.small, 0, 0, this.canvas.width, this.canvas.height);
  }
}

class Triggers extends View {
  constructor(about, box, page) {
    super(about, box, page);
    const list = document.createElement("ul");
    list.className = "lamps";
    this.rows = about.names.map((name) => {
      const row = document.createElement("li");
      row.innerHTML = "<i></i><span></span><b></b>";
      row.children[1].textContent = name;
      list.append(row);
      return row;
    });
    this.body.append(list);
    const canvas = makeCanvas(this.body, `when rules of ${about.name} fired`);
    // As high as the list beside it, whose height must not follow that of the canvas.
    canvas.style.height = `${36 * about.names.length}px`;
    this.strip = new Strip(canvas, page.history);
    this.since = about.names.map(() => -Infinity);
  }

  repaint() { super.repaint(); this.strip.forget(); }

  draw() {
    const newest = this.chunks.at(-1);
    const fresh = this.chunks.slice(-this.fresh || Infinity);
    const all = !this.strip.advance(newest.t);
    const { context, canvas } = this.strip;
    const row = 36 * devicePixelRatio;
    const wide = 3 * devicePixelRatio;
    context.fillStyle = colours.bad;
    for (const chunk of all ? this.chunks : fresh) {
      chunk.on.forEach((on, rule) => {
        if (!on) return;
        context.fillRect(this.strip.x(chunk.t) - wide, rule * row + 3, wide, row - 10);
        this.since[rule] = performance.now();
      });
    }
    this.rows.forEach((item, rule) => {
      // A flash of one packet is held so long that an eye catches it.
      item.classList.toggle("on", newest.now[rule] || performance.now() - this.since[rule] < 150);
      item.children[2].textContent = newest.count[rule];
    });
    this.fresh = 0;
  }
}

export const VIEWS = {
  raster: Raster, heat: Heat, trajectory: Trajectory, label: Label, skeleton: Skeleton,
  video: Video, roll: Roll, matrix: Matrix, triggers: Triggers,
};
