/**
 * Signing in to a server that wants a token. The page does not keep the token: the server gives a session for it, in a
 * cookie that no script can read, so that a reload and other tabs do not ask again.
 */
import { signal } from "./html.mjs";

/** Whether the server has refused a call because there is no session, or because it has ended. */
export const isRefused = signal(false);

/** Tells other tabs that one has signed in or out. */
const channel = new BroadcastChannel(`queuelet-access:${location.pathname}`);
channel.onmessage = ({ data }) => {
  if (data === "in") isRefused.value = false;
  else location.reload();
};

/**
 * The headers that each call needs. Pages of other sites cannot send them.
 * @returns {Record<string, string>}
 */
export const headers = () => ({ "X-Queuelet-Page": "1" });

/** Why the key in the page's address did not open it; empty if it did, or if there was none. */
export const keyProblem = signal("");

/**
 * Exchange the key in the page's address, if there is one, for a cookie. The key works once, and is removed from the
 * address at once. `queuelet console` makes such addresses.
 */
export async function useKey() {
  const key = /^#key=([\w-]+)$/.exec(location.hash)?.[1];
  if (!key) return;
  history.replaceState(null, "", "#/queues");
  dispatchEvent(new HashChangeEvent("hashchange")); // The browser sends none for this.
  try {
    const response = await fetch("key", { method: "POST", headers: { ...headers(), "Content-Type": "application/json" }, body: JSON.stringify({ key }) });
    if (!response.ok) keyProblem.value = (await response.json()).error;
  } catch {
    keyProblem.value = "The program that opened this page does not respond; start it again.";
  }
}

/** @param {number} status the HTTP status of a response */
export function note(status) {
  if (status === 401) isRefused.value = true;
}

/**
 * Begin a session. Return what went wrong, empty if nothing did.
 * @param {string} token
 */
export async function signIn(token) {
  if (!/^[\x20-\x7e]+$/.test(token.trim())) return "A token has only letters, digits and signs of ASCII.";
  try {
    const response = await fetch("session", { method: "POST", headers: { ...headers(), Authorization: `Bearer ${token.trim()}` } });
    if (response.status === 401) return "This is not the server's token.";
    if (!response.ok) return `The server responded with HTTP ${response.status}. Try again.`;
  } catch {
    return "The server does not respond. Try again.";
  }
  isRefused.value = false;
  channel.postMessage("in");
  return "";
}

/** End the session, in all tabs. */
export async function signOut() {
  await fetch("session", { method: "DELETE", headers: headers() });
  channel.postMessage("out");
  location.reload();
}
