/** A payload as JSON, text or hex. It is always shown as text nodes, whatever it contains. */
import { html, useMemo } from "../html.mjs";
import { bytes } from "../format.mjs";
import { tokens } from "./json.mjs";
import { server } from "../board.mjs";
import { view } from "../settings.mjs";

/** The most bytes that are shown as hex. */
const HEX_MOST = 16_384;

/**
 * The bytes of a base64 text.
 * @param {string | undefined} base64
 */
export const decoded = (base64) => Uint8Array.from(atob(base64 ?? ""), (char) => char.charCodeAt(0));

/**
 * What a payload is: text that is JSON, other text, or bytes.
 * @param {Uint8Array} data
 * @param {boolean} isCut whether more bytes follow, so that the last character may be incomplete
 */
export function kindOf(data, isCut) {
  const text = textOf(data, isCut);
  if (text === null) return { kind: "hex", text: "", tokens: null };
  const found = isCut ? null : tokens(text);
  return { kind: found ? "json" : "text", text, tokens: found };
}

/**
 * @param {Uint8Array} data
 * @param {boolean} isCut
 */
function textOf(data, isCut) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: isCut });
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** Whether the server keeps payloads from this page. */
export const areHidden = () => Boolean(server.value.hidesPayloads);

/**
 * A line for lists: the begin of a payload, with breaks as spaces.
 * @param {string | undefined} base64
 * @param {number} size
 */
export function glimpse(base64, size) {
  const data = decoded(base64);
  const { kind, text } = kindOf(data, size > data.length);
  return kind === "hex" ? hex(data.slice(0, 24)).trim() : text.replace(/\s+/g, " ").slice(0, 160);
}

/** @param {Uint8Array} data */
const hex = (data) => [...data].map((each) => each.toString(16).padStart(2, "0")).join(" ");

/** @param {Uint8Array} data */
function dump(data) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, HEX_MOST); at += 16) {
    const part = data.slice(at, at + 16);
    const chars = [...part].map((each) => (each >= 32 && each < 127 ? String.fromCharCode(each) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex(part).padEnd(47)}  ${chars}`);
  }
  return lines.join("\n") + (data.length > HEX_MOST ? "\n…" : "");
}

/** @type {Record<string, string>} */
const NAMES = { json: "JSON", text: "Text", hex: "Hex" };

/**
 * @param {{base64: string | undefined, size: number, onWhole?: () => void}} props
 */
export function Payload({ base64, size, onWhole }) {
  const data = useMemo(() => decoded(base64), [base64]);
  const isCut = size > data.length;
  const found = useMemo(() => kindOf(data, isCut), [data, isCut]);
  if (areHidden()) {
    return html`<h3>Payload <span class="muted small">${bytes(size)}</span></h3><p class="muted small">This server shows no payloads (<code>--hide-payloads</code>).</p>`;
  }
  const possible = found.kind === "json" ? ["json", "text", "hex"] : found.kind === "text" ? ["text", "hex"] : ["hex"];
  const shown = possible.includes(view.value) ? view.value : possible[0];
  return html`<h3>Payload <span class="muted small">${bytes(size)}</span>
      <span class="views">${possible.map(
        (each) => html`<button class="chip small quiet" aria-pressed=${each === shown} onClick=${() => (view.value = each)}>${NAMES[each]}</button>`,
      )}</span></h3>
    ${size === 0
      ? html`<p class="muted small">No bytes.</p>`
      : html`<pre tabindex="0" role="region" aria-label="Payload">${
          shown === "json"
            ? found.tokens?.map(({ kind, text }) => (kind ? html`<span class=${kind}>${text}</span>` : text))
            : shown === "text" ? found.text : dump(data)
        }</pre>`}
    ${isCut && html`<p class="small muted">The first ${bytes(data.length)} of ${bytes(size)}.
      ${onWhole && html` <button class="chip small" onClick=${onWhole}>Show all</button>`}</p>`}`;
}
