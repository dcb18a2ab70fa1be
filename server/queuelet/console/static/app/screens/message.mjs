/** One message beside the list: its facts, its payload, its life and its tries. */
import { html, useEffect, useRef, useState } from "../html.mjs";
import { address, call, of } from "../api.mjs";
import { curl, shell } from "../commands.mjs";
import { duration, millis, shortId } from "../format.mjs";
import { setQuery } from "../router.mjs";
import { Tags } from "../parts/small.mjs";
import { Commands, copy } from "../parts/dialog.mjs";
import { Life } from "../parts/life.mjs";
import { Payload } from "../parts/payload.mjs";
import { Time } from "../parts/times.mjs";
import { openPurge } from "./acts.mjs";
import { openRedrive } from "./redrive.mjs";
import { REASONS, sizeOf, tagsOf } from "./messages.mjs";

/** The most bytes of a payload that are read at once. */
const FIRST = 65_536;
/** @typedef {import("../board.mjs").Queue} Queue */

/** @param {{queue: Queue, id: string}} props */
export function Message({ queue, id }) {
  const [whole, setWhole] = useState(false);
  const [found, setFound] = useState({ id: "", each: /** @type {any} */ (null), text: "" });
  const [turn, setTurn] = useState(0);
  const panel = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const stop = new AbortController();
    call("GET", `${of(queue.label)}/messages/${encodeURIComponent(id)}`, { query: { payload_bytes: whole ? undefined : FIRST }, signal: stop.signal })
      .then(({ messages = [] }) => setFound({ id, each: messages[0] ?? null, text: "It is no longer in the queue: it was acknowledged, popped or purged." }))
      .catch((error) => stop.signal.aborted || setFound({ id, each: null, text: error.message }));
    return () => stop.abort();
  }, [queue.label, id, whole, turn]);
  useEffect(() => {
    if (matchMedia("(max-width: 1080px)").matches) panel.current?.focus();
  }, []);
  // Not the message before, whose acts would be below the name of this one.
  const { each, text } = found.id === id ? found : { each: null, text: "Reading…" };
  const again = () => setTurn(turn + 1);
  return html`<aside class="card pane drawer" aria-label="Message" tabindex="-1" ref=${panel}>
    <header><h2>Message <span class="mono">${shortId(id)}</span></h2>
      <button class="chip small quiet" onClick=${() => copy(id)}>Copy ID</button>
      <button class="chip small quiet" onClick=${again}>Read again</button>
      <button class="chip small" onClick=${() => setQuery({ m: "" })}>Close</button></header>
    ${each ? html`<${Facts} each=${each} /><${Payload} base64=${each.message.payload} size=${sizeOf(each)} onWhole=${() => setWhole(true)} />
      <${Story} each=${each} /><${Acts} queue=${queue} each=${each} onDone=${again} />` : html`<p class="muted">${text}</p>`}
  </aside>`;
}

/** @param {any} each */
const stateOf = (each) => (each.state ?? "").replace("MESSAGE_STATE_", "").toLowerCase();

/** @param {{each: any}} props */
function Facts({ each }) {
  const { meta, priority = 0, ttl, not_before: from } = each.message;
  const tags = tagsOf(each);
  const fact = (/** @type {string} */ label, /** @type {unknown} */ value) => html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`<dl>
    ${fact("Id", html`<span class="mono">${meta.id}</span>`)}
    ${fact("Added", html`<${Time} ms=${millis(meta.created)} both />`)}
    ${tags.length > 0 && fact("Tags", html`<${Tags} tags=${tags} />`)}
    ${priority !== 0 && fact("Priority", priority)}
    ${from && fact("Not before", html`<${Time} ms=${millis(from)} both />`)}
    ${ttl && fact("Time to live", duration(parseFloat(ttl) * 1000))}
    ${each.until && fact(stateOf(each) === "leased" ? "Lease ends" : "Ready at", html`<${Time} ms=${millis(each.until)} both />`)}
    ${each.consumer && fact("Consumer", each.consumer)}
    ${each.reason && fact("Died", html`<span class="dead">${REASONS[each.reason.replace("DEATH_REASON_", "")]}</span>, <${Time} ms=${millis(each.died)} both />`)}
  </dl>`;
}

/** @type {Record<string, string>} */
const OUTCOMES = { NACKED: "gave it back", LEASE_EXPIRED: "let the lease run out", RELEASED: "lost its stream" };

/** @param {{each: any}} props */
function Story({ each }) {
  const tries = (each.tries ?? []).toReversed();
  return html`<h3>Life</h3><${Life} state=${stateOf(each)} wasDelayed=${Boolean(each.message.not_before)} deliveries=${each.count ?? tries.length} />
    ${tries.length > 0 && html`<h3>Tries <span class="muted small">newest first</span></h3>
      ${tries.map((/** @type {any} */ each) => {
        const outcome = each.outcome.replace("OUTCOME_", "");
        return html`<div class="try"><i class=${outcome}></i><span>${each.consumer || "A consumer"} ${OUTCOMES[outcome]}${each.reason && html`: ${each.reason}`}
          <span class="muted"> after ${duration(millis(each.ended) - millis(each.began))}</span></span><span class="ns"><${Time} ms=${millis(each.ended)} /></span></div>`;
      })}`}`;
}

/** @param {{queue: Queue, each: any, onDone: () => void}} props */
function Acts({ queue, each, onDone }) {
  const { id } = each.message.meta;
  const state = stateOf(each);
  const path = `${of(queue.label)}/messages/${id}`;
  return html`<div class="bar acts-bar">
      ${state === "dead" && html`<button class="chip primary" onClick=${() => openRedrive(queue, { ids: [id] }, onDone)}>Redrive…</button>`}
      <button class="chip danger" onClick=${() => openPurge(queue, { ids: [id] }, onDone)}>Purge…</button></div>
    <${Commands} lines=${[curl("GET", address(path)), shell("queuelet", "purge", queue.label, "--id", id)]} />`;
}
