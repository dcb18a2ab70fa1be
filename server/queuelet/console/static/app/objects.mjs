/** The Queue objects of Kubernetes as the page knows them, by the names of their queues. */
import { signal } from "./html.mjs";

/** @typedef {[type: string, status: string, reason: string, message: string]} Condition */

/**
 * @typedef {object} QueueObject
 * @property {string} queue the name of its queue, which is `namespace.name`
 * @property {number} generation
 * @property {number} observed the generation that the conditions describe
 * @property {number} since when Ready became what it is; 0 if it is True
 * @property {boolean} deleting
 * @property {Condition[]} conditions
 */

/** @typedef {{problem: string, cut: boolean, listed: boolean}} Watch */

/** Milliseconds that an object may take to become ready before it needs attention. */
const SETTLED_AFTER = 60_000;

/** What the server says of its watch; null if it reads no objects. */
export const kubernetes = signal(/** @type {Watch | null} */ (null));

/** @type {Map<string, QueueObject>} */
const byQueue = new Map();

/** @param {string} queue */
export const objectOf = (queue) => byQueue.get(queue);
export const objectNames = () => [...byQueue.keys()];

/**
 * Replace everything by that of a snapshot.
 * @param {any} snapshot
 */
export function loadObjects({ kubernetes: watch = null, objects }) {
  byQueue.clear();
  kubernetes.value = watch;
  objects?.name.forEach((/** @type {string} */ name, /** @type {number} */ i) => {
    set(name, objects.generation[i], objects.observed[i], objects.since[i], objects.deleting[i], objects.states[objects.conditions[i]]);
  });
}

/**
 * Add what a frame reports.
 * @param {any} frame
 * @returns {boolean} whether objects have changed
 */
export function applyObjects(frame) {
  if (frame.kubernetes) kubernetes.value = frame.kubernetes;
  for (const [name, ...values] of frame.objects ?? []) {
    if (values.length) set(name, .../** @type {[number, number, number, boolean, Condition[]]} */ (values));
    else byQueue.delete(name);
  }
  return Boolean(frame.objects);
}

/**
 * @param {string} queue
 * @param {number} generation
 * @param {number} observed
 * @param {number} since
 * @param {boolean} deleting
 * @param {Condition[]} conditions
 */
function set(queue, generation, observed, since, deleting, conditions) {
  byQueue.set(queue, { queue, generation, observed, since, deleting, conditions });
}

/**
 * @param {QueueObject} object
 * @param {string} wanted
 */
const conditionOf = (object, wanted) => object.conditions.find(([type]) => type === wanted);

/**
 * What keeps a queue from being as its object says, as a word with its reason; null if nothing does.
 * @param {string} queue
 */
export function complaintOf(queue) {
  const object = byQueue.get(queue);
  if (!object) return null;
  const [, status, reason = "", message = ""] = conditionOf(object, "Ready") ?? [];
  const about = { reason, message };
  if (conditionOf(object, "Stalled")?.[1] === "True") return { word: "Stalled", kind: "bad", ...about };
  if (object.deleting) return { word: "Deleting", kind: "", ...about };
  if (object.observed < 0) return { word: "Not seen", kind: "", ...about };
  if (object.observed < object.generation) {
    return { word: "Reconciling", kind: "", reason: "spec changed", message: `no operator has handled generation ${object.generation} yet` };
  }
  if (status === "True") return null;
  if (status === "False" && conditionOf(object, "Reconciling")?.[1] !== "True") return { word: "Not ready", kind: "bad", ...about };
  return { word: "Reconciling", kind: "", ...about };
}

/**
 * Whether a human should look at an object: it is stalled, or not ready for a while.
 * @param {string} queue
 * @param {number} now the time of the server
 */
export function isStuck(queue, now) {
  const complaint = complaintOf(queue);
  const since = byQueue.get(queue)?.since ?? 0;
  return complaint !== null && (complaint.kind === "bad" || (since > 0 && now - since > SETTLED_AFTER));
}

/**
 * An object as kubectl names it. A namespace has no dot, so the first one ends it.
 * @param {string} queue the name of its queue
 */
export function objectName(queue) {
  const dot = queue.indexOf(".");
  return { namespace: queue.slice(0, dot), name: queue.slice(dot + 1) };
}
