/** Small parts that many screens show: numbers, names, tags, bars, trends. */
import { html } from "../html.mjs";
import { count, rate } from "../format.mjs";
import { now } from "../board.mjs";
import { href } from "../router.mjs";
import { SPAN, trendOf } from "../trends.mjs";

/** Milliseconds that a trend has at least. A server that has just started has no hour yet. */
const LEAST = 300_000;

/** @type {readonly import("../board.mjs").State[]} */
export const STATES = ["ready", "delayed", "leased", "dead"];

/**
 * A count, faint if it is 0.
 * @param {{value: number, kind?: string}} props
 */
export const Count = ({ value, kind = "" }) => html`<span class=${value ? kind : "z"}>${count(value)}</span>`;

/**
 * A queue's name, with the part before its first dot in grey, because that is the namespace.
 * @param {{label: string}} props
 */
export function Name({ label }) {
  const dot = label.indexOf(".");
  return dot > 0 ? html`<span class="ns">${label.slice(0, dot + 1)}</span>${label.slice(dot + 1)}` : label;
}

/**
 * How the messages of a queue are shared between the states. A state with few messages stays visible.
 * @param {{queue: import("../board.mjs").Queue}} props
 */
export function Mix({ queue }) {
  const all = STATES.map((state) => queue[state]);
  const sum = all.reduce((a, b) => a + b, 0);
  const widths = all.map((value) => (value ? Math.max(3, (value / sum) * 120) : 0));
  const scale = 120 / Math.max(1, widths.reduce((a, b) => a + b, 0));
  let x = 0;
  const text = STATES.map((state, i) => `${state} ${all[i]}`).join(", ");
  return html`<svg class="mix" viewBox="0 0 120 8" preserveAspectRatio="none" role="img" aria-label=${text}>
    ${STATES.map((state, i) => {
      const width = widths[i] * scale;
      x += width;
      return width > 0 && html`<rect class=${state} x=${x - width} y="0" width=${width} height="8" />`;
    })}
  </svg>`;
}

/**
 * The ready messages of the last hour. A number stays until the next point, so the line has steps.
 * @param {{label: string, ready: number}} props `ready` is the number of now
 */
export function Trend({ label, ready: present }) {
  const points = trendOf(label);
  const top = Math.max(present, 1, ...points.map(({ ready }) => ready));
  const end = now();
  const from = Math.max(end - SPAN, Math.min(points[0]?.at ?? end, end - LEAST));
  const x = (/** @type {number} */ at) => (Math.max(0, Math.min(1, (at - from) / (end - from))) * 96).toFixed(1);
  const y = (/** @type {number} */ ready) => (22 - (ready / top) * 20).toFixed(1);
  const d = points.map(({ at, ready }, i) => `${i ? "H" : "M"}${x(at)}${i ? "V" : " "}${y(ready)}`);
  return html`<svg class="spark" viewBox="0 0 96 24" aria-hidden="true"><path class="base" d="M0 23.5H96" /><path d=${d.length ? `${d.join("")}H96V${y(present)}` : "M0 0"} /></svg>`;
}

/** @param {{queue: import("../board.mjs").Queue}} props */
export const Rates = ({ queue }) =>
  html`<span class=${queue.inRate || queue.outRate ? "" : "z"}>${rate(queue.inRate)} / ${rate(queue.outRate)}</span>`;

/**
 * Tags. With `filter`, each leads to the queues that have it.
 * @param {{tags: string[], most?: number, filter?: boolean}} props
 */
export function Tags({ tags, most = 99, filter = false }) {
  const shown = tags.slice(0, most);
  return html`${shown.map((tag) => {
    const plain = /^[^\s!=,()]+=[^\s!=,()]*$/.test(tag);
    return filter && plain
      ? html`<a class="tag" href=${href(["queues"], { filter: tag })} title=${tag}>${tag}</a>`
      : html`<span class="tag" title=${tag}>${tag}</span>`;
  })}${tags.length > most && html`<span class="tag">+${tags.length - most}</span>`}`;
}

/**
 * A share of something.
 * @param {{value: number, of: number, label: string}} props
 */
export function Meter({ value, of, label }) {
  const share = of > 0 ? Math.min(1, value / of) : 0;
  return html`<svg class=${`meter ${share > 0.9 ? "high" : ""}`} viewBox="0 0 96 8" preserveAspectRatio="none" role="img"
    aria-label=${`${label}: ${Math.round(share * 100)} %`}><rect width=${share * 96} height="8" /></svg>`;
}
