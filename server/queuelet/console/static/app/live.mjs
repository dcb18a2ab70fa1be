/** The stream of changes: one for all tabs of a browser, because HTTP/1.1 allows only six connections. */
import { effect, signal } from "./html.mjs";
import { headers, isRefused, note } from "./access.mjs";
import { parsed } from "./api.mjs";
import * as board from "./board.mjs";

/** Milliseconds without a word after which the numbers count as old. */
const STALE_AFTER = 5000;
const DELAY = { least: 500, most: 10_000 };

/** The state of the stream, `wait`, `live` or `lost`, and when the last word came, by the browser's clock. */
export const connection = signal({ state: "wait", heard: Date.now(), why: "" });

const scope = `queuelet:${location.pathname}`;
const channel = new BroadcastChannel(scope);
let heard = Date.now();
/** @type {Promise<void> | null} */
let loading = null;
/** @type {{number: number, frame: object}[]} frames that came while the board was loaded */
let early = [];

/** Begin to follow the server, for as long as the page is open. */
export function begin() {
  channel.onmessage = ({ data }) => take(data);
  setInterval(check, 1000);
  load();
  if (navigator.locks) navigator.locks.request(scope, lead);
  else lead(); // Without TLS, browsers have locks for loopback only. Then each tab has its own stream.
}

/** Read the stream again and again, and pass it on to the other tabs. */
async function lead() {
  for (let delay = DELAY.least; ; delay = Math.min(DELAY.most, delay * 2)) {
    const began = Date.now();
    try {
      await load();
      await follow();
    } catch (error) {
      lost(error);
    }
    if (Date.now() - began > DELAY.most) delay = DELAY.least;
    await sleep(delay * (0.5 + Math.random() / 2));
  }
}

async function follow() {
  const { board: id, number } = board.position();
  const response = await fetch(`console/live?board=${id}&since=${number}`, { cache: "no-store", headers: headers() });
  note(response.status);
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  for await (const event of parsed(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
    channel.postMessage(event);
    take(event);
    if (event.event === "reset") return;
  }
  throw new Error("the stream ended");
}

/**
 * Take an event of the stream, from the server or from the tab that reads it.
 * @param {{id: string, event: string, data: string}} event
 */
function take(event) {
  if (event.event === "reset") {
    board.position().number >= 0 && load();
    return;
  }
  heard = Date.now();
  connection.value = { state: "live", heard, why: "" };
  const frame = { number: Number(event.id), frame: JSON.parse(event.data) };
  if (loading) early = [...early, frame].slice(-100);
  else if (!board.apply(frame.number, frame.frame)) load();
}

/** Load the board, once for all who ask meanwhile, and until that succeeds. */
function load() {
  loading ??= read().finally(() => {
    loading = null;
    for (const { number, frame } of early.splice(0)) board.apply(number, frame);
  });
  return loading;
}

async function read() {
  for (let delay = DELAY.least; ; delay = Math.min(DELAY.most, delay * 2)) {
    try {
      const response = await fetch("console/board", { cache: "no-cache", headers: headers() });
      note(response.status);
      document.body.dataset.access = response.headers.get("Queuelet-Access") ?? "all";
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      board.load(await response.json());
      heard = Date.now();
      connection.value = { state: "live", heard, why: "" };
      return;
    } catch (error) {
      lost(error);
    }
    await sleep(delay * (0.5 + Math.random() / 2));
  }
}

/** @param {unknown} error */
function lost(error) {
  if (document.hidden && Date.now() - heard < STALE_AFTER) return;
  connection.value = { state: "lost", heard, why: String(error instanceof Error ? error.message : error) };
}

/** Say that the numbers are old if nothing was heard for a while. */
function check() {
  const isStale = Date.now() - heard > STALE_AFTER;
  document.body.dataset.live = isStale ? "stale" : "live";
  if (isStale) connection.value = { ...connection.value, state: "lost", heard };
}

/**
 * Wait some time, and then until the server no longer refuses the token.
 * @param {number} ms
 */
async function sleep(ms) {
  await new Promise((done) => setTimeout(done, ms));
  if (isRefused.value) {
    await new Promise((done) => {
      const stop = effect(() => {
        if (!isRefused.value) queueMicrotask(() => (stop(), done(undefined)));
      });
    });
  }
}
