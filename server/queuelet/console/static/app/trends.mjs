/** The last hour of the queues that are in view, from the server's history. */
import { signal } from "./html.mjs";
import { call, of } from "./api.mjs";
import { now } from "./board.mjs";
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

/** Grows when a trend was read. */
export const read = signal(0);

/** @type {Map<string, {at: number, points: {at: number, ready: number}[]}>} */
const known = new Map();
/** @type {string[]} the newest last */
let waiting = [];
let running = 0;

/**
 * The points of a queue as far as they are known. It is read if it is not known or old.
 * @param {string} label
 */
export function trendOf(label) {
  const found = known.get(label);
  if (!found || now() - found.at > REFRESH) want(label);
  return found?.points ?? [];
}

/** @param {string} label */
function want(label) {
  if (waiting.includes(label)) return;
  waiting = [...waiting, label].slice(-WAITING);
  if (running < AT_ONCE) next();
}

async function next() {
  const label = waiting.pop();
  if (label === undefined) return;
  running += 1;
  known.set(label, { points: known.get(label)?.points ?? [], at: now() }); // So that a failure is not tried at once again.
  try {
    const query = { after: new Date(now() - SPAN).toISOString(), max_points: POINTS };
    const { points = [] } = await call("GET", `${of(label)}/history`, { query });
    const list = points.map((/** @type {any} */ each) => ({ at: millis(each.time), ready: Number(each.messages?.ready ?? 0) }));
    known.set(label, { points: list, at: now() });
    if (known.size > KEPT) known.delete(/** @type {string} */ (known.keys().next().value));
    read.value += 1;
  } catch {
    // The queue was deleted, or the server is away. The row then shows only what it is now.
  } finally {
    running -= 1;
    next();
  }
}
