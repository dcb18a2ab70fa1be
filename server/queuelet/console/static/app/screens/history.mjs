/** The history of a queue as charts: messages by state, dead ones on a strip of their own, and rates. */
import { html, useEffect, useMemo, useRef, useState } from "../html.mjs";
import { call, of } from "../api.mjs";
import { now, tick } from "../board.mjs";
import { millis } from "../format.mjs";
import { route, setQuery } from "../router.mjs";
import { Chart } from "../parts/chart.mjs";
import { Time } from "../parts/times.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */
/** @typedef {{at: number, ready: number, delayed: number, leased: number, dead: number, added: number, removed: number, rates?: number[]}} Point */

/** @type {Record<string, {ms: number, text: string}>} */
const SPANS = { "15m": { ms: 900_000, text: "15 min" }, "1h": { ms: 3_600_000, text: "1 h" }, "24h": { ms: 86_400_000, text: "24 h" } };
const STACK = [
  { label: "Ready", stroke: "--ready", fill: "--ready-f" },
  { label: "Delayed", stroke: "--delayed", fill: "--delayed-f" },
  { label: "Leased", stroke: "--leased", fill: "--leased-f" },
];
const DEAD = [{ label: "Dead", stroke: "--dead", fill: "--dead-f" }];
const RATES = [{ label: "In", stroke: "--ready" }, { label: "Out", stroke: "--leased" }];
/** The most points that come from the stream on top of the server's history. */
const LIVE = 2000;
/** Milliseconds between two points that come from the stream. */
const STEP = 2000;

/** Milliseconds that a chart has at least. */
const LEAST = 60_000;

/** @param {{queue: Queue}} props */
export function History({ queue }) {
  const span = route.value.query.get("span") ?? "1h";
  const { ms, text } = SPANS[span] ?? SPANS["1h"];
  const [past, setPast] = useState(/** @type {Point[]} */ ([]));
  const live = useRef(/** @type {Point[]} */ ([]));
  useEffect(() => {
    const stop = new AbortController();
    const after = new Date(now() - ms).toISOString();
    call("GET", `${of(queue.label)}/history`, { query: { after, max_points: 360 }, signal: stop.signal })
      .then(({ points = [] }) => setPast(points.map(pointOf)))
      .catch(() => {}); // The charts then begin with what the page sees.
    return () => stop.abort();
  }, [queue.label, span]);
  tick.value;
  const last = live.current.at(-1);
  if (!last || now() - last.at >= STEP) live.current = [...live.current, snapshot(queue)].slice(-LIVE);
  const newest = live.current.at(-1);
  const points = useMemo(() => [...past, ...live.current.filter(({ at }) => at > (past.at(-1)?.at ?? 0))], [past, newest]);
  // In steps, so that the charts are drawn again when there is a new point, and not with each tick.
  const end = Math.floor(now() / STEP) * STEP;
  const begin = Math.max(end - ms, Math.min(points[0].at, end - LEAST));
  const charts = useMemo(() => draw(points, begin), [points, begin]);
  const isWhole = begin - (now() - ms) < STEP * 10;
  const since = isWhole ? `last ${text}` : html`since <${Time} ms=${begin} />`;
  return html`<div class="card pane history">
    <section aria-label="Messages by state"><div class="chart-head"><h2>Messages by state, ${since}</h2>
        <span class="legend">${STACK.map(({ label }) => html`<span><i class=${`key ${label.toLowerCase()}`}></i>${label.toLowerCase()}</span>`)}</span></div>
      <${Chart} data=${charts.stack} lines=${STACK} height=${132} label=${`Ready, delayed and leased messages, last ${text}`} />
      ${(queue.dead > 0 || charts.hasDead) && html`<div class="strip"><span class="legend"><span><i class="key dead"></i>dead</span></span>
        <${Chart} data=${charts.dead} lines=${DEAD} height=${40} strip label=${`Dead messages, last ${text}`} /></div>`}</section>
    <section aria-label="In and out"><div class="chart-head"><h2>In / out a second</h2>
        <span class="bar spans">${Object.entries(SPANS).map(([id, each]) => html`<button class="chip small quiet" aria-pressed=${id === span} onClick=${() => setQuery({ span: id })}>${each.text}</button>`)}</span></div>
      <${Chart} data=${charts.rates} lines=${RATES} height=${132} label=${`Messages added and removed a second, last ${text}`} />
      <span class="legend"><span><i class="key ready"></i>in</span><span><i class="key leased"></i>out</span></span></section></div>`;
}

/** @param {any} point of the API @returns {Point} */
function pointOf({ time, messages = {}, enqueued = 0, removed = 0 }) {
  const { ready = 0, delayed = 0, leased = 0, dead = 0 } = messages;
  return { at: millis(time), ready: +ready, delayed: +delayed, leased: +leased, dead: +dead, added: +enqueued, removed: +removed };
}

/** @param {Queue} queue @returns {Point} */
const snapshot = ({ ready, delayed, leased, dead, added, removed, inRate, outRate }) => ({ at: now(), ready, delayed, leased, dead, added, removed, rates: [inRate, outRate] });

/**
 * The data of the charts. A stack is drawn as sums, the largest first, so that each layer hides what is below it.
 * @param {Point[]} points
 * @param {number} from
 */
function draw(points, from) {
  const shown = points.filter(({ at }) => at >= from);
  const before = points.findLast(({ at }) => at < from);
  if (before) shown.unshift({ ...before, at: from });
  const xs = [from / 1000, ...shown.map(({ at }) => at / 1000), now() / 1000];
  const column = (/** @type {(point: Point) => number | null} */ value) => [null, ...shown.map(value), shown.length ? value(shown[shown.length - 1]) : null];
  const speed = (/** @type {"added" | "removed"} */ total, /** @type {number} */ which) => {
    const rateAt = (/** @type {Point} */ point, /** @type {number} */ i) =>
      point.rates?.[which] ?? (i ? Math.max(0, point[total] - shown[i - 1][total]) / Math.max(1, (point.at - shown[i - 1].at) / 1000) : null);
    return [null, ...shown.map(rateAt), shown.at(-1)?.rates?.[which] ?? null];
  };
  return {
    stack: [xs, column((p) => p.ready + p.delayed + p.leased), column((p) => p.delayed + p.leased), column((p) => p.leased)],
    dead: [xs, column((p) => p.dead)],
    rates: [xs, speed("added", 0), speed("removed", 1)],
    hasDead: shown.some(({ dead }) => dead > 0),
  };
}
