/** Calls of the REST API. Addresses are relative to the page. */
import { headers, note } from "./access.mjs";

/** A call that the server refused, or that did not reach it. */
export class Refusal extends Error {
  /**
   * @param {string} message a sentence for users
   * @param {number} status the HTTP status; 0 if there was no response
   * @param {string} reason the reason in the error, such as QUEUE_NOT_FOUND
   */
  constructor(message, status, reason) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** @param {string} queue an ID or a name */
export const of = (queue) => `v1/queues/${encodeURIComponent(queue)}`;

/**
 * @param {string} path
 * @param {Record<string, unknown>} [query] lists are repeated; absent values are left out
 */
export function address(path, query = {}) {
  const pairs = Object.entries(query).flatMap(([key, value]) =>
    value === undefined || value === "" || value === false ? [] : [value].flat().map((each) => [key, String(each)]),
  );
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{query?: object, body?: object, signal?: AbortSignal, accept?: string}} [options]
 */
async function respond(method, path, { query, body, signal, accept = "application/json" } = {}) {
  let response;
  try {
    response = await fetch(address(path, /** @type {Record<string, unknown>} */ (query)), {
      method,
      signal,
      headers: { ...headers(), Accept: accept, ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("the server does not respond; the page tries again by itself", 0, "");
  }
  note(response.status);
  if (!response.ok) throw await refusalOf(response);
  return response;
}

/** @param {Response} response */
async function refusalOf(response) {
  const text = await response.text();
  try {
    const { error, message, reason } = JSON.parse(text);
    return new Refusal(error ?? message ?? text, response.status, reason ?? "");
  } catch {
    return new Refusal(text.slice(0, 500) || `HTTP ${response.status}`, response.status, "");
  }
}

/**
 * Call a method and return its response.
 * @param {string} method
 * @param {string} path
 * @param {{query?: object, body?: object, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function call(method, path, options) {
  const text = await (await respond(method, path, options)).text();
  return text ? JSON.parse(text) : {};
}

/**
 * Call a method whose response is lines of JSON, and yield it in pieces as they come.
 * @param {string} path
 * @param {{query?: object, signal?: AbortSignal}} options
 */
export async function* lines(path, options) {
  const response = await respond("GET", path, { ...options, accept: "application/x-ndjson" });
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refusal("the server ended the response early, so it is not complete", 0, "");
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Call a method whose response is a stream, and yield its events.
 * @param {string} method
 * @param {string} path
 * @param {{query?: object, body?: object, signal?: AbortSignal}} [options]
 */
export async function* events(method, path, options) {
  const response = await respond(method, path, { ...options, accept: "text/event-stream" });
  for await (const event of parsed(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
    if (event.event === "error") {
      const { error, reason } = JSON.parse(event.data);
      throw new Refusal(error, 0, reason ?? "");
    }
    if (event.data) yield { event: event.event, data: JSON.parse(event.data) };
  }
}

/**
 * Yield the server-sent events of a body.
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* parsed(body) {
  const decoder = /** @type {ReadableWritablePair<string, Uint8Array>} */ (new TextDecoderStream());
  const reader = body.pipeThrough(decoder).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop() ?? "";
      for (const part of parts) yield eventOf(part);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {string} text */
function eventOf(text) {
  const event = { id: "", event: "message", data: "" };
  for (const line of text.split("\n")) {
    const at = line.indexOf(":");
    const key = line.slice(0, at);
    if (key === "id" || key === "event") event[key] = line.slice(at + 1).trim();
    else if (key === "data") event.data += line.slice(at + 1).trim();
  }
  return event;
}
