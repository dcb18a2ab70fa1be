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

/** @param {number} status the HTTP status of a response */
export function note(status) {
  if (status === 401) isRefused.value = true;
}
