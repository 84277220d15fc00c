"use strict";
// Everything from the gateway becomes text, never HTML: names, addresses and reasons may hold anything.
const EVERY_MS = 2000;
const TOKEN = "largeforge.token";
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
let timer = 0, isPaused = false, isAsking = false;

function el(tag, attributes, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size === 0 ? "0" : String(Number(value.toPrecision(digits)));
}
function share(value) {
  if (value === null || value === undefined) return "–";
  const percent = 100 * value;
  return `${percent > 99 && percent < 100 ? percent.toFixed(3).replace(/0+$/, "").replace(/\.$/, "") : number(percent)} %`;
}
function time(seconds, most) {
  if (seconds === null || seconds === undefined) return "–";
  const sign = most && seconds >= most ? "≥ " : "";
  return sign + (seconds < 1 ? `${number(seconds * 1000, 2)} ms` : `${number(seconds)} s`);
}
function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
const moment = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB");
const mark = (kind, text) => el("span", { class: `mark ${kind}` }, text);
const nothing = (text) => el("p", { class: "muted" }, text);

function tile(name, value, note) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value, note ? el("small", {}, note) : null));
}
function mean(numbers, last) {
  const some = numbers.slice(-last);
  return some.length ? some.reduce((sum, one) => sum + one, 0) / some.length : 0;
}
function showTiles(data) {
  const past = data.history, requests = mean(past.requests, 10), failed = mean(past.failed, 10);
  $("tiles").replaceChildren(
    tile("Requests/s", number(requests), "mean of 10 s"),
    tile("Errors/s", number(failed), requests ? `${share(failed / requests)} of requests` : "status 500 or more"),
    tile("Tokens/s", number(mean(past.tokens, 10)), "of finished answers"),
    tile("In flight", number(data.in_flight), "being answered"),
    tile("Queue", number(data.queued), "waiting for room"),
    tile("Workers", `${data.workers.answered}/${data.workers.all}`, data.workers.answered < data.workers.all ? "some do not answer" : "answering"),
  );
}

