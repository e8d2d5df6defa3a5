// Which triggers are armed, with a button each to arm and disarm it.

const SURE_MS = 4000;
const PATIENCE_MS = 3000;

export class Arms {
  constructor(box) {
    this.box = box;
    this.rows = new Map(); // by node
    box.replaceChildren();
  }

  /** Show what a status says; `ask` is how a wish gets to the run. */
  take(status, ask) {
    this.status = status;
    const nodes = Object.entries(status.nodes).filter(([, node]) => typeof node.armed === "boolean");
    this.box.hidden = !nodes.length;
    for (const [name, { armed }] of nodes) {
      if (!this.rows.has(name)) this.rows.set(name, new Row(this, name, ask));
      this.rows.get(name).show(armed);
    }
    this.enable(status.state === "running");
  }

  /** Without a run that is heard of, nothing can be switched. */
  enable(on) {
    for (const { button } of this.rows.values()) button.disabled = !on;
  }
}

class Row {
  constructor(arms, name, ask) {
    this.line = document.createElement("p");
    this.line.dataset.node = name;
    const who = document.createElement("b");
    who.textContent = name;
    this.state = document.createElement("span");
    this.state.setAttribute("role", "status");
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.onclick = () => {
      const wanted = !this.armed;
      // To disarm takes one press, to arm takes two.
      if (wanted && !this.sure) {
        this.set("sure", SURE_MS);
        return;
      }
      ask({ type: "Arm", node: name, armed: wanted, seen_ns: arms.status.t_ns });
      this.set("waits", PATIENCE_MS);
    };
    this.line.append(who, this.state, this.button);
    arms.box.append(this.line);
  }

  /** Be sure of something, or wait, for a while. */
  set(what, forMs) {
    clearTimeout(this.timer);
    this.sure = this.waits = false;
    if (what) {
      this[what] = true;
      this.timer = setTimeout(() => this.set(), forMs);
    }
    this.label();
  }

  show(armed) {
    if (armed === this.armed) return;
    this.armed = armed;
    this.state.textContent = armed ? "armed" : "dry";
    this.line.classList.toggle("armed", armed);
    this.set();
  }

  label() {
    const name = this.line.dataset.node;
    const what = this.armed ? "Disarm" : this.sure ? "Press again to arm" : "Arm";
    this.button.textContent = this.waits ? "…" : what;
    this.button.setAttribute("aria-label", `${what} ${name}`);
    this.button.classList.toggle("sure", Boolean(this.sure));
  }
}
