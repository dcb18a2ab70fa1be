/** Modules that are loaded when they are needed, so that the first page is small. */
import { html, useEffect, useState } from "../html.mjs";

/** Milliseconds after which a module is loaded again if the server was away. */
const RETRY_AFTER = 1000;

/**
 * A component of a module that is loaded when the component is shown for the first time.
 * @param {() => Promise<Record<string, any>>} load
 * @param {string} name what the module calls the component
 */
export function lazy(load, name) {
  /** @type {((props: object) => unknown) | undefined} */
  let component;
  return function Lazy(/** @type {object} */ props) {
    const [turn, setTurn] = useState(0);
    useEffect(() => {
      if (component) return undefined;
      let timer = 0;
      load()
        .then((found) => (component = found[name]))
        .catch(() => (timer = window.setTimeout(() => setTurn(turn + 1), RETRY_AFTER)))
        .then(() => component && setTurn(turn + 1));
      return () => clearTimeout(timer);
    }, [turn]);
    return component ? html`<${component} ...${props} />` : html`<p class="muted">Loading…</p>`;
  };
}
