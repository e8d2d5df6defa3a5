// The state of the run: nodes, links, ways from source to node, and what the logs say.

import { figure } from "./canvas.js";
import { Lines } from "./views/lines.js";

const $ = (id) => document.getElementById(id);
const SHOWN_S = 120;
const RATES_OVER_NS = 2e9;
const MOST_LINES_IN_PLOT = 6;

export class RunTables {
  constructor(about) {
    this.most = about.lines;
    this.earlier = []; // statuses of the last seconds, for rates
    this.past = []; // time and p99 of each way
    this.ways = null;
    $("log").replaceChildren();
    $("history").replaceChildren();
    for (const id of ["nodes", "ways", "links"]) $(id).tBodies[0].replaceChildren();
  }

  take(status) {
    // Workers report a few times a second, at moments of their own: a short while says nothing.
    while (this.earlier.length > 1 && this.earlier[1].t_ns <= status.t_ns - RATES_OVER_NS) this.earlier.shift();
    const before = this.earlier[0] ?? status;
    const seconds = (status.t_ns - before.t_ns) / 1e9;
    const rate = (now, then) => (seconds > 0 ? (now - then) / seconds : NaN);
    $("clock").textContent = clock(status.duration_s);
    this.takeNodes(status, before, rate, seconds);
    this.takeLinks(status, before, rate);
    this.takeWays(status);
    this.figures(status);
    this.earlier.push(status);
  }

  takeNodes(status, before, rate, seconds) {
    fill($("nodes"), Object.entries(status.nodes), ([name, node]) => {
      const then = before.nodes[name] ?? node;
      const packets = rate(node.packets_in + node.packets_out, then.packets_in + then.packets_out);
      const own = node.packets_out ? rate(node.packets_out, then.packets_out) : rate(node.packets_in, then.packets_in);
      const failed = status.failed[name];
      const quiet = !failed && status.state === "running" && seconds > 1 && packets === 0;
      return {
        row: failed ? "failed" : quiet ? "quiet" : "",
        title: failed ?? "",
        cells: [
          name, failed ? "dead" : quiet ? "quiet" : status.state === "running" ? "alive" : status.state,
          figure(own), sum(node.dropped), node.gaps, percent(rate(node.cpu_s, then.cpu_s)),
        ],
        classes: { 1: "state" },
      };
    });
  }

  takeLinks(status, before, rate) {
    fill($("links"), Object.entries(status.links), ([name, link]) => ({
      cells: [
        name, figure(rate(link.packets, (before.links[name] ?? link).packets)), ms(link.p50_us),
        ms(link.p99_us), link.dropped, link.deliver === "lossless" ? link.lost : "",
      ],
      // On other links, what was dropped counts as lost until the news of the drop arrives.
      classes: { 5: link.deliver === "lossless" && link.lost ? "bad" : "" },
    }));
  }

  takeWays(status) {
    const ways = Object.entries(status.end_to_end).filter(([, way]) => way.packets);
    fill($("ways"), ways, ([name, way]) => ({
      cells: [name, ms(way.p50_us), ms(way.p99_us), ms(way.max_us), way.deadlines_missed],
      classes: { 4: way.deadlines_missed ? "bad" : "" },
    }));
    const names = ways.map(([name]) => name).filter((name) => !ownPage(name)).slice(0, MOST_LINES_IN_PLOT);
    if (String(names) !== String(this.ways)) {
      this.lines?.repaint();
      this.ways = names;
      this.past = [];
      this.lines = new Lines($("history"), names.map((name) => `${name} p99`));
    }
    this.past.push([status.t_ns / 1e9, ...names.map((name) => status.end_to_end[name].p99_us / 1e3)]);
    while (this.past[0][0] < this.past.at(-1)[0] - SHOWN_S) this.past.shift();
    this.draw();
  }

  draw() {
    if (!this.ways?.length || !$("history").offsetParent) return;
    const now = this.past.at(-1)[0];
    this.lines.draw([
      this.past.map((row) => row[0] - now),
      ...this.ways.map((_, i) => this.past.map((row) => row[i + 1])),
    ]);
  }

  /** Show that nothing goes on any more. */
  end() {
    for (const cell of document.querySelectorAll("#nodes tr:not(.failed) .state")) cell.textContent = "ended";
    for (const row of document.querySelectorAll("#nodes tbody tr:not(.failed)")) row.className = "over";
  }

  repaint() {
    this.lines?.repaint();
    this.draw();
  }

  figures(status) {
    const ways = Object.entries(status.end_to_end).filter(([name]) => !ownPage(name));
    const most = (key) => ways.reduce((a, b) => (b[1][key] > a[1][key] ? b : a), ways[0]);
    if (ways.length) {
      put($("latency"), `${ms(most("p99_us")[1].p99_us)} ms`, most("p99_us")[0]);
      const [name, { deadlines_missed: late }] = most("deadlines_missed");
      put($("late"), late, late ? name : "", late > 0);
    }
    const refused = Object.values(status.nodes).reduce((n, node) => n + sum(node.dropped), 0);
    const lost = Object.values(status.links).reduce(
      (n, link) => n + (link.deliver === "lossless" ? link.lost : 0), 0,
    );
    put($("lost"), refused + lost, "", refused + lost > 0);
  }

  addLog(lines) {
    $("log-panel").hidden = false;
    const list = $("log");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    for (const [name, text] of lines) {
      const item = document.createElement("li");
      const who = document.createElement("b");
      who.textContent = name;
      item.append(who, text);
      if (/\b(ERROR|CRITICAL|Traceback|Error:)/.test(text)) item.className = "error";
      else if (/\bWARNING\b/.test(text)) item.className = "warning";
      list.append(item);
    }
    while (list.children.length > this.most) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}

/** Tell whether a way ends in what watches: that is not what the run is there for. */
function ownPage(name) { return /->page(-\d+)?$/.test(name); }

function put(element, value, of, bad = false) {
  element.firstChild.data = value;
  element.lastChild.textContent = of.replace("->", " → ");
  element.classList.toggle("bad", bad);
}

/** Give a table one row for each item, and change only what is different. */
function fill(table, items, describe) {
  const body = table.tBodies[0];
  while (body.rows.length > items.length) body.lastElementChild.remove();
  items.forEach((item, i) => {
    const { cells, row = "", title = "", classes = {} } = describe(item);
    const line = body.rows[i] ?? body.insertRow();
    if (line.className !== row) line.className = row;
    line.title = title;
    cells.forEach((content, c) => {
      const cell = line.cells[c] ?? line.insertCell();
      // Long names may be broken where they have parts.
      const text = String(content).replace(/->|\./g, c ? "$&" : "$&\u200b");
      if (cell.textContent !== text) cell.textContent = text;
      if (cell.className !== (classes[c] ?? "")) cell.className = classes[c] ?? "";
    });
  });
}

const sum = (counts) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
const ms = (us) => figure(us / 1000);
const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(0)} %` : "–");

function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}