function smooth(numbers, width) {
  return numbers.map((_, place) => mean(numbers.slice(Math.max(0, place - width + 1), place + 1), width));
}
function path(numbers, most, length) {
  const left = length - numbers.length;
  return numbers.map((one, place) => `${place ? "L" : "M"}${(left + place).toFixed(0)} ${(100 - (98 * one) / most).toFixed(2)}`).join("");
}
function chart(title, lines, length, unit) {
  const most = Math.max(1e-9, ...lines.flatMap((line) => line.numbers));
  const scale = most < 1e-6 ? 1 : most;  // a flat line lies at the bottom
  const now = lines.map((line) => `${line.name} ${number(line.numbers.at(-1) || 0)}`).join(", ");
  const drawing = el("svg:svg", {
    viewBox: `0 0 ${length - 1} 100`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}: now ${now}; highest ${number(most < 1e-6 ? 0 : most)}${unit}`,
  });
  for (const height of [2, 51, 100]) drawing.append(el("svg:line", { class: "grid", x1: 0, x2: length - 1, y1: height, y2: height }));
  for (const line of lines) {
    if (!line.numbers.length) continue;
    const drawn = path(line.numbers, scale, length);
    if (line.filled) {
      const from = length - line.numbers.length;
      drawing.append(el("svg:path", { class: "area", d: `${drawn}L${length - 1} 100L${from} 100Z` }));
    }
    drawing.append(el("svg:path", { class: `line ${line.kind}`, d: drawn }));
  }
  const legend = lines.map((line) => el("span", {}, el("i", { class: line.kind }), `${line.name} ${number(line.numbers.at(-1) || 0)}`));
  return el("figure", { class: "card" },
    el("figcaption", {}, title, el("span", {}, `highest: ${number(most < 1e-6 ? 0 : most)}${unit}`)),
    drawing,
    el("div", { class: "axis" }, el("span", {}, `${span(length)} ago`), el("span", { class: "legend" }, ...legend.flatMap((one, place) => place ? [" · ", one] : [one])), el("span", {}, "now")));
}
function showCharts(data) {
  const past = data.history, length = Math.max(60, past.requests.length);
  $("traffic-note").textContent = `The last ${span(length)}, by the second.`;
  $("charts").replaceChildren(
    chart("Requests and errors", [
      { name: "requests", kind: "requests", numbers: smooth(past.requests, 5), filled: true },
      { name: "errors", kind: "failed", numbers: smooth(past.failed, 5) },
    ], length, "/s"),
    chart("In flight and queue", [
      { name: "in flight", kind: "requests", numbers: past.in_flight, filled: true },
      { name: "queue", kind: "queued", numbers: past.queued },
    ], length, ""),
    chart("Tokens", [{ name: "tokens", kind: "requests", numbers: smooth(past.tokens, 5), filled: true }], length, "/s"),
  );
}

const PROMISES = {
  availability: "requests without a fault of ours", latency: "answers", ttft: "first tokens", inter_token: "gaps between tokens",
  fallback: "requests answered by the chosen expert", schema_valid: "answers valid under their schema", thumbs: "ratings good",
  judge: "judged answers good", agreement: "answers like the shadow's",
};
function showObjectives(data) {
  $("objectives-note").textContent = `Value: the last ${span(data.window_s)}. Error budget: all requests since ${moment(data.started)}, ` +
    `${span(data.now - data.started)} ago; nothing before is known here.`;
  if (!data.objectives.length) return $("objectives").replaceChildren(nothing("None: the recipe's slo section sets them."));
  $("objectives").replaceChildren(el("ul", { class: "objectives" }, data.objectives.map((one) => {
    const left = one.budget_left, kind = left === null ? "" : left <= 0 ? "bad" : left < 0.25 ? "warn" : "good";
    const words = left === null ? "no events yet" : left < 0 ? `overspent by ${share(-left)}` : `${share(left)} left`;
    const within = one.threshold_ms ? ` within ${time(one.threshold_ms / 1000)}` : "";
    const missed = one.value !== null && one.value < one.objective;
    const filled = el("div", {});
    filled.style.width = `${Math.max(0, Math.min(1, left === null ? 1 : left)) * 100}%`;
    return el("li", { class: "card" },
      el("div", { class: "title" }, el("h3", {}, one.expert ? `${one.name} · ${one.expert}` : one.name), left === null ? el("span", { class: "muted" }, words) : mark(kind, words)),
      el("p", { class: "model" }, `${share(one.objective)} of ${PROMISES[one.indicator] || one.indicator}${within}`),
      left === null ? null : el("div", { class: `budget ${kind}`, role: "img", "aria-label": `Error budget: ${words}` }, filled),
      el("dl", { class: "facts" },
        el("div", {}, el("dt", {}, "Goal"), el("dd", {}, share(one.objective))),
        el("div", {}, el("dt", {}, `Now${missed ? ", missed" : ""}`), el("dd", { class: missed ? "bad" : "" }, share(one.value))),
        el("div", {}, el("dt", {}, "Since start"), el("dd", {}, share(one.value_since_start))),
        el("div", {}, el("dt", {}, "Events"), el("dd", {}, number(one.events_since_start)))));
  })));
}

function serverMark(one) {
  if (one.drained !== null) return mark("warn", "drained");
  if (one.state === "down") return mark("bad", "down");
  if (one.breaker !== "closed") return mark("warn", `breaker ${one.breaker}`);
  return one.state === "up" ? mark("good", "up") : mark("warn", "not probed yet");
}
function expertMark(one) {
  if (one.isolated !== null) return mark("bad", "isolated");
  const used = one.replicas.filter((server) => server.drained === null && server.state === "up" && server.breaker !== "open").length;
  if (!used) return mark("bad", "no server in use");
  return used < one.replicas.length ? mark("warn", `${used} of ${one.replicas.length} servers in use`) : mark("good", "up");
}
function latencies(one) {
  const rows = [["Answer", one.duration, 300], ["First token", one.ttft, 300], ["Between tokens", one.inter_token, 2.5]];
  if (rows.every(([, found]) => found.p50 === null)) return nothing("No answers in this time.");
  return el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"), ["p50", "p95", "p99"].map((name) => el("th", { scope: "col", class: "num" }, name)))),
    el("tbody", {}, rows.filter(([, found]) => found.p50 !== null).map(([name, found, most]) => el("tr", {}, el("th", { scope: "row" }, name),
      ["p50", "p95", "p99"].map((key) => el("td", { class: "num" }, time(found[key], most)))))));
}
function showExperts(data) {
  $("experts-note").textContent = `Rates and percentiles are of the last ${span(data.window_s)}; percentiles are estimated within the buckets of histograms.`;
  $("experts").replaceChildren(...data.experts.map((one) => el("article", { class: "card" },
    el("div", { class: "title" }, el("h3", {}, one.name), expertMark(one)),
    el("p", { class: "model" }, one.models.join(", ")),
    one.isolated ? el("p", { class: "model" }, `Isolated: ${one.isolated}`) : null,
    el("dl", { class: "facts" },
      el("div", {}, el("dt", {}, "Requests/s"), el("dd", {}, number(one.requests_per_s))),
      el("div", {}, el("dt", {}, "Errors/s"), el("dd", { class: one.failed_per_s ? "bad" : "" }, number(one.failed_per_s))),
      el("div", {}, el("dt", {}, "Tokens/s"), el("dd", {}, number(one.tokens_per_s))),
      el("div", {}, el("dt", {}, "Waiting"), el("dd", {}, number(one.queued)))),
    latencies(one),
    el("ul", { class: "servers" }, one.replicas.map((server) => el("li", {},
      el("code", {}, server.url), serverMark(server),
      el("span", { class: "why" }, `load ${server.load}${server.limit ? ` of ${server.limit}` : ""} · breaker ${server.breaker}` +
        (server.drained ? ` · drained: ${server.drained}` : "") + (server.reason ? ` · ${server.reason}` : ""))))))));
}

const SIGNALS = { schema_valid: "Valid under schema", thumbs: "Thumbs up", judge: "Judge: good", agreement: "Shadow agrees" };
function showQuality(data) {
  $("quality-note").textContent = `Shares of good answers since ${moment(data.started)}.`;
  if (!data.quality.length) return $("quality").replaceChildren(nothing("Nothing was judged yet."));
  $("quality").replaceChildren(el("div", { class: "card" }, el("table", {},
    el("thead", {}, el("tr", {}, ["Expert", "Signal"].map((name) => el("th", { scope: "col" }, name)),
      ["Good", "Judged"].map((name) => el("th", { scope: "col", class: "num" }, name)))),
    el("tbody", {}, data.quality.map((one) => el("tr", {}, el("th", { scope: "row" }, one.expert), el("td", {}, SIGNALS[one.signal] || one.signal),
      el("td", { class: "num" }, share(one.share)), el("td", { class: "num" }, number(one.good + one.bad))))))));
}

const PHASES = { running: ["good", "running"], paused: ["warn", "paused"], finished: ["good", "finished"], promoted: ["good", "promoted"], rolled_back: ["bad", "rolled back"] };
const ACTIONS = { step: "Step", hold: "Held", promote: "Promoted", roll_back: "Rolled back", finish: "Finished", pause: "Paused", resume: "Resumed", wait: "Waits", refuse: "Refused" };
const OUTCOMES = { fine: ["good", "fine"], worse: ["bad", "worse"], not_enough: ["warn", "not enough yet"] };
const STRATEGIES = { canary: "canary", blue_green: "blue-green", shadow: "shadow", ab: "A/B", immediate: "immediate" };
const NEWEST = 3;
const logs = new Map();  // a log stays the same element while it says the same, so that what was opened stays open
const known = (table, key) => table[key] || ["", key];

function entry(one) {
  const verdicts = Object.entries(one.verdicts || {});
  return el("li", {},
    el("div", { class: "title" }, el("strong", {}, ACTIONS[one.action] || one.action, el("span", { class: "muted" }, ` · share ${share(one.share)}`)), el("span", { class: "muted" }, moment(one.time))),
    verdicts.length ? el("ul", { class: "verdicts" }, verdicts.map(([metric, outcome]) => {
      const [kind, words] = known(OUTCOMES, outcome);
      return el("li", {}, mark(kind, `${metric.replaceAll("_", " ")}: ${words}`));
    })) : null,
    el("ul", { class: "reasons" }, (one.reasons || []).map((reason) => el("li", {}, reason))));
}
function log(one) {
  const key = JSON.stringify(one.log), kept = logs.get(one.expert);
  if (kept && kept.key === key) return kept.node;
  const older = one.log.slice(NEWEST);
  const node = el("div", {},
    el("ol", { class: "decisions" }, one.log.slice(0, NEWEST).map(entry)),
    older.length ? el("details", {}, el("summary", {}, `${older.length} earlier`), el("ol", { class: "decisions" }, older.map(entry))) : null);
  logs.set(one.expert, { key, node });
  return node;
}
function steps(one) {
  if (one.steps.length < 2) return null;
  const isOver = one.phase === "promoted";
  return el("ol", { class: "steps", "aria-label": "Steps" }, one.steps.map((part, place) => el("li",
    isOver || place < one.step ? { class: "done" } : place === one.step ? { class: "present", "aria-current": "step" } : {}, share(part))));
}
function rolloutMarks(one) {
  const [kind, words] = one.phase ? known(PHASES, one.phase) : ["warn", "share set by hand"];
  return el("span", { class: "marks" },
    one.guarded === null ? null : mark("bad", "taken out by the gateway"),
    one.has_controller ? null : mark("bad", "no controller"),
    mark(one.has_controller ? kind : one.phase ? "warn" : kind, words));
}
function rollout(one, now) {
  const head = [
    el("div", { class: "title" }, el("h3", {}, one.expert), rolloutMarks(one)),
    one.guarded === null ? null : el("p", { class: "why" }, one.guarded || "no reason was given"),
  ];
  const facts = [["Share of requests", share(one.share)], ["Copies", share(one.shadow)]];
  if (!one.phase) return el("article", { class: "card" }, head, factList(facts));
  const versions = [["", one.model], ["release ", one.release]].filter(([, both]) => both.old || both.new);
  facts.unshift(["Step", `${one.step + 1} of ${Math.max(one.steps.length, one.step + 1)}`]);
  facts.push(["For", span(Math.max(0, now - one.changed))]);
  const seen = one.phase === "running" || one.phase === "paused" ? ` · a controller looked ${span(Math.max(0, now - one.seen))} ago` : "";
  return el("article", { class: "card" }, head,
    versions.map(([what, both]) => el("p", { class: "model" }, `${what}${both.old || "–"} → ${both.new || "–"}`)),
    steps(one), factList(facts),
    el("p", { class: "model" }, `${STRATEGIES[one.strategy] || one.strategy}, since ${moment(one.started)}${seen}`),
    one.reasons.length ? el("ul", { class: "reasons now" }, one.reasons.map((reason) => el("li", {}, reason))) : null,
    one.log.length ? log(one) : null);
}
const factList = (facts) => el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
function showRollouts(data) {
  if (!data.rollouts.length) return $("rollouts").replaceChildren(nothing("None in progress."));
  const focused = document.activeElement;
  $("rollouts").replaceChildren(...data.rollouts.map((one) => rollout(one, data.now)));
  if (focused !== document.activeElement && $("rollouts").contains(focused)) focused.focus({ preventScroll: true });
}

function show(data) {
  const kind = { normal: "good", maintenance: "bad", emergency: "bad" }[data.mode] || "warn";
  $("mode").className = `mark ${kind}`;
  $("mode").textContent = `mode: ${data.mode.replace("_", " ")}`;
  for (const id of ["mode", "pause", "leave", "board"]) $(id).hidden = false;
  $("login").hidden = true;
  const why = [data.reason, data.isolated_tenants ? `${data.isolated_tenants} tenants are isolated` : ""].filter(Boolean).join("; ");
  $("since").textContent = `LargeForge ${data.version} · up for ${span(data.now - data.started)} · as of ${clock(data.now)}${why ? ` · ${why}` : ""}`;
  for (const part of [showTiles, showCharts, showObjectives, showExperts, showQuality, showRollouts]) part(data);
}

function note(text) {
  if ($("notice").textContent !== text) $("notice").textContent = text;  // said aloud only when it changes
}
function askForToken(why) {
  for (const id of ["mode", "pause", "leave", "board"]) $(id).hidden = true;
  const isNew = $("login").hidden;
  $("login").hidden = false;
  $("since").textContent = "";
  $("port").textContent = location.port || (location.protocol === "https:" ? "443" : "80");
  note(why);
  if (isNew) $("token").focus();
}
async function ask() {
  const token = sessionStorage.getItem(TOKEN);
  if (!token) return askForToken("");
  if (isAsking) return;
  isAsking = true;
  try {
    const answer = await fetch("monitor/data", {
      headers: { authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", redirect: "error",
      signal: AbortSignal.timeout(10000),
    });
    if (answer.status === 401) {
      sessionStorage.removeItem(TOKEN);
      return askForToken("The gateway does not take this token.");
    }
    if (!answer.ok) throw new Error(`it answers with status ${answer.status}`);
    const data = await answer.json();
    note("");
    show(data);
  } catch (error) {
    note(`The gateway does not answer (${error.message}). What is shown is old; asking again.`);
  } finally {
    isAsking = false;
  }
}
function again() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!isPaused && !document.hidden && sessionStorage.getItem(TOKEN)) await ask();
    again();
  }, EVERY_MS);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("token").value.trim();
  $("token").value = "";
  if (!/^[\x21-\x7e]+$/.test(given)) return note("A token has no spaces and only ASCII.");
  sessionStorage.setItem(TOKEN, given);
  ask();
});
$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").textContent = isPaused ? "Continue" : "Pause";
  if (!isPaused) ask();
});
$("leave").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  askForToken("");
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !isPaused) ask(); });
ask();
again();
