/** Dead messages across all queues, grouped by queue and reason. */
import { html, useEffect, useState } from "../html.mjs";
import { call, of } from "../api.mjs";
import { find, loaded, queues, tick } from "../board.mjs";
import { count } from "../format.mjs";
import { href } from "../router.mjs";
import { Name } from "../parts/small.mjs";
import { Time } from "../parts/times.mjs";
import { millis } from "../format.mjs";
import { openPurge } from "./acts.mjs";
import { openRedrive } from "./redrive.mjs";
import { lastError, REASONS } from "./messages.mjs";

/** The most queues that are shown, and the messages of each that are read to group them. */
const MOST = 50;
const SAMPLE = 200;
/** @typedef {{reason: string, error: string, count: number, newest: number}} Group */

export function DeadScreen() {
  tick.value;
  const all = queues().filter(({ dead }) => dead > 0).sort((a, b) => b.dead - a.dead);
  const sum = all.reduce((total, { dead }) => total + dead, 0);
  if (!loaded.value) return html`<h1>Dead messages</h1><p class="muted">Loading…</p>`;
  if (!all.length) return html`<h1 class="vh">Dead messages</h1><div class="card empty"><h2>No dead messages</h2>
    <p>A message dies if it was delivered too often, lived too long, or was rejected by a consumer. It stays in its queue with its history until it is redriven or purged.</p></div>`;
  return html`<div class="head"><h1>Dead messages</h1><span class="muted">${count(sum)} in ${count(all.length)} queue${all.length === 1 ? "" : "s"}</span></div>
    ${all.slice(0, MOST).map((queue) => html`<${Card} key=${queue.label} label=${queue.label} dead=${queue.dead} />`)}
    ${all.length > MOST && html`<p class="muted small">${count(all.length - MOST)} more queues have dead messages: <a class="tag" href=${href(["queues"], { only: "dead", sort: "-dead" })}>show all</a></p>`}`;
}

/** @param {{label: string, dead: number}} props */
function Card({ label, dead }) {
  const queue = find(label);
  const [groups, setGroups] = useState(/** @type {Group[] | null} */ (null));
  const [error, setError] = useState("");
  useEffect(() => {
    const stop = new AbortController();
    const query = { states: "MESSAGE_STATE_DEAD", page_size: SAMPLE, payload_bytes: 0, descending: true };
    call("GET", `${of(label)}/messages`, { query, signal: stop.signal })
      .then(({ messages = [] }) => setGroups(grouped(messages)))
      .catch((refused) => stop.signal.aborted || setError(refused.message));
    return () => stop.abort();
  }, [label, dead]);
  if (!queue) return null;
  const seen = (groups ?? []).reduce((sum, each) => sum + each.count, 0);
  return html`<section class="card" aria-label=${queue.label}>
    <div class="pane bar dead-head"><a class="name" href=${href(["queues", queue.label], { tab: "dead" })}><${Name} label=${queue.label} /></a><span class="dead">${count(dead)}</span><span class="grow"></span>
      <button class="chip change" onClick=${() => openRedrive(queue, { all: true })}>Redrive all…</button>
      <button class="chip danger" onClick=${() => openPurge(queue, { all: true, states: ["dead"] })}>Purge all…</button></div>
    ${error && html`<p class="error pane">${error}</p>`}
    ${(groups ?? []).map(({ reason, error: why, count: n, newest }) => html`<div class="reason"><span class="dead">${reason}</span><span class="grow">${why || html`<span class="z">no reason given</span>`}</span>
      <span class="muted"><${Time} ms=${newest} /></span><b>${count(n)}</b></div>`)}
    ${seen > 0 && seen < dead && html`<div class="reason whole muted small">The newest ${count(seen)} of ${count(dead)} are grouped.</div>`}
  </section>`;
}

/**
 * @param {any[]} messages
 * @returns {Group[]}
 */
function grouped(messages) {
  /** @type {Map<string, Group>} */
  const found = new Map();
  for (const each of messages) {
    const reason = REASONS[(each.reason ?? "").replace("DEATH_REASON_", "")] ?? "dead";
    const error = lastError(each);
    const key = `${reason}\n${error}`;
    const group = found.get(key) ?? { reason, error, count: 0, newest: 0 };
    group.count += 1;
    group.newest = Math.max(group.newest, millis(each.died));
    found.set(key, group);
  }
  return [...found.values()].sort((a, b) => b.count - a.count).slice(0, 20);
}
