/** The acts on messages of a list: on those that are selected, or on all that the filter shows. */
import { html } from "../html.mjs";
import { tick } from "../board.mjs";
import { count } from "../format.mjs";
import { openPurge } from "./acts.mjs";
import { openRedrive } from "./redrive.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */
/**
 * @typedef {object} Props
 * @property {Queue} queue
 * @property {string} state
 * @property {Set<string>} picked
 * @property {{contains: string, selector: string}} filters
 * @property {() => void} onDone
 */

/**
 * What an act applies to. A search in payloads is no filter of acts, because the server selects by tags only.
 * @param {Props} props
 */
const chosen = ({ picked, filters }) =>
  picked.size ? { ids: [...picked] } : filters.selector ? { selector: filters.selector } : { all: true };

/** @param {Props} props */
export function DeadBar(props) {
  tick.value;
  const { queue, picked, filters, onDone } = props;
  if (!queue.dead) return null;
  const which = chosen(props);
  const many = picked.size ? `${count(picked.size)} selected` : filters.selector ? "all that match" : `all ${count(queue.dead)}`;
  const isSearch = filters.contains && !picked.size;
  return html`<div class="pane bar change">
    <button class=${`chip ${picked.size ? "primary" : ""}`} disabled=${isSearch} onClick=${() => openRedrive(queue, which, onDone)}>Redrive ${many}…</button>
    <button class="chip danger" disabled=${isSearch} onClick=${() => openPurge(queue, { ...which, states: ["dead"] }, onDone)}>Purge ${many}…</button>
    ${isSearch && html`<span class="small muted">Select messages, because a search in payloads cannot choose them.</span>`}</div>`;
}

/** @param {Props} props */
export function ReadyBar({ queue, state, picked, onDone }) {
  if (!picked.size) return null;
  return html`<div class="pane bar change"><button class="chip danger" onClick=${() => openPurge(queue, { ids: [...picked], states: [state] }, onDone)}>Purge ${count(picked.size)} selected…</button></div>`;
}
