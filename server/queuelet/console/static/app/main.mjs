/** The console: its frame, and the screen of the page's place. */
import { html, render, useEffect, useRef, useState } from "./html.mjs";
import { isRefused, keyProblem, signIn, useKey } from "./access.mjs";
import { losses, now, stores } from "./board.mjs";
import { storeName } from "./stores.mjs";
import { begin, connection, isPaused, turnPause } from "./live.mjs";
import { bindings, listen, useKeys } from "./keys.mjs";
import { go, route } from "./router.mjs";
import { clock, theme, turn } from "./settings.mjs";
import { count, duration } from "./format.mjs";
import { brandIcon, halfIcon, moonIcon, sunIcon } from "./parts/icons.mjs";
import { close, open, Overlay, say } from "./parts/dialog.mjs";
import { lazy } from "./parts/lazy.mjs";
import { Time } from "./parts/times.mjs";
import { QueuesScreen } from "./screens/queues.mjs";
import { QueueScreen } from "./screens/queue.mjs";

const DeadScreen = lazy(() => import("./screens/dead.mjs"), "DeadScreen");
const PlainScreen = lazy(() => import("./screens/plain.mjs"), "PlainScreen");
const ServerScreen = lazy(() => import("./screens/server.mjs"), "ServerScreen");

const PAGES = [["queues", "Queues"], ["dead", "Dead"], ["server", "Server"]];
const CLOCKS = ["local", "utc", "relative"];
const THEMES = ["system", "light", "dark"];
/** @type {Record<string, string>} */
const CLOCK_TEXTS = { local: "Times are local", utc: "Times are UTC", relative: "Times are relative" };

function App() {
  const [page = "", name] = route.value.path;
  const isOut = isRefused.value;
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  useKeys([
    ["?", "Show the keys", () => open(Keys)],
    ["g q", "Go to queues", () => go(["queues"])],
    ["g d", "Go to dead messages", () => go(["dead"])],
    ["g s", "Go to the server", () => go(["server"])],
    ["t", "Times: local, UTC, relative", turnClock],
    ["p", "Pause the numbers, or go on", turnPause],
  ]);
  useEffect(() => {
    document.title = `${page === "queues" && name ? name : (PAGES.find(([path]) => path === page)?.[1] ?? "Queues")} · Queuelet`;
    scrollTo(0, 0);
  }, [page, name]);
  return html`<a class="skip" href=${location.hash} onClick=${(/** @type {Event} */ event) => {
      event.preventDefault();
      main.current?.focus();
    }}>Skip to content</a>
    <${Header} page=${page || "queues"} /><${Notes} />
    <main ref=${main} tabindex="-1">${isOut ? html`<${Login} />` : html`<${Screen} key=${`${page}/${name ?? ""}`} page=${page} name=${name} />`}</main><${Overlay} />`;
}

function turnClock() {
  turn(clock, CLOCKS);
  say(CLOCK_TEXTS[clock.value]);
}

/** @param {{page: string, name?: string}} props */
function Screen({ page, name }) {
  if (page === "queues" && name) return html`<${QueueScreen} name=${name} />`;
  if (page === "dead") return html`<${DeadScreen} />`;
  if (page === "server") return html`<${ServerScreen} />`;
  return route.value.query.get("view") === "plain" ? html`<${PlainScreen} />` : html`<${QueuesScreen} />`;
}

/** @param {{page: string}} props */
function Header({ page }) {
  const icon = { system: halfIcon, light: sunIcon, dark: moonIcon }[theme.value];
  return html`<header class="top">
    <a class="brand" href="#/queues" aria-label="Queuelet">${brandIcon}<span>Queuelet</span></a>
    <nav aria-label="Pages">
      ${PAGES.map(([path, label]) => html`<a href=${`#/${path}`} aria-current=${page === path ? "page" : undefined}>${label}</a>`)}
      <a href="api/">API</a>
    </nav>
    <span class="grow"></span>
    <div class="who">
      <${Link} />
      <button class="theme" onClick=${() => turn(theme, THEMES)} aria-label=${`Colours: ${theme.value}`} title=${`Colours: ${theme.value}`}>${icon}</button>
      <button onClick=${() => open(Keys)} aria-label="Keys"><kbd>?</kbd></button>
    </div>
  </header>`;
}

/** @type {Record<string, string>} */
const LINK_TEXTS = { live: "live", wait: "connecting", lost: "not live", paused: "paused" };

/** Whether the numbers are live; a press pauses them. */
function Link() {
  const { state } = connection.value;
  const text = LINK_TEXTS[state];
  return html`<button class="link" aria-pressed=${isPaused.value} aria-label="Pause the numbers" title=${isPaused.value ? "Go on (p)" : "Pause the numbers (p)"} onClick=${turnPause}><span><i class=${`dot ${state}`}></i><span class="words">${text}</span></span></button>
    <span class="vh" role="status">The numbers are ${text}</span>`;
}

/** Asks for the token of a server that has one. */
function Login() {
  const [error, setError] = useState("");
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError(await signIn(String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("token"))));
  };
  return html`<form class="card pane login" onSubmit=${submit}><h1>This server needs a token</h1>
    ${keyProblem.value && html`<p class="error" role="alert">${keyProblem.value}</p>`}
    <p class="muted">It is the content of the file that the server was started with (<code>--token-file</code>). This browser is then signed in for twelve hours, or until you sign out on the page <b>Server</b>.</p>
    <label class="field"><input name="token" type="password" autocomplete="off" aria-label="Token" required autofocus /></label>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <button class="chip primary">Sign in</button></form>`;
}

/** What has to be known on every page: the server is away, a store has a problem, or has lost its contents. */
function Notes() {
  const { state, heard, why } = connection.value;
  if (isRefused.value) return null;
  return html`${state === "paused" && html`<div class="note calm"><p><b>Paused</b> at <${Time} ms=${now()} />: the numbers are from then.</p>
      <button class="chip small" onClick=${turnPause}>Go on</button></div>`}
    ${state === "lost" && html`<div class="note" role="alert"><p><b>No word from the server for ${duration(Date.now() - heard)}.</b>
      The numbers are from then; the page keeps trying.${why && html` <span class="muted">${why}</span>`}</p></div>`}
    ${stores.value.filter(({ problem }) => problem).map(({ store, problem }) => html`<div class="note bad" role="alert"><p><b>Store ${storeName(store)}:</b> ${problem}</p></div>`)}
    ${losses.value.map((loss) => html`<div class="note bad" role="alert"><p><b>Store ${storeName(loss.store)} ${loss.store === "POSTGRES" ? "went back to an older state" : "was emptied"}</b> at <${Time} ms=${loss.at} />: it has a new epoch.
      ${loss.queues ? ` ${count(loss.queues)} queue${loss.queues === 1 ? "" : "s"} with ${count(loss.messages)} message${loss.messages === 1 ? "" : "s"} had been in it.` : ""}</p>
      <button class="chip small" onClick=${() => (losses.value = losses.value.filter((each) => each !== loss))}>Dismiss</button></div>`)}`;
}

const Keys = () => html`<div class="body"><h2 id="dialog-title">Keys</h2>
  <dl class="keys">${bindings.value.map(({ keys, what }) => html`<dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${what}</dd>`)}</dl>
  <p class="muted small">No key changes a queue by itself.</p>
  <div class="buttons"><button class="chip" autofocus onClick=${close}>Close</button></div></div>`;

addEventListener("hashchange", close);
listen();
await useKey();
begin();
render(html`<${App} />`, /** @type {Element} */ (document.querySelector("#app")));
