/** The dialog that makes dead messages ready again: a count first, a rate, progress, and a stop. */
import { html, useEffect, useRef, useState } from "../html.mjs";
import { events, of } from "../api.mjs";
import { curl, selecting, shell } from "../commands.mjs";
import { count } from "../format.mjs";
import { messagesOf } from "../parts/confirm.mjs";
import { close, Commands, open } from "../parts/dialog.mjs";
import { Field, textOf } from "../parts/form.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */
/** @typedef {{ids?: string[], selector?: string, all?: boolean}} Which */

/**
 * @param {Queue} queue
 * @param {Which} which
 * @param {() => void} [onDone]
 */
export const openRedrive = (queue, which, onDone = () => {}) =>
  open(() => html`<${Redrive} queue=${queue} which=${which} onDone=${onDone} />`);

/** @param {{queue: Queue, which: Which, onDone: () => void}} props */
function Redrive({ queue, which, onDone }) {
  const path = `${of(queue.label)}/messages:redrive`;
  const [rate, setRate] = useState("50");
  const [total, setTotal] = useState(/** @type {number | null} */ (null));
  const [state, setState] = useState({ phase: "asking", done: 0, error: "" });
  const stop = useRef(new AbortController());
  const run = async (/** @type {object} */ body, /** @type {(done: number) => void} */ on) => {
    for await (const { data } of events("POST", path, { body, signal: stop.current.signal })) on(Number(data.redriven ?? 0));
  };
  useEffect(() => {
    let found = 0;
    run({ ...which, dry_run: true }, (n) => (found = n)).then(() => setTotal(found)).catch((error) => setState({ phase: "failed", done: 0, error: error.message }));
    return () => stop.current.abort();
  }, []);
  const perSecond = Math.max(0, Math.floor(Number(rate) || 0));
  const body = { ...which, ...(perSecond && { rate: perSecond }) };
  const start = async (/** @type {Event} */ event) => {
    event.preventDefault();
    stop.current = new AbortController();
    let done = 0;
    setState({ phase: "running", done, error: "" });
    try {
      await run(body, (n) => setState({ phase: "running", done: (done = n), error: "" }));
      setState({ phase: "done", done, error: "" });
    } catch (error) {
      setState({ phase: stop.current.signal.aborted ? "stopped" : "failed", done, error: stop.current.signal.aborted ? "" : /** @type {Error} */ (error).message });
    }
    onDone();
  };
  const { phase, done, error } = state;
  const all = total ?? 0;
  return html`<form onSubmit=${start}>
    <h2 id="dialog-title">Redrive ${queue.label}</h2>
    <p aria-live="polite">${phase === "asking"
      ? total === null ? "Counting…" : html`<b>${messagesOf(all)}</b> would be made ready, as if ${all === 1 ? "it" : "they"} had just been added. ${all === 1 ? "It keeps its" : "They keep their"} history.`
      : html`<b>${count(done)} of ${count(all)}</b> ${{ running: "are ready again", done: "are ready again. Done.", stopped: "are ready again. Stopped; the others stay dead.", failed: "are ready again. It failed; the others stay dead." }[phase]}`}</p>
    ${phase === "asking"
      ? html`<${Field} label="Messages a second" hint="0: as fast as possible"><input inputmode="numeric" value=${rate} onInput=${(/** @type {Event} */ event) => setRate(textOf(event))} /></${Field}>`
      : html`<svg class="progress" viewBox="0 0 100 8" preserveAspectRatio="none" role="progressbar" aria-label="Redriven messages" aria-valuemin="0" aria-valuemax=${all} aria-valuenow=${done}><rect width=${all ? (done / all) * 100 : 100} height="8" /></svg>`}
    <${Commands} lines=${[shell("queuelet", "dead", "redrive", queue.label, ...selecting(which), ...(perSecond ? ["--rate", perSecond] : [])), curl("POST", path, body)]} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="buttons">${phase === "running"
      ? html`<button type="button" class="chip danger" onClick=${() => stop.current.abort()}>Stop</button>`
      : html`<button type="button" class="chip" autofocus onClick=${close}>${phase === "asking" ? "Cancel" : "Close"}</button>
        ${phase === "asking" && html`<button class="chip primary" disabled=${!all}>Redrive ${messagesOf(all)}</button>`}`}</div>
  </form>`;
}
