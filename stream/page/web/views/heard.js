// Notes.

import { colours, fit, floats, makeCanvas } from "../canvas.js";
import { View } from "./view.js";

export class Roll extends View {
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
