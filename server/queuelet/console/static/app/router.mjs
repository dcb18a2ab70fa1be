/** The page's place, which is the hash of its address: `#/queues/shop.orders?tab=dead`. So it works behind any prefix. */
import { signal } from "./html.mjs";

/** @typedef {{path: string[], query: URLSearchParams}} Route */

/** @returns {Route} */
function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { path: path.split("/").map(decoded), query: new URLSearchParams(query ?? "") };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const route = signal(read());

addEventListener("hashchange", () => {
  route.value = read();
});

/**
 * The address of a place.
 * @param {string[]} path
 * @param {Record<string, string | undefined>} [query] empty values are left out
 */
export function href(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const text = new URLSearchParams(/** @type {[string, string][]} */ (given)).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text && `?${text}`}`;
}

/**
 * Go to another place.
 * @param {string[]} path
 * @param {Record<string, string | undefined>} [query]
 */
export function go(path, query) {
  location.hash = href(path, query);
}

/**
 * Change parts of the query. It makes no entry in the browser's history, because typing in a filter would make many.
 * @param {Record<string, string | undefined>} changes
 */
export function setQuery(changes) {
  const query = { ...Object.fromEntries(route.value.query), ...changes };
  history.replaceState(null, "", href(route.value.path, query));
  route.value = read();
}
