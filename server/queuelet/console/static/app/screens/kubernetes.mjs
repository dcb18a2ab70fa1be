/** The Queue object of a queue: its generation and its conditions, as the operator wrote them. */
import { html } from "../html.mjs";
import { shape, tick } from "../board.mjs";
import { shell } from "../commands.mjs";
import { count } from "../format.mjs";
import { kubernetes, objectName, objectOf } from "../objects.mjs";
import { nameOf, observed } from "../parts/complaint.mjs";
import { Commands } from "../parts/dialog.mjs";
import { Time } from "../parts/times.mjs";

/** @param {{label: string, owner?: string}} props */
export function Kubernetes({ label, owner = "" }) {
  tick.value;
  shape.value;
  const object = objectOf(label);
  const watch = kubernetes.value;
  const fact = (/** @type {string} */ name, /** @type {unknown} */ value) => html`<dt>${name}</dt><dd>${value}</dd>`;
  return html`<div class="pane">
      ${watch?.problem && html`<p class="error" role="alert">The server cannot read Queue objects: ${watch.problem}</p>`}
      ${!watch && html`<p class="muted">This server does not read Queue objects, so their conditions are not shown here. In a Pod, <code>--queue-objects</code> lets it.</p>`}
      ${watch && !object && html`<p class="muted">${missing(watch, owner)}</p>`}
      ${object && html`<dl>${fact("Object", html`<span class="mono">${nameOf(label)}</span>`)}
        ${fact("Generation", html`${count(object.generation)}<span class="muted">, ${observed(object)}</span>`)}
        ${object.deleting && fact("Deletion", "was requested")}
        ${object.since > 0 && fact("Not ready since", html`<${Time} ms=${object.since} both />`)}</dl>`}
    </div>
    ${object && html`<${Conditions} object=${object} />`}
    ${(object || owner) && html`<div class="pane"><${Commands} lines=${commands(label, owner)} summary="With kubectl, also its events" open=${!object} /></div>`}`;
}

/** @param {{object: import("../objects.mjs").QueueObject}} props */
function Conditions({ object }) {
  if (!object.conditions.length) return html`<p class="pane muted">It has no conditions yet: no operator of its class has handled it.</p>`;
  return html`<table class="conditions"><thead><tr><th scope="col">Condition</th><th scope="col" class="l">Status</th><th scope="col" class="l">Reason</th><th scope="col" class="l">Message</th></tr></thead>
    <tbody>${object.conditions.map(([type, status, reason, message]) => html`<tr><td class="name">${type}</td>
      <td class="l"><span class=${`state ${kindOf(type, status)}`}>${status}</span></td><td class="l">${reason}</td><td class="l text">${message}</td></tr>`)}</tbody></table>`;
}

/**
 * Ready should be True; the others are there only while something is wrong or under way.
 * @param {string} type
 * @param {string} status
 */
const kindOf = (type, status) => (type === "Ready" ? { True: "ok", False: "bad" }[status] ?? "" : type === "Stalled" && status === "True" ? "bad" : "");

/**
 * @param {import("../objects.mjs").Watch} watch
 * @param {string} owner
 */
function missing(watch, owner) {
  if (!watch.listed) return watch.problem ? "" : "Reading the Queue objects…";
  const cut = watch.cut ? " There are more objects than the server keeps for the console." : "";
  return owner ? `The object that owns this queue is gone, or is not among those that the server reads.${cut}` : `No Queue object has this queue: it was made by hand.${cut}`;
}

/**
 * @param {string} label
 * @param {string} owner `<instance>/<namespace>/<name>`, where the instance may have slashes
 */
function commands(label, owner) {
  const [name, namespace] = owner ? owner.split("/").reverse() : [objectName(label).name, objectName(label).namespace];
  const where = ["kubectl", "--namespace", namespace ?? "default"];
  return [shell(...where, "describe", "queues.queuelet.dev", name), shell(...where, "get", "queues.queuelet.dev", name, "--output", "yaml")];
}
