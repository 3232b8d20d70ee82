// Shows the cluster from the public paths: /v1/status and /v1/nodes of this node, /v1/status of the others, /metrics.
"use strict";

const REFRESH_MS = 2000;
const PATIENCE_MS = 1500;
const HISTORY = 90;
const COLOURS = ["#3b6ef5", "#12a07a", "#e58a1f", "#a25ddc", "#d94f70", "#1f9fc2", "#7d8f1f", "#8a6a4f"];
const SVG = "http://www.w3.org/2000/svg";

const history = { reads: [], writes: [], failures: [] };
const $ = (id) => document.getElementById(id);

async function load(url) {
  const reply = await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  if (!reply.ok) throw new Error(`${url}: ${reply.status}`);
  return reply;
}

async function json(url) {
  return (await load(url)).json();
}

// The members' own figures; a member that does not answer has none. A server answers for all of its nodes.
async function everybody(nodes, own) {
  const servers = new Map(nodes.filter((node) => node.self).map((node) => [node.addresses.http, own]));
  for (const { addresses: { http } } of nodes) {
    if (!servers.has(http)) servers.set(http, json(`http://${http}/v1/status`).catch(() => null));
  }
  return Promise.all(nodes.map(async (node) => {
    const status = await servers.get(node.addresses.http);
    const shard = status?.shards?.find((other) => other.node === node.node);
    return shard ? { ...status, local: shard.local } : status;
  }));
}

function number(value) {
  if (value === undefined || value === null) return "–";
  const digits = value !== 0 && Math.abs(value) < 10 && !Number.isInteger(value) ? 1 : 0;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function bytes(value) {
  if (value === undefined || value === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, value > 0 ? Math.floor(Math.log2(value) / 10) : 0);
  return `${(value / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function element(name, content, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...[content ?? ""].flat());
  return made;
}

function drawing(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function verdict(status) {
  const shown = $("verdict");
  const missing = status.nodes - status.nodes_up;
  if (!status.ready) say(shown, "bad", `not ready: ${status.reason ?? "no reason given"}`);
  else if (missing > 0) say(shown, "warn", `serving; ${missing} of ${status.nodes} nodes cannot be reached from here`);
  else say(shown, "good", "serving");
}

function say(where, state, words) {
  where.dataset.state = state;
  where.textContent = words;
}

function sum(statuses, figure) {
  return statuses.reduce((total, status) => total + (status?.local[figure] ?? 0), 0);
}

function tiles(status, statuses) {
  const silent = statuses.filter((other) => other === null).length;
  $("tile-nodes").textContent = `${status.nodes_up} of ${status.nodes}`;
  $("tile-nodes-note").textContent = silent ? `${silent} gave no figures` : `on ${status.machines} machines`;
  $("tile-copies").textContent = `${status.copies} of ${status.copies_wanted}`;
  $("tile-copies-note").textContent =
    status.copies < status.copies_wanted ? "too few machines for more" : "of every key";
  for (const kind of ["reads", "writes", "failures"]) {
    const rate = sum(statuses, `${kind}_per_second`);
    $(`tile-${kind}`).textContent = number(rate);
    history[kind].push(rate);
    if (history[kind].length > HISTORY) history[kind].shift();
    spark($(`spark-${kind}`), history[kind]);
  }
  $("tile-tasks").textContent = number(sum(statuses, "tasks"));
  $("tile-hints").textContent = number(sum(statuses, "hints"));
}

function spark(svg, values) {
  const highest = Math.max(...values, 1e-9);
  const points = values.map((value, at) => {
    const x = (HISTORY - values.length + at) / (HISTORY - 1) * 100;
    return `${x.toFixed(2)} ${(30 - value / highest * 24).toFixed(2)}`;
  });
  svg.setAttribute("viewBox", "0 0 100 34");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(drawing("path", { d: points.length > 1 ? `M ${points.join(" L ")}` : "" }));
}

function ring(status, nodes) {
  const svg = $("ring");
  const around = 2 * Math.PI * 78;
  const parts = [];
  let begun = 0;
  nodes.forEach((node, at) => {
    const length = Math.max(0, node.share * around - 1.5);
    const arc = drawing("circle", {
      cx: 100, cy: 100, r: 78, fill: "none", "stroke-width": 24, stroke: COLOURS[at % COLOURS.length],
      "stroke-dasharray": `${length} ${around - length}`, "stroke-dashoffset": -begun * around,
      transform: "rotate(-90 100 100)", opacity: node.state === "up" ? 1 : 0.3,
    });
    const title = drawing("title", {});
    title.textContent = `${node.node}: ${(node.share * 100).toFixed(1)} %, ${node.state}`;
    arc.append(title);
    parts.push(arc);
    begun += node.share;
  });
  const middle = drawing("text", { x: 100, y: 104 });
  middle.textContent = String(nodes.length);
  const under = drawing("text", { x: 100, y: 120, class: "small" });
  under.textContent = nodes.length === 1 ? "node" : "nodes";
  svg.replaceChildren(...parts, middle, under);
  $("ring-note").textContent = status.ring_version
    ? `version ${status.ring_version}, ${number(status.partitions)} partitions`
    : "no ring yet";
}

// A data centre is named only where there are several.
function place(node, nodes) {
  const several = nodes.some((other) => other.dc !== node.dc);
  return (several ? [node.dc, node.zone] : [node.zone]).filter(Boolean).join(" / ") || "–";
}

function row(node, status, at, nodes) {
  const chip = element("span", "", "chip");
  chip.style.background = COLOURS[at % COLOURS.length];
  const name = element("code", node.node.slice(0, 8));
  name.title = node.node;
  const link = node.self ? name : element("a", name);
  if (!node.self) link.href = `http://${node.addresses.http}/`;
  const fill = element("i");
  fill.style.width = `${node.share * 100}%`;
  fill.style.background = COLOURS[at % COLOURS.length];
  const state = element("span", `${node.state} ${duration(node.state_for_ms)}`);
  state.dataset.state = { up: "good", silent: "warn", skipped: "warn" }[node.state] ?? "bad";
  const local = status?.local;
  return element("tr", [
    element("td", [chip, link, node.self ? " (this)" : ""]),
    element("td", state),
    element("td", place(node, nodes)),
    element("td", [element("span", fill, "bar"), `${(node.share * 100).toFixed(1)} %`]),
    element("td", number(local?.keys_estimate), "number"),
    element("td", number(local?.reads_per_second), "number"),
    element("td", number(local?.writes_per_second), "number"),
    element("td", bytes(local?.memory_bytes), "number"),
    element("td", node.self ? "–" : number(node.tasks), "number"),
    element("td", element("code", node.addresses.redis)),
  ]);
}

// Metrics as a map from name and labels to value; those of a server's nodes are summed.
function parse(text) {
  const figures = new Map();
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ");
    if (line.startsWith("#") || space < 0) continue;
    const name = line.slice(0, space).replace(/,?shard="\d+",node="[0-9a-f]+"/, "").replace("{}", "");
    figures.set(name, (figures.get(name) ?? 0) + Number(line.slice(space + 1)));
  }
  return figures;
}

