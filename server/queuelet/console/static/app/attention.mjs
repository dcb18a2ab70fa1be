/** What state a queue is in, and whether a human should look at it. */
import { listed, now, queues, shape, stores, tick } from "./board.mjs";
import { depth } from "./queue.mjs";
import { computed } from "./html.mjs";
import { complaintOf, isStuck } from "./objects.mjs";

/** Milliseconds that a message may wait while nothing is taken out faster than it comes in. */
const BACKING_UP_AFTER = 60_000;

/** @typedef {import("./board.mjs").Queue} Queue */

/** @param {Queue} queue */
export const isFull = (queue) => queue.limit >= 0 && depth(queue) >= queue.limit;
/** @param {Queue} queue */
export const isBackingUp = (queue) => hasWaitedSince(queue, now() - BACKING_UP_AFTER);
/**
 * @param {Queue} queue
 * @param {number} time
 */
const hasWaitedSince = (queue, time) => queue.ready > 0 && queue.oldest > 0 && queue.oldest < time && queue.outRate <= queue.inRate;
/** The stores that have a problem. */
const failed = computed(() => new Set(stores.value.filter(({ problem }) => problem).map(({ store }) => store)));
/** @param {Queue} queue */
const hasFailed = (queue) => failed.value.has(queue.store);

/** The filters above the table of queues. */
export const FILTERS = [
  { id: "attention", label: "Needs attention", test: (/** @type {Queue} */ each) => each.dead > 0 || isFull(each) || isBackingUp(each) || hasFailed(each) || isStuck(each.label, now()) },
  { id: "dead", label: "Dead", test: (/** @type {Queue} */ each) => each.dead > 0 },
  { id: "backing", label: "Backing up", test: isBackingUp },
  { id: "full", label: "Full", test: isFull },
];

const hasOwned = computed(() => (shape.value, queues().some((queue) => queue.owner)));

/**
 * The state of a queue as a word, and its kind.
 * @param {Queue} queue
 */
export function stateOf(queue) {
  if (hasFailed(queue)) return { word: "Store failed", kind: "bad" };
  if (isFull(queue)) return { word: "Full", kind: "bad" };
  const complaint = complaintOf(queue.label);
  if (complaint) return { word: complaint.word, kind: complaint.kind };
  if (queue.draining) return { word: "Draining", kind: "" };
  if (hasOwned.value && !queue.owner) return { word: "by hand", kind: "" };
  return { word: "Ready", kind: "ok" };
}

/** Sums over all queues, and how many each of `FILTERS` shows. */
export const totals = computed(() => {
  tick.value;
  const sums = { queues: 0, ready: 0, leased: 0, dead: 0, deadIn: 0, in: 0, out: 0, attention: 0, backing: 0, full: 0 };
  const present = now();
  const time = present - BACKING_UP_AFTER;
  for (const queue of listed()) {
    const full = isFull(queue);
    const backing = hasWaitedSince(queue, time);
    sums.queues += queue.isMissing ? 0 : 1;
    sums.ready += queue.ready;
    sums.leased += queue.leased;
    sums.dead += queue.dead;
    sums.deadIn += queue.dead > 0 ? 1 : 0;
    sums.in += queue.inRate;
    sums.out += queue.outRate;
    sums.full += full ? 1 : 0;
    sums.backing += backing ? 1 : 0;
    if (queue.dead > 0 || full || backing || hasFailed(queue) || isStuck(queue.label, present)) sums.attention += 1;
  }
  return { ...sums, filters: [sums.attention, sums.deadIn, sums.backing, sums.full] };
});
