/** What the user has chosen, remembered by the browser. Nothing secret is stored. */
import { effect, signal } from "./html.mjs";

/**
 * A setting that is remembered, if the browser allows that.
 * @param {string} name
 * @param {string[]} values what it may be; the first is the default
 */
function remembered(name, values) {
  const key = `queuelet.${name}`;
  /** @type {string | null} */
  let stored = null;
  try {
    stored = localStorage.getItem(key);
  } catch {
    // Storage is off. The setting lasts as long as the page.
  }
  const setting = signal(stored !== null && values.includes(stored) ? stored : values[0]);
  effect(() => {
    const value = setting.value;
    try {
      localStorage.setItem(key, value);
    } catch {
      // As above.
    }
  });
  return setting;
}

/** Colours: those of the system, or always light, or always dark. */
export const theme = remembered("theme", ["system", "light", "dark"]);
/** How times are shown. */
export const clock = remembered("clock", ["local", "utc", "relative"]);
/** How payloads are shown. `auto` is JSON where a payload is JSON, else text, else hex. */
export const view = remembered("view", ["auto", "text", "json", "hex"]);

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

/**
 * The value after this one.
 * @param {import("@preact/signals").Signal<string>} setting
 * @param {string[]} values
 */
export const turn = (setting, values) => {
  setting.value = values[(values.indexOf(setting.value) + 1) % values.length];
};
