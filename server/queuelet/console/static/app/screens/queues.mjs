/** All queues at a glance. */
import { html, useMemo, useRef, useState } from "../html.mjs";
import { listed, loaded, now, server, shape, tick } from "../board.mjs";
import { FILTERS, stateOf, totals } from "../attention.mjs";
import { filterOf } from "../selector.mjs";
import { count, duration, percent, rate } from "../format.mjs";
import { go, href, route, setQuery } from "../router.mjs";
import { complaintOf, kubernetes, objectOf } from "../objects.mjs";
import { useKeys } from "../keys.mjs";
import { Complaint } from "../parts/complaint.mjs";
import { Filter } from "../parts/filter.mjs";
import { Rows } from "../parts/rows.mjs";
import { Order } from "../order.mjs";
import { Count, Mix, Name, Rates, Tags, Trend } from "../parts/small.mjs";
import { Commands } from "../parts/dialog.mjs";
import { openNewQueue } from "./new_queue.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */

/** @param {Queue} queue */
const nameOf = (queue) => queue.label;

/** @type {{id: string, label: string, kind: string, value?: (queue: Queue) => string | number}[]} */
const COLUMNS = [
  { id: "name", label: "Queue", kind: "name", value: nameOf },
  { id: "state", label: "State", kind: "hide l state-col", value: (queue) => stateOf(queue).word },
  { id: "ready", label: "Ready", kind: "number", value: (queue) => queue.ready },
  { id: "delayed", label: "Delayed", kind: "hide number", value: (queue) => queue.delayed },
  { id: "leased", label: "Leased", kind: "hide number", value: (queue) => queue.leased },
  { id: "dead", label: "Dead", kind: "number", value: (queue) => queue.dead },
  { id: "mix", label: "Mix", kind: "hide mix-col" },
  { id: "trend", label: "Trend", kind: "hide trend-col" },
  { id: "rate", label: "In / out a s", kind: "hide rate-col", value: (queue) => queue.inRate + queue.outRate },
  { id: "oldest", label: "Oldest", kind: "oldest-col", value: (queue) => -(queue.oldest || Infinity) },
];

export function QueuesScreen() {
  const { query } = route.value;
  const text = query.get("filter") ?? "";
  const only = query.get("only") ?? "";
  const sort = query.get("sort") ?? "name";
  const test = useMemo(() => filterOf(text), [text]);
  const [active, setActive] = useState(-1);
  const shown = useOrder(typeof test === "string" ? () => true : test, only, sort, `${text} ${only} ${sort}`);
  const at = Math.min(active, shown.length - 1);
  const move = (/** @type {number} */ to) => setActive(Math.max(0, Math.min(shown.length - 1, to)));
  useKeys([
    ["j", "Next queue", () => move(at + 1)],
    ["k", "Previous queue", () => move(at - 1)],
    ["Enter", "Open the queue", () => at >= 0 && go(["queues", shown[at].label])],
    ["n", "New queue…", openNewQueue],
    ["Escape", "No filter", () => setQuery({ filter: "", only: "" })],
  ]);
  if (!loaded.value) return html`<h1 class="vh">Queues</h1><p class="muted">Loading the queues…</p>`;
  return html`<h1 class="vh">Queues</h1><${Facts} />
    <div class="bar">
      <${Filter} value=${text} label="Filter queues" placeholder="Name, or team=checkout,tier!=bronze"
        error=${typeof test === "string" ? test : ""} onInput=${(/** @type {string} */ filter) => setQuery({ filter })} />
      ${FILTERS.map(({ id, label }, i) => {
        const n = totals.value.filters[i];
        return (n > 0 || only === id || i === 0) && html`<button class=${`chip ${i > 1 ? "hide" : ""}`} aria-pressed=${only === id}
          onClick=${() => setQuery({ only: only === id ? "" : id })}>${label} ${count(n)}</button>`;
      })}
      <a class="chip quiet" href=${href(["queues"], { filter: text, only, sort: query.get("sort") ?? "", view: "plain" })}>Plain table</a>
      <button class="chip primary" onClick=${openNewQueue}>New queue</button>
    </div>
    ${shown.length > 0 ? html`<${Table} shown=${shown} active=${at} sort=${sort} onActive=${setActive} />` : html`<${Nothing} />`}`;
}

