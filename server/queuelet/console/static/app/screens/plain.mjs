/** Queues as a plain table, 100 at a time, which stands still: for screen readers, and to print. */
import { html, useMemo, useState } from "../html.mjs";
import { loaded, now, queues } from "../board.mjs";
import { FILTERS, stateOf } from "../attention.mjs";
import { filterOf } from "../selector.mjs";
import { count, duration, rate } from "../format.mjs";
import { href, route, setQuery } from "../router.mjs";
import { Time } from "../parts/times.mjs";
import { orderOf } from "./queues.mjs";

const PAGE = 100;

export function PlainScreen() {
  const { query } = route.value;
  const text = query.get("filter") ?? "";
  const only = query.get("only") ?? "";
  const sort = query.get("sort") ?? "name";
  const [turn, setTurn] = useState(0);
  const { at, all } = useMemo(() => read(text, only, sort), [text, only, sort, turn, loaded.value]);
  const last = Math.max(1, Math.ceil(all.length / PAGE));
  const page = Math.max(1, Math.min(last, Math.floor(Number(query.get("page")) || 1)));
  const shown = all.slice((page - 1) * PAGE, page * PAGE);
  if (!loaded.value) return html`<h1>Queues</h1><p class="muted">Loading the queues…</p>`;
  const to = (/** @type {number} */ n) => () => setQuery({ page: n > 1 ? String(n) : "" });
  return html`<div class="head"><h1>Queues</h1><span class="muted">at <${Time} ms=${at} />${text && html`, filtered by <code>${text}</code>`}</span></div>
    <div class="bar">
      <button class="chip" onClick=${() => setTurn(turn + 1)}>Read again</button>
      <button class="chip" disabled=${page === 1} onClick=${to(page - 1)}>Previous ${PAGE}</button>
      <button class="chip" disabled=${page === last} onClick=${to(page + 1)}>Next ${PAGE}</button>
      <button class="chip" onClick=${() => print()}>Print…</button>
      <a class="chip quiet" href=${href(["queues"], { filter: text, only, sort: query.get("sort") ?? "" })}>Live table</a></div>
    <div class="card wide" tabindex="0" role="region" aria-label="Table"><table class="plain">
      <caption>${shown.length ? `Queues ${count((page - 1) * PAGE + 1)} to ${count((page - 1) * PAGE + shown.length)} of ${count(all.length)}` : "No queue matches"}</caption>
      <thead><tr><th scope="col">Queue</th><th scope="col" class="l">Tags</th><th scope="col" class="l">State</th><th scope="col">Ready</th><th scope="col">Delayed</th><th scope="col">Leased</th><th scope="col">Dead</th>
        <th scope="col">In a second</th><th scope="col">Out a second</th><th scope="col">Oldest ready</th></tr></thead>
      <tbody>${shown.map(({ queue, word }) => html`<tr key=${queue.label}><th scope="row"><a class="name" href=${href(["queues", queue.label])}>${queue.label}</a></th><td class="l">${queue.tags.join(", ")}</td><td class="l">${word}</td>
        <td>${count(queue.ready)}</td><td>${count(queue.delayed)}</td><td>${count(queue.leased)}</td><td>${count(queue.dead)}</td>
        <td>${rate(queue.inRate)}</td><td>${rate(queue.outRate)}</td><td>${queue.oldest ? duration(at - queue.oldest) : "none"}</td></tr>`)}</tbody></table></div>`;
}

/**
 * What the table shows until it is read again: copies, because the page goes on to count.
 * @param {string} text
 * @param {string} only
 * @param {string} sort
 */
function read(text, only, sort) {
  const test = filterOf(text);
  const chosen = FILTERS.find(({ id }) => id === only)?.test ?? (() => true);
  const found = queues().filter((queue) => (typeof test === "string" || test(queue)) && chosen(queue));
  return { at: now(), all: orderOf(sort).of(found).map((queue) => ({ queue: { ...queue }, word: stateOf(queue).word })) };
}
