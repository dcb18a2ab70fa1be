/** One queue with its numbers, as the page knows it. */

/**
 * @typedef {object} Queue
 * @property {number} row its place in the frames of the stream
 * @property {string} id empty if there is a name
 * @property {string} name
 * @property {string} label the name, or the ID if there is none
 * @property {string[]} tags
 * @property {string} store
 * @property {number} limit -1 if there is none
 * @property {string} owner
 * @property {boolean} draining
 * @property {number} created
 * @property {number} ready
 * @property {number} delayed
 * @property {number} leased
 * @property {number} dead
 * @property {number} added
 * @property {number} removed
 * @property {number} oldest
 * @property {number} countedAt the time of the frame that had its numbers; 0 if none had
 * @property {number} inRate messages added per second
 * @property {number} outRate messages popped and acknowledged per second
 * @property {boolean} [isMissing] whether there is only a Queue object, and no queue
 */

/** @param {Queue} queue */
export const depth = (queue) => queue.ready + queue.delayed + queue.leased + queue.dead;

/** The numbers of a queue of which none is known. */
export const EMPTY = { ready: 0, delayed: 0, leased: 0, dead: 0, added: 0, removed: 0, oldest: 0, countedAt: 0, inRate: 0, outRate: 0 };

/**
 * What stands for a queue that does not exist.
 * @param {string} name
 * @returns {Queue}
 */
export const missing = (name) => ({ ...EMPTY, row: -1, id: "", name, label: name, tags: [], store: "", limit: -1, owner: "", draining: false, created: 0, isMissing: true });
