// A view draws what one stream has carried lately.

export class View {
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
