// What a camera sees: pictures and skeletons.

import { colours, fit, floats, makeCanvas } from "../canvas.js";
import { View } from "./view.js";

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

export class Skeleton extends View {
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

export class Video extends View {
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