function part(of, rest) {
  return of + rest > 0 ? `${(of / (of + rest) * 100).toFixed(1)} %` : "–";
}

function inside(figures) {
  const at = (name) => figures.get(`moim_${name}`);
  const rows = [
    ["Found in memory", part(at("cache_hits_total"), at("cache_misses_total"))],
    ["Objects in memory", `${number(at("cache_objects"))}, ${bytes(at("cache_bytes"))}`],
    ["Syncs of the commit log", number(at("storage_log_syncs_total"))],
    ["Memory table", bytes(at("storage_memtable_bytes"))],
    ["Tables on disk", `${number(at("storage_tables"))}, ${bytes(at("storage_tables_bytes"))}`],
    ["Bloom filters: spared, in vain",
      `${number(at("storage_filter_hits_total"))}, ${number(at("storage_filter_false_hits_total"))}`],
    ["Waiting to be compacted", bytes(at("storage_compaction_pending_bytes"))],
    ["Waiting for the disk", bytes(at("unsynced_bytes"))],
    ["Reads that repaired a copy", number(at("read_repairs_total"))],
    ["Concurrent lww writes discarded", number(at("lww_discarded_total"))],
    ["Requests unavailable, timed out, shed",
      ["unavailable_total", "timeouts_total", "overloaded_total"].map((name) => number(at(name))).join(", ")],
    ["Processor time", `${number(at("process_cpu_seconds_total"))} s`],
  ];
  $("inside").replaceChildren(...rows.map(([name, value]) =>
    element("div", [element("dt", name), element("dd", value)])));
}

async function refresh() {
  try {
    const [status, { nodes }] = await Promise.all([json("/v1/status"), json("/v1/nodes")]);
    const statuses = await everybody(nodes, status);
    verdict(status);
    $("about").textContent = `version ${status.version}, up ${duration(status.uptime_ms)}`;
    tiles(status, statuses);
    ring(status, nodes);
    $("nodes").replaceChildren(...nodes.map((node, at) => row(node, statuses[at], at, nodes)));
    inside(parse(await (await load("/metrics")).text()));
    $("freshness").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    say($("verdict"), "bad", `this node does not answer (${error.message})`);
  }
  setTimeout(refresh, document.hidden ? REFRESH_MS * 5 : REFRESH_MS);
}

refresh();
