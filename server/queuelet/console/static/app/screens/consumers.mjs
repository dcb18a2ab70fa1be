/** Who takes messages from a queue. */
import { html, useEffect, useState } from "../html.mjs";
import { call, of } from "../api.mjs";
import { count, millis, rate } from "../format.mjs";
import { shell } from "../commands.mjs";
import { Command } from "../parts/dialog.mjs";
import { Time } from "../parts/times.mjs";

/** Milliseconds between two readings, while the tab is shown. */
const EVERY = 2000;

/** @param {{queue: import("../board.mjs").Queue}} props */
export function Consumers({ queue }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState("");
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const read = async () => {
      try {
        setFound(await call("GET", `${of(queue.label)}/consumers`, { signal: stop.signal }));
        setError("");
      } catch (refused) {
        if (!stop.signal.aborted) setError(/** @type {Error} */ (refused).message);
      }
      if (!stop.signal.aborted) timer = window.setTimeout(read, EVERY);
    };
    read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [queue.label]);
  const list = found?.consumers ?? [];
  return html`${error && html`<div class="pane"><p class="error" role="alert">${error}</p></div>`}
    ${list.length > 0 && html`<div class="wide"><table><thead><tr><th scope="col">Consumer</th><th scope="col" class="l hide">Address</th><th scope="col" class="l hide">How</th><th scope="col">Leases</th><th scope="col" class="hide">Credit</th><th scope="col" class="hide">Last settled</th><th scope="col">Since</th></tr></thead>
      <tbody>${list.slice(0, 100).map((/** @type {any} */ each) => html`<tr><td>${each.name || html`<span class="z">no name</span>`}${each.holds_queue && html` <span class="state ok">holds the queue</span>`}${each.exclusive && !each.holds_queue && html` <span class="state">in line</span>`}</td>
        <td class="l hide mono">${each.peer}</td><td class="l hide">${each.kind === "KIND_RECEIVE" ? "Receive, waiting" : "stream"}</td><td>${count(Number(each.leases ?? 0))}</td>
        <td class="hide">${count(Number(each.credit ?? 0))}</td><td class="hide"><${Time} ms=${millis(each.last_settled)} /></td><td><${Time} ms=${millis(each.since)} /></td></tr>`)}</tbody></table></div>`}
    ${found && !list.length && html`<div class="empty">No consumer is connected.</div>`}
    ${found && html`<div class="pane small muted">${count(Number(found.waiting_for_message ?? 0))} calls wait for a message, ${count(Number(found.waiting_for_space ?? 0))} for space; ${count(Number(found.other_leases ?? 0))} leases belong to no stream.
      Producers are not tracked: ${rate(queue.inRate)} adds a second.</div>`}
    <div class="pane"><${Command} line=${shell("queuelet", "consumers", queue.label)} /></div>`;
}
