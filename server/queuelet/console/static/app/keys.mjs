/** Keys: single ones and sequences such as `g q`. None acts on a queue by itself. */
import { signal, useLayoutEffect, useRef } from "./html.mjs";

/** @typedef {{keys: string, what: string, act: (event: KeyboardEvent) => void}} Binding */

/** What the keys do at present, for the list of keys. */
export const bindings = signal(/** @type {Binding[]} */ ([]));
let begun = "";
let begunAt = 0;

/**
 * Bind keys while a component is shown. Later bindings win.
 * @param {[string, string, (event: KeyboardEvent) => void][]} list keys, what they do, and how
 */
export function useKeys(list) {
  /** @type {{current: typeof list}} */
  const latest = useLatest(list);
  // Not useEffect, which waits for a frame: a user may press a key as soon as the component is drawn.
  useLayoutEffect(() => {
    const mine = latest.current.map(([keys, what], i) => ({
      keys,
      what,
      act: (/** @type {KeyboardEvent} */ event) => latest.current[i]?.[2](event),
    }));
    bindings.value = [...bindings.peek(), ...mine];
    return () => {
      bindings.value = bindings.peek().filter((each) => !mine.includes(each));
    };
  }, [list.map(([keys]) => keys).join()]);
}

/**
 * @template T
 * @param {T} value
 */
function useLatest(value) {
  const ref = useRef(value);
  ref.current = value;
  return ref;
}

/** Begin to listen. */
export function listen() {
  addEventListener("keydown", pressed);
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const target = /** @type {HTMLElement} */ (event.target);
  const isTyping = target.matches("input:not([type=checkbox]), select, textarea");
  if (isTyping && event.key !== "Escape") return;
  if (document.querySelector("dialog[open]")) return;
  // What has the focus is what these keys are for.
  const own = { Enter: "a, button, summary, input", " ": "button, summary, input" }[event.key];
  if (own && target.closest(own)) return;
  const sequence = begun && event.timeStamp - begunAt < 1500 ? `${begun} ${event.key}` : event.key;
  begun = "";
  const all = bindings.peek();
  const found = all.findLast((each) => each.keys === sequence) ?? all.findLast((each) => each.keys === event.key);
  if (found) {
    event.preventDefault();
    if (isTyping) target.blur();
    found.act(event);
  } else if (all.some((each) => each.keys.startsWith(`${event.key} `))) {
    begun = event.key;
    begunAt = event.timeStamp;
  }
}
