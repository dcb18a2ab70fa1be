/** What keeps a queue from being as its Queue object says. */
import { count } from "../format.mjs";
import { html } from "../html.mjs";
import { complaintOf, objectName, objectOf } from "../objects.mjs";

/**
 * What is wrong with the object of a queue, as a link to all of it.
 * @param {{label: string, href: string}} props
 */
export function Complaint({ label, href }) {
  const complaint = complaintOf(label);
  if (!complaint) return null;
  const { word, kind, reason, message } = complaint;
  const object = objectOf(label);
  return html`<a class="complaint" href=${href} tabindex="-1" title=${`${nameOf(label)}: ${reason}: ${message} (generation ${object?.generation}, ${observed(object)})`}>
    <span class=${`state ${kind}`}>${word}</span> <span class="small muted">${reason}</span></a>`;
}

/** @param {string} label */
export function nameOf(label) {
  const { namespace, name } = objectName(label);
  return `${namespace}/${name}`;
}

/** @param {import("../objects.mjs").QueueObject | undefined} object */
export function observed(object) {
  if (!object || object.observed < 0) return "not yet seen by an operator";
  return object.observed === object.generation ? "described by the conditions" : `but the conditions describe ${count(object.observed)}`;
}
