/** Dialogs, short messages, and commands to copy. */
import { html, signal, useEffect, useRef } from "../html.mjs";

/** The dialog that is open: a function that renders it, or null. */
export const dialog = signal(/** @type {(() => unknown) | null} */ (null));
/** @type {import("@preact/signals").Signal<{id: number, text: string}[]>} */
const toasts = signal([]);
let toastId = 0;

/** @param {() => unknown} render */
export const open = (render) => {
  dialog.value = render;
};
export const close = () => {
  dialog.value = null;
};

/**
 * Say something for a few seconds.
 * @param {string} text
 */
export function say(text) {
  const id = (toastId += 1);
  toasts.value = [...toasts.value, { id, text }].slice(-3);
  setTimeout(() => {
    toasts.value = toasts.value.filter((each) => each.id !== id);
  }, 5000);
}

/** Where dialogs and short messages appear. */
export const Overlay = () => html`${dialog.value && html`<${Modal} key=${dialog.value} render=${dialog.value} />`}
  <div class="toasts" role="status">${toasts.value.map(({ id, text }) => html`<div class="toast" key=${id}>${text}</div>`)}</div>`;

/** @param {{render: () => unknown}} props */
function Modal({ render }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    ref.current?.showModal();
    return () => before?.isConnected && before.focus();
  }, []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onClose=${close}
    onClick=${(/** @type {MouseEvent} */ event) => event.target === ref.current && close()}>${render()}</dialog>`;
}

/**
 * Commands that do the same, to copy.
 * @param {{lines: string[], open?: boolean, summary?: string}} props
 */
export const Commands = ({ lines, open: isOpen = false, summary = "The same from a shell" }) => html`<details class="how" open=${isOpen}>
  <summary>${summary}</summary>
  <div class="commands">${lines.map((line) => html`<${Command} line=${line} />`)}</div>
</details>`;

/** @param {{line: string}} props */
export const Command = ({ line }) => html`<div class="command"><code tabindex="0">${line}</code>
  <button type="button" class="chip small quiet" onClick=${() => copy(line)} aria-label="Copy the command">Copy</button></div>`;

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    say("The browser did not allow to copy; select the text instead");
  }
}
