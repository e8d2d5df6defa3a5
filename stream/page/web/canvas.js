// What the drawings share: colours of the theme, sharp canvases, pictures that move to the left.

const dark = matchMedia("(prefers-color-scheme: dark)");
const STOPS = {
  dark: [[13, 15, 17], [56, 21, 92], [150, 41, 104], [232, 96, 60], [252, 190, 70], [252, 252, 190]],
  light: [[250, 251, 250], [200, 222, 226], [105, 172, 190], [36, 110, 150], [23, 55, 104], [12, 16, 46]],
};

export let colours = {};
export let ramp = new Uint8ClampedArray(0);

/** Read the colours of the theme; `changed` is called when somebody chooses another one. */
export function followTheme(changed) {
  const read = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    const names = ["ink", "soft", "line", "accent", "good", "bad", "mark", "left", "right", "inset"];
    colours = Object.fromEntries(names.map((name) => [name, of(name)]));
    colours.lines = dark.matches
      ? ["#58b8a7", "#ee9a4d", "#6fa8ea", "#e58bbf", "#c3d067", "#b7a1f0"]
      : ["#1f6f63", "#c9691a", "#2f6db5", "#a8397c", "#66711a", "#6a4fc0"];
    const stops = dark.matches ? STOPS.dark : STOPS.light;
    ramp = new Uint8ClampedArray(256 * 4);
    for (let i = 0; i < 256; i++) {
      const at = (i / 255) * (stops.length - 1);
      const from = Math.min(stops.length - 2, Math.floor(at));
      for (let c = 0; c < 3; c++) {
        ramp[4 * i + c] = stops[from][c] + (at - from) * (stops[from + 1][c] - stops[from][c]);
      }
      ramp[4 * i + 3] = 255;
    }
  };
  read();
  dark.addEventListener("change", () => { read(); changed(); });
}

/** Give a canvas as many pixels as the screen has there. Return whether that has changed it. */
export function fit(canvas) {
  const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  const height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}

export function makeCanvas(parent, label, className = "") {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.className = className;
  parent.append(canvas);
  return canvas;
}

/** A picture whose right edge is now: it moves to the left as time goes on. */
export class Strip {
  constructor(canvas, seconds) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.seconds = seconds;
    this.edge = null; // time at the right edge
  }

  /** Make room up to a time. Return false when all has to be drawn anew. */
  advance(time) {
    const resized = fit(this.canvas);
    const { width, height } = this.canvas;
    const scale = width / this.seconds;
    const jump = this.edge === null ? Infinity : time - this.edge;
    if (resized || jump > this.seconds || jump < -1) {
      this.context.clearRect(0, 0, width, height);
      this.edge = time;
      return false;
    }
    const shift = Math.max(0, Math.ceil(jump * scale));
    if (shift) {
      this.context.globalCompositeOperation = "copy";
      this.context.drawImage(this.canvas, -shift, 0);
      this.context.globalCompositeOperation = "source-over";
      this.edge += shift / scale;
    }
    return true;
  }

  x(time) {
    const { width } = this.canvas;
    return width - ((this.edge - time) * width) / this.seconds;
  }

  forget() { this.edge = null; }
}

export const floats = (bytes) => new Float32Array(bytes.slice().buffer);
export const shorts = (bytes) => new Uint16Array(bytes.slice().buffer);

export function figure(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(2);
}
