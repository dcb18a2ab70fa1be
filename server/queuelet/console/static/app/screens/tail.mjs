/** What happens to the messages of a queue, as a sample that never slows the queue. */
import { html, useEffect, useRef, useState } from "../html.mjs";
import { events, of } from "../api.mjs";
import { tick } from "../board.mjs";
import { bytes, count, duration, millis, rate, shortId } from "../format.mjs";
import { useKeys } from "../keys.mjs";
import { shell } from "../commands.mjs";
import { Command } from "../parts/dialog.mjs";
import { Time } from "../parts/times.mjs";
import { areHidden, glimpse } from "../parts/payload.mjs";

/** The most events that are shown. */
const MOST = 200;
/** Milliseconds between two changes of the list, however many events there are. */
const EVERY = 250;
/** @type {Record<string, string>} */
const SIGNS = { ADDED: "+", LEASED: "→", POPPED: "↑", ACKED: "✓", RETURNED: "↩", DIED: "✗", REDRIVEN: "↻", PURGED: "–" };
/** @type {Record<string, string>} */
const WORDS = { ADDED: "added", LEASED: "leased", POPPED: "popped", ACKED: "acked", RETURNED: "returned", DIED: "died", REDRIVEN: "redriven", PURGED: "purged" };

/** @param {{queue: import("../board.mjs").Queue}} props */
export function Tail({ queue }) {
  const [lines, setLines] = useState(/** @type {unknown[]} */ ([]));
  const [isPaused, setPaused] = useState(false);
  const [state, setState] = useState({ error: "", skipped: 0 });
  const pausing = useRef(false);
  pausing.current = isPaused;
  tick.value;
  useKeys([[" ", "Pause the tail", () => setPaused(!pausing.current)]]);
  useEffect(() => {
    const stop = new AbortController();
    /** @type {unknown[]} */
    let fresh = [];
    let number = 0;
    let skipped = 0;
    const timer = setInterval(() => {
      if (!fresh.length && !skipped) return;
      const [newest, more] = [fresh, skipped];
      fresh = [];
      skipped = 0;
      setState((old) => ({ error: "", skipped: old.skipped + more }));
      setLines((old) => [...newest, ...old].slice(0, MOST));
    }, EVERY);
    const follow = async () => {
      for await (const { data } of events("GET", `${of(queue.label)}/messages:tail`, { query: { payload_bytes: 160, per_second: 20 }, signal: stop.signal })) {
        if (pausing.current) continue;
        skipped += Number(data.skipped ?? 0);
        // Rendered once: Preact passes over what is the same object as before.
        for (const each of data.events ?? []) fresh.unshift(html`<${Event} key=${(number += 1)} each=${each} />`);
        fresh.length = Math.min(fresh.length, MOST);
      }
      setState((old) => ({ ...old, error: "The tail ended." }));
    };
    follow().catch((error) => stop.signal.aborted || setState((old) => ({ ...old, error: error.message })));
    return () => {
      clearInterval(timer);
      stop.abort();
    };
  }, [queue.label]);
  return html`<div class="pane bar"><button class="chip" aria-pressed=${isPaused} onClick=${() => setPaused(!isPaused)}>${isPaused ? "Go on" : "Pause"} <kbd>space</kbd></button>
      <span class="small muted">${rate(queue.inRate)} in, ${rate(queue.outRate)} out a second; at most 20 events a second are shown${state.skipped ? `, ${count(state.skipped)} skipped` : ""}.</span></div>
    ${state.error && html`<div class="pane"><p class="error" role="alert">${state.error}</p></div>`}
    <div class="tail" tabindex="0" role="log" aria-label="Events" aria-live="off">${lines.length ? lines : html`<p class="muted">Nothing has happened since the tail began.</p>`}</div>
    <div class="pane"><${Command} line=${shell("queuelet", "tail", queue.label)} /></div>`;
}

/** @param {{each: any}} props */
function Event({ each }) {
  const kind = (each.kind ?? "").replace("KIND_", "");
  const message = each.message ?? { meta: { id: "" } };
  return html`<div><span class="muted"><${Time} ms=${millis(each.time)} /></span><span class=${kind === "DIED" ? "dead" : ""} title=${WORDS[kind]}>${SIGNS[kind] ?? "?"} <span class="vh">${WORDS[kind]} </span></span>
    <span>${shortId(message.meta.id)}</span>${each.consumer && html`<span>${each.consumer}</span>`}${each.held && html`<span class="muted">${duration(parseFloat(each.held) * 1000)}</span>`}
    <span class="ns">${areHidden() ? bytes(Number(each.payload_size ?? 0)) : message.payload && glimpse(message.payload, Number(each.payload_size ?? 0))}</span></div>`;
}
