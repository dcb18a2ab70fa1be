/** The messages of a queue in one state, page by page. Looking at them changes nothing. */
import { html, useEffect, useRef, useState } from "../html.mjs";
import { call, of } from "../api.mjs";
import { tick } from "../board.mjs";
import { bytes, count, millis, shortId } from "../format.mjs";
import { route, setQuery } from "../router.mjs";
import { useKeys } from "../keys.mjs";
import { Tags } from "../parts/small.mjs";
import { Time } from "../parts/times.mjs";
import { glimpse } from "../parts/payload.mjs";
import { Filter } from "../parts/filter.mjs";
import { DeadBar, ReadyBar } from "./chosen.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */

const PAGE = 50;
/** The most pages that are read in one go if a filter finds nothing, because the server reads few messages for each. */
const EMPTY_PAGES = 20;

export const REASONS = { MAX_DELIVERIES: "max deliveries", EXPIRED: "expired", REJECTED: "rejected" };

/**
 * The filters of the list, from the page's address.
 */
export const chosenFilters = () => {
  const { query } = route.value;
  return { contains: query.get("contains") ?? "", selector: query.get("selector") ?? "" };
};

/** @param {any} each a browsed message */
export const lastError = (each) => {
  const tried = (each.tries ?? []).at(-1);
  if (!tried) return "";
  return tried.reason || { OUTCOME_LEASE_EXPIRED: "lease ran out", OUTCOME_RELEASED: "stream ended" }[tried.outcome] || "given back";
};

/** @param {any} each a browsed message */
export const sizeOf = (each) => Number(each.payload_size ?? Math.floor(((each.message.payload ?? "").replaceAll("=", "").length * 3) / 4));

/** @param {any} each a browsed message */
export const tagsOf = (each) => (each.message.meta.tags ?? []).map((/** @type {any} */ tag) => `${tag.key}=${tag.value ?? ""}`);

/** @param {{queue: Queue, state: string, message: string}} props */
export function Messages({ queue, state, message }) {
  const { contains, selector } = chosenFilters();
  const isNewest = route.value.query.get("order") === "newest";
  const [tokens, setTokens] = useState([""]);
  const [turn, setTurn] = useState(0);
  const [page, setPage] = useState({ list: /** @type {any[]} */ ([]), next: "", error: "", isLoading: true, of: queue[state] });
  const [picked, setPicked] = useState(/** @type {Set<string>} */ (new Set()));
  const [active, setActive] = useState(-1);
  const token = tokens[tokens.length - 1];
  useEffect(() => setTokens([""]), [contains, selector, isNewest]);
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      setPage((old) => ({ ...old, isLoading: true }));
      read(queue.label, { state, contains, selector, isNewest, token }, stop.signal)
        .then((found) => setPage({ ...found, error: "", isLoading: false, of: queue[state] }))
        .catch((error) => stop.signal.aborted || setPage({ list: [], next: "", error: error.message, isLoading: false, of: queue[state] }));
    }, contains || selector ? 250 : 0);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [queue.label, state, contains, selector, isNewest, token, turn]);
  const { list } = page;
  const reload = () => (setTokens([""]), setTurn(turn + 1), setPicked(new Set()));
  const pick = (/** @type {string} */ id) => {
    const next = new Set(picked);
    if (!next.delete(id)) next.add(id);
    setPicked(next);
  };
  const at = Math.min(active, list.length - 1);
  useKeys([
    ["j", "Next message", () => setActive(Math.min(list.length - 1, at + 1))],
    ["k", "Previous message", () => setActive(Math.max(0, at - 1))],
    ["Enter", "Open the message", () => at >= 0 && setQuery({ m: list[at].message.meta.id })],
    ["x", "Select the message", () => at >= 0 && pick(list[at].message.meta.id)],
    ["r", "Read the list again", reload],
  ]);
  const Bar = state === "dead" ? DeadBar : ReadyBar;
  return html`<div class="pane bar">
      <${Filter} value=${contains} label="Payload contains" placeholder="Payload contains…" onInput=${(/** @type {string} */ text) => setQuery({ contains: text })} />
      <label class="field tagfield"><input type="search" maxlength="4096" value=${selector} placeholder="Tags, as region=eu" aria-label="Select by tags" autocomplete="off" spellcheck=${false}
        onInput=${(/** @type {any} */ event) => setQuery({ selector: event.target.value })} /></label>
      <button class="chip" aria-pressed=${isNewest} onClick=${() => setQuery({ order: isNewest ? "" : "newest" })}>Newest first</button>
    </div>
    <${Bar} queue=${queue} state=${state} picked=${picked} filters=${{ contains, selector }} onDone=${reload} />
    ${page.error && html`<div class="pane"><p class="error" role="alert">${page.error}</p></div>`}
    ${list.length > 0 && html`<table class=${`fixed messages of-${state}`} aria-busy=${page.isLoading}>
      <${Heads} state=${state} list=${list} picked=${picked} onAll=${setPicked} />
      <tbody>${list.map((each, i) => html`<${Line} key=${each.message.meta.id} each=${each} state=${state} isOpen=${each.message.meta.id === message} isActive=${i === at}
        isPicked=${picked.has(each.message.meta.id)} onPick=${pick} onActive=${() => setActive(i)} />`)}</tbody></table>`}
    ${!list.length && !page.error && html`<div class="empty">${page.isLoading ? "Reading…" : page.next ? "Nothing so far. Next searches on." : contains || selector ? "No message matches." : `No ${state} messages.`}</div>`}
    <${Pages} queue=${queue} state=${state} page=${page} tokens=${tokens} onTokens=${setTokens} onReload=${reload} />`;
}

