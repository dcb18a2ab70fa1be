/** The dialog before an act that cannot be undone: the count, the name to type, and focus on Cancel. */
import { html, useState } from "../html.mjs";
import { Commands, close, open, say } from "./dialog.mjs";
import { count } from "../format.mjs";

/** From this many messages on, the name has to be typed. */
const TYPED_FROM = 10;

/**
 * @typedef {object} Act
 * @property {string} title
 * @property {string} name what has to be typed
 * @property {number} count messages that are lost
 * @property {unknown} text what happens, in a sentence
 * @property {string} button such as "Purge 118 messages"
 * @property {string[]} lines the same as commands
 * @property {() => Promise<string>} act returns what was done, as a sentence
 * @property {boolean} [typed] whether the name has to be typed whatever the count is
 */

/** @param {Act} act */
export const confirm = (act) => open(() => html`<${Confirm} ...${act} />`);

/** @param {Act} props */
function Confirm({ title, name, count: messages, text, button, lines, act, typed = false }) {
  const [entered, setEntered] = useState("");
  const [state, setState] = useState({ isBusy: false, error: "" });
  const needsName = typed || messages >= TYPED_FROM;
  const isReady = !needsName || entered === name;
  const run = async () => {
    setState({ isBusy: true, error: "" });
    try {
      const done = await act();
      close();
      say(done);
    } catch (error) {
      setState({ isBusy: false, error: String(error instanceof Error ? error.message : error) });
    }
  };
  return html`<form method="dialog" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <h2 id="dialog-title">${title}</h2>
    <p>${text}</p>
    ${needsName && html`<label class="line"><span>Type <b class="mono">${name}</b> to confirm</span>
      <input class="mono" autocomplete="off" autocapitalize="off" spellcheck=${false} value=${entered}
        onInput=${(/** @type {any} */ event) => setEntered(event.target.value)} /></label>`}
    <${Commands} lines=${lines} />
    ${state.error && html`<p class="error" role="alert">${state.error}</p>`}
    <div class="buttons">
      <button type="button" class="chip" autofocus onClick=${close}>Cancel</button>
      <button type="button" class="chip act" disabled=${!isReady || state.isBusy} onClick=${run}>${button}</button>
    </div>
  </form>`;
}

/** @param {number} messages */
export const messagesOf = (messages) => `${count(messages)} message${messages === 1 ? "" : "s"}`;
