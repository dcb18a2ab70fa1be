/** The dialog for a new queue. */
import { html, useState } from "../html.mjs";
import { call } from "../api.mjs";
import { stores } from "../board.mjs";
import { curl, shell } from "../commands.mjs";
import { go } from "../router.mjs";
import { close, Commands, open, say } from "../parts/dialog.mjs";
import { Field, textOf } from "../parts/form.mjs";

export const openNewQueue = () => open(() => html`<${NewQueue} />`);

/**
 * Tags of a text with one `key=value` for each line or comma.
 * @param {string} text
 */
export const tagsOf = (text) =>
  text.split(/[\n,]/).map((each) => each.trim()).filter(Boolean).map((each) => {
    const [key, ...value] = each.split("=");
    return { key, value: value.join("=") };
  });

function NewQueue() {
  const kinds = stores.value.map(({ store }) => store);
  const most = ["POSTGRES", "DISK"].find((kind) => kinds.includes(kind)) ?? "MEMORY";
  const lacks = (/** @type {string} */ kind) => (kinds.includes(kind) ? "" : " (this server has none)");
  const [form, setForm] = useState({ name: "", store: most, limit: "", tags: "", lease: "", tries: "", ttl: "" });
  const [error, setError] = useState("");
  const set = (/** @type {string} */ key) => (/** @type {Event} */ event) => setForm({ ...form, [key]: textOf(event) });
  const number = (/** @type {string} */ text) => (text.trim() ? Number(text) : undefined);
  const delivery = { lease_seconds: number(form.lease), max_deliveries: number(form.tries), message_ttl_seconds: form.ttl.trim() || undefined };
  const hasDelivery = Object.values(delivery).some((value) => value !== undefined);
  const tags = tagsOf(form.tags);
  const body = { store: form.store, limit: form.limit.trim() || "-1", ...(form.name && { name: form.name }), ...(tags.length && { tags }), ...(hasDelivery && { delivery }) };
  const lines = [
    shell("queuelet", "new", form.store.toLowerCase(), form.limit.trim() || undefined, ...(form.name ? ["--name", form.name] : []),
      ...tags.flatMap(({ key, value }) => ["-t", `${key}=${value}`]), ...(form.lease ? ["--lease-seconds", form.lease] : []),
      ...(form.tries ? ["--max-deliveries", form.tries] : []), ...(form.ttl ? ["--message-ttl-seconds", form.ttl] : [])),
    curl("POST", "v1/queues", body),
  ];
  const create = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const { queue } = await call("POST", "v1/queues", { body });
      close();
      say(`Queue ${queue.name || queue.meta.id} was created`);
      go(["queues", queue.name || queue.meta.id]);
    } catch (refused) {
      setError(/** @type {Error} */ (refused).message);
    }
  };
  return html`<form onSubmit=${create}>
    <h2 id="dialog-title">New queue</h2>
    <${Field} label="Name" hint="Lower-case letters, digits, - and .; empty for a queue that has only an ID"><input autofocus class="mono" autocomplete="off" spellcheck=${false} maxlength="317" value=${form.name} onInput=${set("name")} /></${Field}>
    <div class="pair">
      <${Field} label="Store"><select value=${form.store} onChange=${set("store")}>
        <option value="MEMORY">Memory: lost when the server stops</option>
        <option value="DISK" disabled=${lacks("DISK") !== ""}>Disk: survives crashes${lacks("DISK")}</option>
        <option value="POSTGRES" disabled=${lacks("POSTGRES") !== ""}>Postgres: survives what the database does${lacks("POSTGRES")}</option></select></${Field}>
      <${Field} label="Limit" hint="Messages in all states; empty: unlimited"><input inputmode="numeric" value=${form.limit} onInput=${set("limit")} /></${Field}>
    </div>
    <${Field} label="Tags" hint="team=checkout, tier=gold"><input class="mono" autocomplete="off" spellcheck=${false} value=${form.tags} onInput=${set("tags")} /></${Field}>
    <details class="how"><summary>Delivery</summary><div class="pair">
      <${Field} label="Lease, seconds" hint="Empty: 30"><input inputmode="numeric" value=${form.lease} onInput=${set("lease")} /></${Field}>
      <${Field} label="Deliveries before dead" hint="Empty: 5"><input inputmode="numeric" value=${form.tries} onInput=${set("tries")} /></${Field}>
      <${Field} label="Time to live, seconds" hint="Empty: unlimited"><input inputmode="numeric" value=${form.ttl} onInput=${set("ttl")} /></${Field}>
    </div></details>
    <${Commands} lines=${lines} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div class="buttons"><button type="button" class="chip" onClick=${close}>Cancel</button><button class="chip primary">Create queue</button></div>
  </form>`;
}
