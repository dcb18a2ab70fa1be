/** One queue: its numbers, its history, and what is in it. */
import { html, useEffect, useRef } from "../html.mjs";
import { find, loaded, now, tick } from "../board.mjs";
import { depth } from "../queue.mjs";
import { stateOf } from "../attention.mjs";
import { count, duration, percent, rate } from "../format.mjs";
import { go, href, route, setQuery } from "../router.mjs";
import { useKeys } from "../keys.mjs";
import { complaintOf, kubernetes, objectOf } from "../objects.mjs";
import { storeState } from "../stores.mjs";
import { lazy } from "../parts/lazy.mjs";
import { Count, Meter, Name, STATES, Tags } from "../parts/small.mjs";
import { History } from "./history.mjs";
import { Messages } from "./messages.mjs";
import { Message } from "./message.mjs";
import { Tail } from "./tail.mjs";
import { openAdd } from "./add.mjs";
import { openPurge } from "./acts.mjs";

const Consumers = lazy(() => import("./consumers.mjs"), "Consumers");
const Kubernetes = lazy(() => import("./kubernetes.mjs"), "Kubernetes");
const Settings = lazy(() => import("./settings.mjs"), "Settings");

/** @typedef {import("../board.mjs").Queue} Queue */

/** @type {Record<string, string>} */
const TITLES = { ready: "Ready", delayed: "Delayed", leased: "Leased", dead: "Dead", tail: "Live tail", consumers: "Consumers", settings: "Settings", kubernetes: "Kubernetes" };

/** @param {Queue | undefined} queue */
const tabsOf = (queue) => [...STATES, "tail", "consumers", "settings", ...(kubernetes.value || queue?.owner ? ["kubernetes"] : [])];

/** @param {{name: string}} props */
export function QueueScreen({ name }) {
  tick.value;
  const queue = find(name);
  const tabs = tabsOf(queue);
  const tab = tabs.find((each) => each === route.value.query.get("tab")) ?? "ready";
  const message = route.value.query.get("m") ?? "";
  const turn = (/** @type {number} */ by) => setQuery({ tab: tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length], m: "" });
  useKeys([
    ["]", "Next tab", () => turn(1)],
    ["[", "Previous tab", () => turn(-1)],
    ["a", "Add a message…", () => queue && openAdd(queue)],
    ["Escape", "Close the message, else back to the queues", () => (message ? setQuery({ m: "" }) : go(["queues"]))],
  ]);
  if (!loaded.value) return html`<h1>${name}</h1><p class="muted">Loading…</p>`;
  if (!queue) return html`<${Missing} name=${name} />`;
  const state = STATES.find((each) => each === tab);
  return html`<${Head} queue=${queue} /><${Tiles} queue=${queue} /><${History} queue=${queue} />
    <div class=${`two ${message && state ? "open" : ""}`}>
      <div class="card"><${Tabs} queue=${queue} tab=${tab} tabs=${tabs} />
        <div role="tabpanel" aria-label=${TITLES[tab]}>${state ? html`<${Messages} key=${state} queue=${queue} state=${state} message=${message} />`
          : tab === "tail" ? html`<${Tail} queue=${queue} />`
          : tab === "consumers" ? html`<${Consumers} queue=${queue} />`
          : tab === "kubernetes" ? html`<${Kubernetes} label=${queue.label} owner=${queue.owner} />` : html`<${Settings} queue=${queue} />`}</div></div>
      ${message && state && html`<${Message} key=${message} queue=${queue} id=${message} />`}
    </div>`;
}

/** @param {{name: string}} props */
const Missing = ({ name }) => html`<div class="card empty"><h2>No queue is called ${name}</h2>
  <p>${objectOf(name) ? "There is a Queue object for it. Its conditions say why it has no queue." : "It may have been deleted, or its store may have lost it."}</p><p><a class="chip" href="#/queues">All queues</a></p></div>
  ${objectOf(name) && html`<div class="card"><${Kubernetes} label=${name} /></div>`}`;

/** @param {{queue: Queue}} props */
function Head({ queue }) {
  tick.value;
  const { word, kind } = stateOf(queue);
  return html`<div class="head"><h1><${Name} label=${queue.label} /></h1>
    <span class=${`state ${kind}`}>${word}</span><span class="state">${storeState(queue.store)}</span>
    ${queue.limit >= 0 && html`<span class="small muted">limit ${count(queue.limit)} <${Meter} value=${depth(queue)} of=${queue.limit} label="Full" /> ${percent(depth(queue), queue.limit)}</span>`}
    <span class="tags"><${Tags} tags=${queue.tags} most=${8} filter /></span><span class="grow"></span>
    <div class="acts"><button class="chip" onClick=${() => openAdd(queue)}>Add message</button>
      <button class="chip danger" disabled=${depth(queue) === 0} onClick=${() => openPurge(queue, { all: true })}>Purge…</button></div></div>`;
}

/** @param {{queue: Queue}} props */
function Tiles({ queue }) {
  const age = queue.oldest ? duration(now() - queue.oldest) : "—";
  return html`<div class="tiles">
    ${STATES.map((state) => html`<div class="tile"><span><i class=${`key ${state}`}></i>${TITLES[state]}</span>
      <b class="live"><${Count} value=${queue[state]} kind=${state === "dead" ? "dead" : ""} /></b></div>`)}
    <div class="tile"><span>In / out a second</span><b class="live">${rate(queue.inRate)}<small>/ ${rate(queue.outRate)}</small></b></div>
    <div class="tile"><span>Oldest ready</span><b class="live">${age === "—" ? html`<span class="z">—</span>` : age}</b></div></div>`;
}

/** @param {{queue: Queue, tab: string, tabs: string[]}} props */
function Tabs({ queue, tab, tabs }) {
  tick.value;
  const label = (/** @type {string} */ each) => {
    const state = STATES.find((known) => known === each);
    const complaint = each === "kubernetes" ? complaintOf(queue.label) : undefined;
    return html`${TITLES[each]}${state && queue[state] > 0 && html` <span class=${state === "dead" ? "dead" : "muted"}>${count(queue[state])}</span>`}
      ${complaint?.kind === "bad" && html` <span class="dead">${complaint.word}</span>`}`;
  };
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const bar = list.current;
    const at = /** @type {HTMLElement | null} */ (bar?.querySelector("[aria-selected=true]") ?? null);
    if (bar && at) bar.scrollLeft = at.offsetLeft - bar.offsetLeft - (bar.clientWidth - at.clientWidth) / 2;
  }, [tab]);
  return html`<div class="tabs" ref=${list} role="tablist" aria-label="Messages and more">${tabs.map((each) => html`<a role="tab" aria-selected=${each === tab} tabindex=${each === tab ? 0 : -1}
    href=${href(["queues", queue.label], { tab: each })} onKeyDown=${arrows}>${label(each)}</a>`)}</div>`;
}

/** @param {KeyboardEvent} event */
function arrows(event) {
  const list = /** @type {HTMLElement} */ (/** @type {HTMLElement} */ (event.currentTarget).parentElement);
  const tabs = [...list.querySelectorAll("a")];
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  const next = tabs[(tabs.indexOf(/** @type {any} */ (event.currentTarget)) + by + tabs.length) % tabs.length];
  next.click();
  next.focus();
}
