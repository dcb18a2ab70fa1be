/** The dialog that saves the messages of a state as a file: one message in each line, as JSON. */
import { html, useEffect, useRef, useState } from "../html.mjs";
import { address, lines, of } from "../api.mjs";
import { curlLines, shell } from "../commands.mjs";
import { bytes, counted } from "../format.mjs";
import { close, Commands, open } from "../parts/dialog.mjs";

/** The most bytes of a file, because the page holds it until it is saved. */
const MOST = 256 * 1024 * 1024;
const NEWLINE = 10;
/** Milliseconds between two reports of progress. */
const EVERY = 200;

/** @typedef {import("../board.mjs").Queue} Queue */
/** @typedef {import("../board.mjs").State} State */
/** @typedef {{contains: string, selector: string, isNewest: boolean}} Filters */

/**
 * @param {Queue} queue
 * @param {State} state
 * @param {Filters} filters
 */
export const openExport = (queue, state, filters) => open(() => html`<${Export} queue=${queue} state=${state} filters=${filters} />`);

/** @param {{queue: Queue, state: State, filters: Filters}} props */
function Export({ queue, state, filters: { contains, selector, isNewest } }) {
  const [progress, setProgress] = useState({ phase: "asking", messages: 0, size: 0, error: "" });
  const stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);
  const path = `${of(queue.label)}/messages`;
  const query = { states: `MESSAGE_STATE_${state.toUpperCase()}`, contains, selector, descending: isNewest };
  const file = `${queue.label}-${state}.ndjson`;
  const run = async (/** @type {Event} */ event) => {
    event.preventDefault();
    stop.current = new AbortController();
    setProgress({ phase: "running", messages: 0, size: 0, error: "" });
    const report = (/** @type {string} */ phase, error = "") => setProgress({ phase, messages: found.messages, size: found.size, error });
    const found = { parts: /** @type {Uint8Array<ArrayBuffer>[]} */ ([]), messages: 0, size: 0 };
    try {
      await read(path, query, stop.current.signal, found, () => report("running"));
      save(found.parts, file);
      report("done");
    } catch (error) {
      const isStopped = stop.current.signal.aborted;
      report(isStopped ? "stopped" : "failed", isStopped ? "" : /** @type {Error} */ (error).message);
    }
  };
  const { phase, messages, size, error } = progress;
  const which = contains || selector ? "that match" : `of ${queue.label}`;
  return html`<form onSubmit=${run}>
    <h2 id="dialog-title">Export ${state} messages</h2>
    <p aria-live="polite">${phase === "asking"
      ? html`Saves the ${state} messages ${which} as <b class="mono">${file}</b>: one in each line, as JSON, with its payload in base64 and its tries. Nothing is removed.`
      : html`<b>${counted(messages, "message")}</b>, ${bytes(size)}${{ running: "…", done: ". Saved.", stopped: ". Stopped; nothing was saved.", failed: ". It failed; nothing was saved." }[phase]}`}</p>
    <${Commands} lines=${[curlLines(address(path, query), file), `${shell("queuelet", "browse", queue.label, "--output", "json", "--state", state,
      ...(contains ? ["--contains", contains] : []), ...(selector ? ["--selector", selector] : []), ...(isNewest ? ["--newest-first"] : []))} >${shell(file)}`]} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="buttons">${phase === "running"
      ? html`<button type="button" class="chip danger" onClick=${() => stop.current.abort()}>Stop</button>`
      : html`<button type="button" class="chip" autofocus onClick=${close}>${phase === "asking" ? "Cancel" : "Close"}</button>
        ${phase === "asking" && html`<button class="chip primary">Export</button>`}`}</div>
  </form>`;
}

/**
 * @param {string} path
 * @param {object} query
 * @param {AbortSignal} signal
 * @param {{parts: Uint8Array<ArrayBuffer>[], messages: number, size: number}} found it is filled
 * @param {() => void} onProgress
 */
async function read(path, query, signal, found, onProgress) {
  let reported = 0;
  for await (const part of lines(path, { query, signal })) {
    found.parts.push(part);
    found.size += part.length;
    for (let at = part.indexOf(NEWLINE); at >= 0; at = part.indexOf(NEWLINE, at + 1)) found.messages += 1;
    if (found.size > MOST) throw new Error(`more than ${bytes(MOST)} are too many for the page; use a command below instead`);
    if (performance.now() - reported < EVERY) continue;
    reported = performance.now();
    onProgress();
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>[]} parts
 * @param {string} file
 */
function save(parts, file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "application/x-ndjson" }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
