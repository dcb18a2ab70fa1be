/** The definition of a queue and its counters since it was created. */
import { html, useEffect, useState } from "../html.mjs";
import { call, of } from "../api.mjs";
import { curl, shell } from "../commands.mjs";
import { bytes, count, duration } from "../format.mjs";
import { storeSentence } from "../stores.mjs";
import { Commands } from "../parts/dialog.mjs";
import { Tags } from "../parts/small.mjs";
import { Time } from "../parts/times.mjs";
import { openDelete } from "./acts.mjs";

const COUNTERS = [
  ["enqueued", "added"], ["consumed", "popped"], ["acked", "acknowledged"], ["nacked", "given back"], ["redelivered", "redelivered"], ["expired", "leases expired"],
  ["released", "leases of ended streams"], ["buried", "died"], ["redriven", "redriven"], ["purged", "purged"], ["refused_full", "refused: full"], ["damaged", "set aside: damaged"],
];

/** @param {{queue: import("../board.mjs").Queue}} props */
export function Settings({ queue }) {
  const [stats, setStats] = useState(/** @type {any} */ (null));
  const [error, setError] = useState("");
  useEffect(() => {
    call("GET", `${of(queue.label)}/stats`).then((found) => setStats(found.queue)).catch((refused) => setError(refused.message));
  }, [queue.label]);
  const { meta = {}, delivery = {}, revision, epoch } = stats?.queue ?? {};
  const fact = (/** @type {string} */ label, /** @type {unknown} */ value) => html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`<div class="pane settings">${error && html`<p class="error" role="alert">${error}</p>`}
    <div><h2>Definition</h2><dl>
      ${fact("Id", html`<span class="mono">${meta.id}</span>`)}${queue.name && fact("Name", html`<span class="mono">${queue.name}</span>`)}
      ${fact("Store", storeSentence(queue.store))}
      ${fact("Limit", queue.limit < 0 ? "unlimited" : `${count(queue.limit)} messages`)}
      ${fact("Lease", `${delivery.lease_seconds ?? 30} s`)}${fact("Dead after", `${delivery.max_deliveries ?? 5} deliveries`)}
      ${fact("Time to live", delivery.message_ttl_seconds ? duration(Number(delivery.message_ttl_seconds) * 1000) : "unlimited")}
      ${fact("Draining", queue.draining ? "yes: Add is refused" : "no")}${queue.tags.length > 0 && fact("Tags", html`<${Tags} tags=${queue.tags} />`)}
      ${fact("Owner", queue.owner || "none: made by hand")}${fact("Created", html`<${Time} ms=${queue.created} both />`)}
      ${revision && fact("Revision", count(revision))}${epoch && fact("Epoch", html`<span class="mono">${epoch}</span>`)}</dl></div>
    <div><h2>Since it was created</h2>${stats && html`<dl>${COUNTERS.map(([key, label]) => fact(label, html`<span class=${stats[key] ? "" : "z"}>${count(stats[key] ?? "0")}</span>`))}
      ${fact("stored", bytes(Number(stats.stored_bytes ?? 0)))}</dl>`}</div></div>
    <div class="pane">${queue.owner
      ? html`<p class="muted small">A Queue object owns this queue. Change or delete the object: the operator would undo what is done here.</p><${Commands} open lines=${[kubectl(queue.owner)]} summary="Delete it" />`
      : html`<button class="chip danger" onClick=${() => openDelete(queue)}>Delete queue…</button>`}
      <${Commands} lines=${[shell("queuelet", "stats", queue.label), curl("GET", `${of(queue.label)}/stats`)]} /></div>`;
}

/** @param {string} owner `<instance>/<namespace>/<name>`, where the instance may have slashes */
function kubectl(owner) {
  const [name, namespace] = owner.split("/").reverse();
  return shell("kubectl", "--namespace", namespace ?? "default", "delete", "queues.queuelet.dev", name);
}
