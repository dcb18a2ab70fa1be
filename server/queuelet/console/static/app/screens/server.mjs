/** The server: its version, its memory, its stores. */
import { html, useEffect, useState } from "../html.mjs";
import { signOut } from "../access.mjs";
import { call } from "../api.mjs";
import { now, queues, server, stores, tick } from "../board.mjs";
import { totals } from "../attention.mjs";
import { storeName, survives } from "../stores.mjs";
import { bytes, count, duration, millis, percent, rate } from "../format.mjs";
import { Commands } from "../parts/dialog.mjs";
import { Meter } from "../parts/small.mjs";
import { Time } from "../parts/times.mjs";
import { curl } from "../commands.mjs";

export function ServerScreen() {
  tick.value;
  const { version = "", started = 0, memory = 0, watermark = 0 } = server.value;
  const sums = totals.value;
  const fact = (/** @type {string} */ label, /** @type {unknown} */ value) => html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`<div class="head"><h1>Server</h1><span class="state">${version ? `queuelet ${version}` : "…"}</span></div>
    <div class="tiles four">
      <div class="tile"><span>Up</span><b>${started ? duration(now() - started) : "—"}</b></div>
      <div class="tile"><span>Queues</span><b>${count(sums.queues)}</b></div>
      <div class="tile"><span>In / out a second</span><b class="live">${rate(sums.in)}<small>/ ${rate(sums.out)}</small></b></div>
      <div class="tile"><span>Memory of watermark</span><b class="live">${watermark ? percent(memory, watermark) : "—"}</b></div></div>
    <div class="card pane"><h2>Memory</h2><dl>
      ${fact("Accounted", html`${bytes(memory)} <${Meter} value=${memory} of=${watermark} label="Memory" />`)}
      ${fact("Watermark", html`${bytes(watermark)} <span class="muted">past which Add is refused</span>`)}
      ${fact("Started", html`<${Time} ms=${started} both />`)}</dl></div>
    <div class="card"><table><thead><tr><th scope="col">Store</th><th scope="col" class="l">State</th><th scope="col" class="l">Survives</th><th scope="col">Queues</th><th scope="col">Messages</th><th scope="col" class="l hide">Epoch</th></tr></thead>
      <tbody>${stores.value.map(({ store, epoch, problem }) => {
        const of = queues().filter((queue) => queue.store === store);
        const messages = of.reduce((sum, each) => sum + each.ready + each.delayed + each.leased + each.dead, 0);
        return html`<tr><td class="name">${storeName(store)}</td><td class="l">${problem ? html`<span class="state bad">failed</span> ${problem}` : html`<span class="state ok">Ready</span>`}</td>
          <td class="l">${survives(store)}</td><td>${count(of.length)}</td><td>${count(messages)}</td><td class="l hide mono">${epoch}</td></tr>`;
      })}</tbody></table></div>
    <p class="small muted after">Messages survive what is in the column <i>Survives</i>, once the server has acknowledged them. An epoch is a random ID of a store's contents. If it changes, the store has lost or replaced them, and every page says so.</p>
    <${Me} /><${Commands} lines=${["queuelet stats", curl("GET", "v1/stats")]} />`;
}

/** Who the server takes the user for. */
function Me() {
  const [me, setMe] = useState(/** @type {{user?: string, session_expires?: string}} */ ({}));
  useEffect(() => {
    const stop = new AbortController();
    call("GET", "v1/me", { signal: stop.signal }).then(setMe).catch(() => {}); // The page says that the server is away.
    return () => stop.abort();
  }, []);
  if (!me.user) return null;
  return html`<div class="card pane bar me"><span class="grow">${me.session_expires
      ? html`You are signed in with the server's token until <${Time} ms=${millis(me.session_expires)} />.`
      : me.user === "token" ? "Your requests have the server's token." : "This server needs no token: everyone who can reach it has all rights."}</span>
    ${me.session_expires && html`<button class="chip" onClick=${signOut}>Sign out</button>`}</div>`;
}
