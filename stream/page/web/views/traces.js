// Continuous channels: a handful of traces that scroll, drawn by lowest and highest value.

import { Strip, colours, figure, floats, makeCanvas, shorts } from "../canvas.js";
import { View } from "./view.js";

const SCALED_OVER = 60; // chunks that the scale is taken from

export class Traces extends View {
  constructor(about, box, page) {
    super(about, box, page);
    this.rows = about.drawn;
    this.channels = Array.from({ length: this.rows }, (_, row) => row);
    this.names = Array.from({ length: about.channels }, (_, i) => about.names[i] ?? `${i}`);
    this.choose = (channels) => page.ask({ type: "Show", stream: about.name, channels });
    this.inputs = this.makeInputs();
    if (about.channels > this.rows) this.makeButtons(box);
    this.strip = new Strip(
      makeCanvas(this.body, `traces of ${about.name}, the last ${page.history} s`), page.history,
    );
    this.column = Math.max(0.01, 1 / about.rate); // s
    this.reach = 0; // what half a row stands for, 0 while that is not known
    this.middles = new Float32Array(this.rows);
  }

  makeInputs() {
    const list = document.createElement("datalist");
    list.id = `channels-${this.about.name}`;
    list.append(...this.names.map((name) => new Option(name)));
    const column = document.createElement("div");
    column.className = "channels";
    this.body.append(list, column);
    return this.channels.map((channel, row) => {
      const input = document.createElement("input");
      input.setAttribute("list", list.id);
      input.setAttribute("aria-label", `Channel in row ${row + 1} of ${this.about.name}`);
      input.value = this.names[channel];
      input.onchange = () => {
        const wanted = this.names.indexOf(input.value);
        if (wanted < 0) input.value = this.names[this.channels[row]];
        else this.choose(this.channels.map((old, i) => (i === row ? wanted : old)));
      };
      column.append(input);
      return input;
    });
  }

  makeButtons(box) {
    for (const [text, label, by] of [["‹", "Channels before", -1], ["›", "Channels after", 1]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-label", `${label} these of ${this.about.name}`);
      button.onclick = () => {
        const last = this.names.length - this.rows;
        const first = Math.max(0, Math.min(last, Math.min(...this.channels) + by * this.rows));
        this.choose(this.channels.map((_, row) => first + row));
      };
      box.querySelector(".enlarge").before(button);
    }
  }

  repaint() { super.repaint(); this.strip.forget(); }

  add(chunk) {
    if (!chunk.at) return; // nobody looked then
    const channels = [...shorts(chunk.channels)];
    if (String(channels) !== String(this.channels)) {
      this.channels = channels;
      this.inputs.forEach((input, row) => { input.value = this.names[channels[row]]; });
      this.chunks = [];
      this.fresh = 0;
      this.reach = 0;
      this.strip.forget();
    }
    super.add({ t: chunk.t, at: floats(chunk.at), low: floats(chunk.low), high: floats(chunk.high) });
  }

  draw() {
    if (this.rescale()) this.repaint();
    const all = !this.strip.advance(this.chunks.at(-1).t);
    const first = all ? 0 : this.chunks.length - this.fresh;
    for (let i = first; i < this.chunks.length; i++) this.paint(this.chunks[i], this.chunks[i - 1]);
    this.fresh = 0;
    this.say(`±${figure(this.reach)}`, `${this.about.unit} a row`);
  }

  /** Choose what a row stands for, in steps, so that pictures hold still. Return whether it is new. */
  rescale() {
    const recent = this.chunks.slice(-SCALED_OVER);
    const middles = this.middles.map((_, row) => middle(recent, row, this.rows));
    let reach = 0;
    for (const { low, high } of recent) {
      for (let i = 0; i < low.length; i++) {
        const away = Math.max(middles[i % this.rows] - low[i], high[i] - middles[i % this.rows]);
        if (away > reach && away < Infinity) reach = away;
      }
    }
    const drift = Math.max(...middles.map((now, row) => Math.abs(now - this.middles[row])));
    // It grows at once, and shrinks when there is some room.
    let step = this.reach;
    if (!step || reach > step) step = nice(reach);
    else if (nice(1.1 * reach) < step) step = nice(1.1 * reach);
    if (step === this.reach && drift < 0.5 * step) return false;
    this.reach = step;
    this.middles = middles;
    return true;
  }

  /** Draw from the lowest to the highest value of each column, and up to the column before. */
  paint(chunk, before) {
    const { context, canvas } = this.strip;
    const tall = canvas.height / this.rows;
    const thin = Math.max(1, devicePixelRatio);
    const wide = Math.max(thin, (canvas.width / this.seconds) * this.column);
    const near = (one, i, j) => chunk.t - chunk.at[j] - (one.t - one.at[i]) < 1.5 * this.column;
    for (let row = 0; row < this.rows; row++) {
      context.fillStyle = colours.lines[row % 6];
      const y = (value) => (row + 0.5) * tall - ((value - this.middles[row]) / this.reach) * tall / 2;
      const steps = before?.at.length ?? 0;
      let last = steps && near(before, steps - 1, 0)
        ? [before.low, before.high].map((of) => of[(steps - 1) * this.rows + row]) : null;
      for (let i = 0; i < chunk.at.length; i++) {
        const low = chunk.low[i * this.rows + row];
        const high = chunk.high[i * this.rows + row];
        if (i && !near(chunk, i - 1, i)) last = null;
        if (Number.isFinite(low) && Number.isFinite(high)) {
          // A line has no holes where it is steep.
          const top = y(last && Number.isFinite(last[0]) ? Math.max(high, last[0]) : high);
          const bottom = y(last && Number.isFinite(last[1]) ? Math.min(low, last[1]) : low);
          const left = this.strip.x(chunk.t - chunk.at[i]);
          context.fillRect(left, top - thin / 2, wide, Math.max(thin, bottom - top + thin));
        }
        last = [low, high];
      }
    }
  }
}

/** Where a channel lies on the whole. */
function middle(chunks, row, rows) {
  let [sum, count] = [0, 0];
  for (const { low, high } of chunks) {
    for (let i = row; i < low.length; i += rows) {
      const value = (low[i] + high[i]) / 2;
      if (Number.isFinite(value)) sum += value, count += 1;
    }
  }
  return count ? sum / count : 0;
}

/** Return the next of 1, 2, 5, 10, 20 and so on. */
function nice(size) {
  if (!size) return 1;
  const power = 10 ** Math.floor(Math.log10(size));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= 0.9999 * size);
}