/**
 * The queues to show, in order. The order stays while the pointer is over the rows, because they would jump away.
 * @param {(queue: Queue) => boolean} test
 * @param {string} only
 * @param {string} sort
 * @param {string} key changes if the user chose something else
 */
function useOrder(test, only, sort, key) {
  const kept = useRef({ key: "", shape: -1, order: /** @type {Queue[]} */ ([]) });
  const order = useMemo(() => orderOf(sort), [sort]);
  tick.value;
  const isChosenAgain = kept.current.key !== key || kept.current.shape !== shape.value;
  if (isChosenAgain || !document.querySelector("table.queues tbody:hover, table.queues tbody:focus-within")) {
    const chosen = FILTERS.find(({ id }) => id === only)?.test ?? (() => true);
    const found = listed().filter((queue) => test(queue) && chosen(queue));
    kept.current = { key, shape: shape.value, order: order.of(found) };
  }
  return kept.current.order;
}

/** @param {string} sort a column, with `-` for the largest first */
export function orderOf(sort) {
  const column = COLUMNS.find(({ id }) => id === sort.replace("-", ""));
  return new Order(column?.value ?? nameOf, sort.startsWith("-"));
}

function Facts() {
  const sums = totals.value;
  const { memory = 0, watermark = 0 } = server.value;
  const fact = (/** @type {unknown} */ value, /** @type {string} */ label, kind = "") => html`<div class="fact"><b class=${`live ${kind}`}>${value}</b><span>${label}</span></div>`;
  return html`<div class="facts">
    ${fact(count(sums.queues), sums.queues === 1 ? "queue" : "queues")}
    ${fact(count(sums.ready), "ready")}${fact(count(sums.leased), "leased")}
    ${fact(count(sums.dead), sums.dead ? `dead in ${count(sums.deadIn)} queue${sums.deadIn === 1 ? "" : "s"}` : "dead", sums.dead ? "dead" : "")}
    ${fact(html`${rate(sums.in)}<small> / ${rate(sums.out)}</small>`, "in / out a second")}
    ${watermark > 0 && fact(percent(memory, watermark), "of memory watermark")}
  </div>`;
}

/** @param {{shown: Queue[], active: number, sort: string, onActive: (i: number) => void}} props */
function Table({ shown, active, sort, onActive }) {
  tick.value; // A component that reads a signal renders again for its signals only, and the numbers change in place.
  const column = sort.replace("-", "");
  const order = sort.startsWith("-") ? "descending" : "ascending";
  return html`<div class="card"><table class=${`fixed queues ${kubernetes.value ? "with-objects" : ""}`} aria-rowcount=${shown.length + 1}>
    <thead class="stick"><tr aria-rowindex="1">${COLUMNS.map(({ id, label, kind, value }) => html`<th scope="col" class=${kind} title=${id === "trend" ? "Ready messages, up to the last hour" : undefined} aria-sort=${id === column ? order : undefined}>
      ${value ? html`<button onClick=${() => setQuery({ sort: turned(sort, id) })}>${label}${id === column ? (order === "ascending" ? " ↑" : " ↓") : ""}</button>` : label}</th>`)}</tr></thead>
    <${Rows} length=${shown.length} active=${active}
      face=${(/** @type {number} */ i) => [i, i === active, active < 0 && i === 0, ...faceOf(shown[i])]}
      row=${(/** @type {number} */ i, /** @type {unknown[]} */ face) => html`<${Row} face=${face} queue=${shown[i]} i=${i} isActive=${i === active} isFirst=${active < 0 && i === 0} onActive=${onActive} />`} />
  </table></div>`;
}

