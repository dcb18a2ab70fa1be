/** The last hour of the queues that are in view, from the server's history. */
import { computed, signal } from "./html.mjs";
import { call, of } from "./api.mjs";
import { now, tick } from "./board.mjs";
import { millis } from "./format.mjs";

export const SPAN = 3_600_000;
const POINTS = 60;
/** Milliseconds after which a trend is read again. */
const REFRESH = 60_000;
/** Trends that are read at the same time. A browser has six connections, and the stream needs one. */
const AT_ONCE = 2;
/** The most queues that wait to be read: about as many as a window shows. Scrolling forgets the others. */
const WAITING = 60;
/** The most queues whose trends are kept. */
const KEPT = 1000;
/** Milliseconds without scrolling before trends are read: not those of queues that only pass by. */
const SETTLED = 150;
/** Milliseconds after which a trend is drawn again although its queue has not changed, because time goes on. */
const REDRAW = 10_000;

/** @typedef {{at: number, ready: number}} Point */
/** @typedef {{at: number, points: import("@preact/signals").Signal<Point[]>}} Trend */

/** Changes when trends are to be drawn again. */
const turn = computed(() => (tick.value, Math.floor(now() / REDRAW)));

/** @type {Map<string, Trend>} */
const known = new Map();
/** @type {string[]} the newest last */
let waiting = [];
let running = 0;
let timer = 0;

/**
 * The points of a queue as far as they are known. It is read if it is not known or old. A component that calls this
 * renders again when the points of this queue were read.
 * @param {string} label
 */
export function trendOf(label) {
  turn.value;
  const found = remember(label);
  if (now() - found.at > REFRESH) want(label);
  return found.points.value;
}

/**
 * The trend of a queue, which is now the newest of those that are kept.
 * @param {string} label
 */
function remember(label) {
  /** @type {Trend} */
  const trend = known.get(label) ?? { at: 0, points: signal([]) };
  known.delete(label);
  known.set(label, trend);
  if (known.size > KEPT) known.delete(/** @type {string} */ (known.keys().next().value));
  return trend;
}

/** @param {string} label */
function want(label) {
  if (waiting.includes(label)) return;
  waiting = [...waiting, label].slice(-WAITING);
  settle();
}

function settle() {
  if (!waiting.length) return;
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    timer = 0;
    while (running < AT_ONCE && waiting.length) read();
  }, SETTLED);
}

addEventListener("scroll", settle, { passive: true });

async function read() {
  const label = /** @type {string} */ (waiting.pop());
  const trend = remember(label);
  trend.at = now(); // So that a failure is not tried at once again.
  running += 1;
  try {
    const query = { after: new Date(now() - SPAN).toISOString(), max_points: POINTS };
    const { points = [] } = await call("GET", `${of(label)}/history`, { query });
    trend.points.value = points.map((/** @type {any} */ each) => ({ at: millis(each.time), ready: Number(each.messages?.ready ?? 0) }));
  } catch {
    // The queue was deleted, or the server is away. The row then shows only what it is now.
  } finally {
    running -= 1;
    if (!timer && waiting.length) read();
  }
}
