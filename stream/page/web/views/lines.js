// A plot of lines over time.

import { colours } from "../canvas.js";

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