/**
 * Sort by a column: numbers begin with the largest, and the same column again turns the order.
 * @param {string} sort
 * @param {string} id
 */
function turned(sort, id) {
  const first = id === "name" || id === "state" || id === "oldest" ? id : `-${id}`;
  return sort === first ? (first.startsWith("-") ? id : `-${id}`) : first;
}

/**
 * Everything that a row shows of its queue. Another definition is another object.
 * @param {Queue} queue
 */
const faceOf = (queue) => [
  queue, stateOf(queue).word, objectOf(queue.label), queue.ready, queue.delayed, queue.leased, queue.dead,
  rate(queue.inRate), rate(queue.outRate), queue.oldest ? duration(now() - queue.oldest) : "",
];

/**
 * A row. It renders again if `face` is another one, because the numbers of a queue change in place.
 * @param {{face: unknown[], queue: Queue, i: number, isActive: boolean, isFirst: boolean, onActive: (i: number) => void}} props
 */
function Row({ queue, i, isActive, isFirst, onActive }) {
  const link = useRef(/** @type {HTMLAnchorElement | null} */ (null));
  if (isActive && link.current && document.activeElement !== link.current && document.activeElement?.closest("table.queues, body")) {
    queueMicrotask(() => link.current?.focus({ preventScroll: true }));
  }
  const { word, kind } = stateOf(queue);
  const age = queue.oldest ? now() - queue.oldest : 0;
  return html`<tr class=${isActive ? "at" : ""} aria-rowindex=${i + 2}>
    <td title=${queue.label}><a class="name" ref=${link} href=${href(["queues", queue.label])} tabindex=${isActive || isFirst ? 0 : -1} onFocus=${() => onActive(i)}><${Name} label=${queue.label} /></a><${Tags} tags=${queue.tags} most=${2} filter />${kind === "bad" && html`<span class=${`narrow state ${kind}`}>${word}</span>`}</td>
    <td class="hide l">${isOf(queue, word) ? html`<${Complaint} label=${queue.label} href=${href(["queues", queue.label], { tab: "kubernetes" })} />` : html`<span class=${`state ${kind}`}>${word}</span>`}</td>
    <td class="live"><${Count} value=${queue.ready} /></td>
    <td class="hide live"><${Count} value=${queue.delayed} /></td>
    <td class="hide live"><${Count} value=${queue.leased} /></td>
    <td class="live"><${Count} value=${queue.dead} kind="dead" /></td>
    <td class="hide"><${Mix} queue=${queue} /></td>
    <td class="hide">${!queue.isMissing && html`<${Trend} label=${queue.label} ready=${queue.ready} />`}</td>
    <td class="hide live"><${Rates} queue=${queue} /></td>
    <td class="live">${queue.oldest ? html`<span class=${age > 60_000 ? "warn" : ""}>${duration(age)}</span>` : html`<span class="z">—</span>`}</td>
  </tr>`;
}

/**
 * Whether the state of a queue is that of its object, so that it has a reason.
 * @param {Queue} queue
 * @param {string} word
 */
const isOf = (queue, word) => complaintOf(queue.label)?.word === word;

/** What is shown if no queue is. */
function Nothing() {
  const all = totals.value.queues;
  if (all > 0) {
    return html`<div class="card empty"><h2>No queue matches</h2><p>The filter hides all ${count(all)} queues.</p>
      <button class="chip" onClick=${() => setQuery({ filter: "", only: "" })}>Show all queues</button></div>`;
  }
  return html`<div class="card empty"><h2>No queues yet</h2><p>A queue holds messages until a consumer takes them. Make one here, from a shell, or as a Queue object of Kubernetes.</p>
    <button class="chip primary" onClick=${openNewQueue}>New queue</button>
    <${Commands} open lines=${["queuelet new memory --name orders", "echo hello | queuelet add orders", "queuelet consume orders -- cat"]} summary="From a shell" /></div>`;
}
