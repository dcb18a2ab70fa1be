/** Acts that remove something for good: purge, and deleting a queue. */
import { html } from "../html.mjs";
import { call, of } from "../api.mjs";
import { depth } from "../queue.mjs";
import { curl, selecting, shell } from "../commands.mjs";
import { go } from "../router.mjs";
import { confirm, messagesOf } from "../parts/confirm.mjs";
import { say } from "../parts/dialog.mjs";
import { STATES } from "../parts/small.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */
/** @typedef {{ids?: string[], selector?: string, all?: boolean, states?: readonly import("../board.mjs").State[]}} Which */

/**
 * Count what would be purged, and ask.
 * @param {Queue} queue
 * @param {Which} which
 * @param {() => void} [onDone]
 */
export async function openPurge(queue, which, onDone = () => {}) {
  const states = which.states?.map((state) => `MESSAGE_STATE_${state.toUpperCase()}`);
  const body = { ...which, states };
  const path = `${of(queue.label)}/messages:purge`;
  let messages;
  try {
    messages = await counted(queue, which, path, body);
  } catch (error) {
    say(/** @type {Error} */ (error).message);
    return;
  }
  const kind = which.states?.length === 1 ? `${which.states[0]} ` : "";
  const what = `${messagesOf(messages).replace("message", `${kind}message`)}`;
  confirm({
    title: `Purge ${queue.label}`,
    name: queue.label,
    count: messages,
    text: html`Removes <b>${what}</b> of <b class="mono">${queue.label}</b> for good. Consumers never get them.`,
    button: `Purge ${messagesOf(messages)}`,
    lines: [
      shell("queuelet", "purge", queue.label, ...selecting(which), ...(which.states ?? []).flatMap((state) => ["--state", state])),
      curl("POST", path, body),
    ],
    act: async () => {
      const { purged = 0 } = await call("POST", path, { body });
      onDone();
      return `${messagesOf(Number(purged))} of ${queue.label} ${Number(purged) === 1 ? "was" : "were"} purged`;
    },
  });
}

/**
 * How many messages a purge would remove. Only a selector needs the server for that: a server that does not know
 * `dry_run` yet, behind a newer gateway, would purge at once.
 * @param {Queue} queue
 * @param {Which} which
 * @param {string} path
 * @param {object} body
 */
async function counted(queue, { ids, selector, states = STATES }, path, body) {
  if (ids) return ids.length;
  if (!selector) return states.reduce((sum, state) => sum + queue[state], 0);
  return Number((await call("POST", path, { body: { ...body, dry_run: true } })).purged ?? 0);
}

/** @param {Queue} queue */
export function openDelete(queue) {
  confirm({
    title: `Delete queue ${queue.label}`,
    name: queue.label,
    count: depth(queue),
    typed: true,
    text: html`Deletes the queue <b class="mono">${queue.label}</b> with its <b>${messagesOf(depth(queue))}</b> for good. Producers and consumers get NOT_FOUND.`,
    button: depth(queue) ? `Delete queue and ${messagesOf(depth(queue))}` : "Delete queue",
    lines: [shell("queuelet", "delete", queue.label), curl("DELETE", of(queue.label))],
    act: async () => {
      await call("DELETE", of(queue.label));
      go(["queues"]);
      return `Queue ${queue.label} was deleted`;
    },
  });
}
