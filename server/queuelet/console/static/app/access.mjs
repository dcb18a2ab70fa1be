/** The token of a server that wants one. It is kept in the page's memory only, so that a reload forgets it. */
import { signal } from "./html.mjs";

/** Whether the server has refused a call because of the token, or because there is none. */
export const isRefused = signal(false);
let token = "";

/**
 * The headers that each call needs.
 * @returns {Record<string, string>}
 */
export const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** @param {string} text */
export function enter(text) {
  token = text.trim();
  isRefused.value = false;
}

/** Why the key in the page's address did not open it; empty if it did, or if there was none. */
export const keyProblem = signal("");

/**
 * Exchange the key in the page's address, if there is one, for a cookie. The key works once, and is removed from the
 * address at once. `queuelet console` makes such addresses.
 */
export async function signIn() {
  const key = /^#key=([\w-]+)$/.exec(location.hash)?.[1];
  if (!key) return;
  history.replaceState(null, "", "#/queues");
  dispatchEvent(new HashChangeEvent("hashchange")); // The browser sends none for this.
  try {
    const response = await fetch("console/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key }) });
    if (!response.ok) keyProblem.value = (await response.json()).error;
  } catch {
    keyProblem.value = "The program that opened this page does not respond; start it again.";
  }
}

/** @param {number} status the HTTP status of a response */
export function note(status) {
  if (status === 401) isRefused.value = true;
}