/**
 * Read a page. With a filter the server may return short pages; then the next ones follow, up to a limit.
 * @param {string} id
 * @param {{state: string, contains: string, selector: string, isNewest: boolean, token: string}} wanted
 * @param {AbortSignal} signal
 */
async function read(id, { state, contains, selector, isNewest, token }, signal) {
  const list = [];
  let next = token;
  for (let i = 0; i < EMPTY_PAGES; i += 1) {
    const query = { states: `MESSAGE_STATE_${state.toUpperCase()}`, page_size: PAGE - list.length, payload_bytes: 256, contains, selector, descending: isNewest, page_token: next };
    const found = await call("GET", `${of(id)}/messages`, { query, signal });
    list.push(...(found.messages ?? []));
    next = found.next_page_token ?? "";
    if (!next || list.length >= PAGE) break;
  }
  return { list, next };
}

/** @param {{state: string, list: any[], picked: Set<string>, onAll: (ids: Set<string>) => void}} props */
function Heads({ state, list, picked, onAll }) {
  const ids = list.map((each) => each.message.meta.id);
  const isAll = ids.every((id) => picked.has(id));
  const last = { ready: "Added", delayed: "Ready at", leased: "Lease ends", dead: "Died" }[state];
  return html`<thead><tr><th scope="col" class="pick"><label class="check"><input type="checkbox" aria-label="Select all on this page" checked=${isAll} onChange=${() => onAll(new Set(isAll ? [] : ids))} /></label></th>
    <th scope="col" class="l id">Message</th>
    ${state === "dead" ? html`<th scope="col" class="l why">Why</th><th scope="col" class="l hide">Last error</th>`
      : html`<th scope="col" class="l">Payload</th><th scope="col" class="l hide who-col">${state === "leased" ? "Consumer" : "Tags"}</th>`}
    <th scope="col" class="tries">${state === "dead" || state === "leased" ? "Tries" : "Size"}</th><th scope="col" class="when">${last}</th></tr></thead>`;
}

/** @param {{each: any, state: string, isOpen: boolean, isActive: boolean, isPicked: boolean, onPick: (id: string) => void, onActive: () => void}} props */
function Line({ each, state, isOpen, isActive, isPicked, onPick, onActive }) {
  const { id, created } = each.message.meta;
  const link = useRef(/** @type {HTMLAnchorElement | null} */ (null));
  useEffect(() => {
    if (isActive && !isOpen) link.current?.focus({ preventScroll: false });
  }, [isActive]);
  const when = { ready: millis(created), delayed: millis(each.until), leased: millis(each.until), dead: millis(each.died) }[state];
  const show = (/** @type {Event} */ event) => {
    event.preventDefault();
    onActive();
    setQuery({ m: isOpen ? "" : id });
  };
  return html`<tr class=${isActive ? "at" : ""} aria-selected=${isOpen}>
    <td><label class="check"><input type="checkbox" aria-label=${`Select ${shortId(id)}`} checked=${isPicked} onChange=${() => onPick(id)} /></label></td>
    <td class="l mono" title=${id}><a href="#" ref=${link} onClick=${show}>${shortId(id)}</a></td>
    ${state === "dead"
      ? html`<td class="l"><span class="dead">${REASONS[(each.reason ?? "").replace("DEATH_REASON_", "")] ?? "dead"}</span></td><td class="l hide" title=${lastError(each)}>${lastError(each) || html`<span class="z">—</span>`}</td>`
      : html`<td class="l mono glimpse" onClick=${show}>${glimpse(each.message.payload, sizeOf(each)) || html`<span class="z">empty</span>`}</td>
        <td class="l hide">${state === "leased" ? (each.consumer || html`<span class="z">no name</span>`) : html`<${Tags} tags=${tagsOf(each)} most=${1} />`}</td>`}
    <td>${state === "dead" || state === "leased" ? count(each.count ?? 0) : bytes(sizeOf(each))}</td>
    <td><${Time} ms=${when} /></td></tr>`;
}

/** @param {{queue: Queue, state: string, page: {list: any[], next: string, of: number}, tokens: string[], onTokens: (tokens: string[]) => void, onReload: () => void}} props */
function Pages({ queue, state, page, tokens, onTokens, onReload }) {
  tick.value;
  const has = queue[state];
  const isFirst = tokens.length === 1;
  return html`<div class="pages">
    <span>${page.list.length ? `${count((tokens.length - 1) * PAGE + 1)}–${count((tokens.length - 1) * PAGE + page.list.length)} of ${count(page.of)}` : `${count(page.of)} when read`}</span>
    ${has !== page.of && html`<button class="chip small" onClick=${onReload}>${count(page.of)} → ${count(has)}, read again</button>`}
    <span class="grow"></span>
    <button class="chip small" disabled=${isFirst} onClick=${() => onTokens(tokens.slice(0, -1))}>Previous</button>
    <button class="chip small" disabled=${!page.next} onClick=${() => onTokens([...tokens, page.next])}>Next</button></div>`;
}
