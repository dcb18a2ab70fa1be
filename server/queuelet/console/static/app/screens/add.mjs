/** The dialog that adds a message. */
import { html, useState } from "../html.mjs";
import { call, of } from "../api.mjs";
import { curl, shell } from "../commands.mjs";
import { close, Commands, open, say } from "../parts/dialog.mjs";
import { Field, textOf } from "../parts/form.mjs";
import { tokens } from "../parts/json.mjs";
import { shortId } from "../format.mjs";
import { tagsOf } from "./new_queue.mjs";

/** @typedef {import("../board.mjs").Queue} Queue */

/** @param {Queue} queue */
export const openAdd = (queue) => open(() => html`<${Add} queue=${queue} />`);

/** @param {string} text */
const base64 = (text) => {
  const data = new TextEncoder().encode(text);
  let binary = "";
  for (let at = 0; at < data.length; at += 8192) binary += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(binary);
};

/** @param {{queue: Queue}} props */
function Add({ queue }) {
  const [form, setForm] = useState({ payload: "", tags: "", priority: "", delay: "", ttl: "" });
  const [error, setError] = useState("");
  const set = (/** @type {string} */ key) => (/** @type {Event} */ event) => setForm({ ...form, [key]: textOf(event) });
  const tags = tagsOf(form.tags);
  const seconds = (/** @type {string} */ text) => (text.trim() ? `${text.trim().replace(/s$/, "")}s` : undefined);
  const message = {
    payload: base64(form.payload), ...(tags.length && { tags }), ...(form.priority && { priority: Number(form.priority) }),
    ...(form.delay && { delay: seconds(form.delay) }), ...(form.ttl && { ttl: seconds(form.ttl) }),
  };
  const lines = [
    shell("queuelet", "add", queue.label, "--payload", form.payload, ...tags.flatMap(({ key, value }) => ["-t", `${key}=${value}`]),
      ...(form.priority ? ["--priority", form.priority] : []), ...(form.delay ? ["--delay", form.delay] : []), ...(form.ttl ? ["--ttl", form.ttl] : [])),
    curl("POST", of(queue.label), message),
  ];
  const add = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const response = await call("POST", of(queue.label), { body: message });
      close();
      say(`Message ${shortId(response.message.meta.id)} was added to ${queue.label}`);
    } catch (refused) {
      setError(/** @type {Error} */ (refused).message);
    }
  };
  const kind = form.payload ? (tokens(form.payload) ? "JSON" : "Text") : "Empty";
  return html`<form onSubmit=${add}>
    <h2 id="dialog-title">Add a message to ${queue.label}</h2>
    <${Field} label=${`Payload: ${kind}, ${new TextEncoder().encode(form.payload).length} B`}><textarea autofocus spellcheck=${false} value=${form.payload} onInput=${set("payload")}></textarea></${Field}>
    <${Field} label="Tags" hint="region=eu, tier=gold"><input class="mono" autocomplete="off" spellcheck=${false} value=${form.tags} onInput=${set("tags")} /></${Field}>
    <details class="how"><summary>Priority, delay, time to live</summary><div class="pair">
      <${Field} label="Priority" hint="Smaller first; empty: 0"><input inputmode="numeric" value=${form.priority} onInput=${set("priority")} /></${Field}>
      <${Field} label="Delay, seconds"><input inputmode="decimal" value=${form.delay} onInput=${set("delay")} /></${Field}>
      <${Field} label="Time to live, seconds"><input inputmode="decimal" value=${form.ttl} onInput=${set("ttl")} /></${Field}></div></details>
    <${Commands} lines=${lines} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="buttons"><button type="button" class="chip" onClick=${close}>Cancel</button><button class="chip primary">Add message</button></div>
  </form>`;
}
