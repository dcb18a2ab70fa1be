/** The queues of the server with their numbers, as the page knows them. */
import { batch, signal } from "./html.mjs";
import { applyObjects, loadObjects, objectNames } from "./objects.mjs";
import { depth, EMPTY, missing } from "./queue.mjs";
import { draw, drawNow } from "./ticks.mjs";

export { shape, tick } from "./ticks.mjs";

/** @typedef {import("./queue.mjs").Queue} Queue */
/** @typedef {"ready" | "delayed" | "leased" | "dead"} State */
/** @typedef {{store: string, epoch: string, problem: string, durability: "" | "MEMORY" | "DISK" | "REPLICATED"}} Store */

const DEFINED = ["id", "name", "tags", "store", "limit", "owner", "draining", "created"];
const NUMBERS = ["ready", "delayed", "leased", "dead", "added", "removed", "oldest"];

/** Whether a board was loaded. */
export const loaded = signal(false);
/** @type {import("@preact/signals").Signal<Record<string, any>>} */
export const server = signal({});
/** @type {import("@preact/signals").Signal<Store[]>} */
export const stores = signal([]);
/** What stores have lost while the page was open. */
export const losses = signal(/** @type {{store: string, queues: number, messages: number, at: number}[]} */ ([]));

/** @type {Map<string, string>} the last epoch of each store; a database has none until the server has reached it */
const epochs = new Map();
/** @type {Map<number, Queue>} */
const byRow = new Map();
/** @type {Map<string, Queue>} */
const byRef = new Map();
/** @type {Queue[] | null} all queues; null if it has to be made again */
let list = [];
/** @type {Queue[] | null} all queues and those that are missing; null if it has to be made again */
let all = [];
/** @type {Set<Queue>} queues with a rate that is not 0 */
const moving = new Set();
let boardId = "";
let number = -1;
let frameAt = 0;
let offset = 0;
let frozenAt = 0;

/** The time of the server in milliseconds, or that of the pause. */
export const now = () => frozenAt || Date.now() + offset;
/** @param {boolean} isFrozen whether time stands still from now on */
export const freeze = (isFrozen) => {
  frozenAt = isFrozen ? now() : 0;
};
/** The board and the frame that the page has. */
export const position = () => ({ board: boardId, number });
/** All queues, in a list that callers do not change. */
export const queues = () => (list ??= [...byRow.values()]);
/** All queues, and the Queue objects that have none, in a list that callers do not change. */
export const listed = () => (all ??= [...queues(), ...objectNames().filter((name) => !byRef.has(name)).map(missing)]);
/** @param {string} ref the name of a queue, or the ID of one without a name */
export const find = (ref) => byRef.get(ref);

/**
 * Replace everything by a snapshot.
 * @param {any} snapshot
 */
export function load(snapshot) {
  const before = new Map([...byRow.values()].map((queue) => [queue.label, queue]));
  byRow.clear();
  list = all = null;
  byRef.clear();
  moving.clear();
  snapshot.row.forEach((/** @type {number} */ row, /** @type {number} */ i) => {
    define(row, DEFINED.map((column) => snapshot[column][i]));
    Object.assign(/** @type {object} */ (byRow.get(row)), Object.fromEntries(NUMBERS.map((each) => [each, snapshot[each][i]])));
  });
  batch(() => {
    loadObjects(snapshot);
    all = null;
    lose(snapshot.stores, before);
    boardId = snapshot.board;
    number = snapshot.number;
    frameAt = snapshot.at;
    offset = snapshot.at - Date.now();
    stores.value = snapshot.stores;
    server.value = snapshot.server;
    loaded.value = true;
    drawNow();
  });
}

/**
 * Note what stores have lost: a new epoch means that a store has other contents than before.
 * @param {Store[]} present
 * @param {Map<unknown, Queue>} before
 */
function lose(present, before) {
  const lost = present.flatMap(({ store, epoch }) => {
    const old = epochs.get(store);
    if (epoch) epochs.set(store, epoch);
    if (!epoch || !old || epoch === old) return [];
    const gone = [...before.values()].filter((queue) => queue.store === store);
    return [{ store, queues: gone.length, messages: gone.reduce((sum, each) => sum + depth(each), 0), at: now() }];
  });
  if (lost.length) losses.value = [...losses.value, ...lost].slice(-5);
}

/**
 * Add what a frame reports.
 * @param {number} n the frame's number
 * @param {any} frame
 * @returns {boolean} whether it follows the newest one; otherwise the board has to be loaded again
 */
export function apply(n, frame) {
  const hasChanges = Object.keys(frame).length > 1;
  if (hasChanges && n <= number) return true;
  if (n > number + (hasChanges ? 1 : 0)) return false;
  batch(() => {
    number = Math.max(number, n);
    offset = frame.at - Date.now();
    if (frame.stores) {
      lose(frame.stores, byRow);
      stores.value = frame.stores;
    }
    for (const row of frame.gone ?? []) forget(row);
    for (const [row, ...values] of frame.queues ?? []) define(row, values);
    count(frame);
    if (frame.server) server.value = frame.server;
    const hasObjects = applyObjects(frame);
    if (hasObjects) all = null;
    draw(Boolean(hasObjects || frame.gone || frame.queues));
  });
  return true;
}

/**
 * @param {number} row
 * @param {any[]} values those of `DEFINED`
 */
function define(row, values) {
  const fields = Object.fromEntries(DEFINED.map((column, i) => [column, values[i]]));
  const known = byRow.get(row);
  const queue = /** @type {Queue} */ ({ ...(known ?? EMPTY), ...fields, row, label: fields.name || fields.id });
  if (known) moving.delete(known);
  byRow.set(row, queue);
  list = all = null;
  byRef.set(queue.label, queue);
}

/** @param {number} row */
function forget(row) {
  const queue = byRow.get(row);
  if (!queue) return;
  byRow.delete(row);
  list = all = null;
  moving.delete(queue);
  if (byRef.get(queue.label) === queue) byRef.delete(queue.label);
}

/** @param {any} frame */
function count(frame) {
  const seconds = Math.max(0.2, (frame.at - frameAt) / 1000);
  frameAt = frame.at;
  for (const [row, ready, delayed, leased, dead, added, removed, oldest] of frame.counts ?? []) {
    const queue = byRow.get(row);
    if (!queue) continue;
    queue.inRate = smooth(queue.inRate, (added - queue.added) / seconds);
    queue.outRate = smooth(queue.outRate, (removed - queue.removed) / seconds);
    queue.countedAt = frameAt;
    Object.assign(queue, { ready, delayed, leased, dead, added, removed, oldest });
    moving.add(queue);
  }
  for (const queue of moving) {
    if (queue.countedAt === frameAt) continue;
    queue.inRate = smooth(queue.inRate, 0);
    queue.outRate = smooth(queue.outRate, 0);
    if (!queue.inRate && !queue.outRate) moving.delete(queue);
  }
}

/**
 * @param {number} old
 * @param {number} value
 */
function smooth(old, value) {
  const next = old ? old * 0.6 + value * 0.4 : value;
  return next < 0.05 ? 0 : next;
}
