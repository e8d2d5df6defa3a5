// What was decoded: behaviour, labels, and the rules that fire on it.

import { Strip, colours, figure, fit, floats, makeCanvas } from "../canvas.js";
import { Lines } from "./lines.js";
import { View } from "./view.js";

export class Trajectory extends View {
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

export class Label extends View {
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

export class Triggers extends View {
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
