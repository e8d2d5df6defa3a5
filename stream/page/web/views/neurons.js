// What neurons do: spikes, rates, and who drives whom.

import { Strip, colours, figure, fit, floats, makeCanvas, ramp, shorts } from "../canvas.js";
import { View } from "./view.js";

const GAP_S = 0.5; // what is missing for longer is seen

export class Raster extends View {
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

export class Heat extends View {
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

export class Matrix extends View {
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
