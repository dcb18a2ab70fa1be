/** A field to filter by, which the key `/` goes to. */
import { html, useRef } from "../html.mjs";
import { useKeys } from "../keys.mjs";
import { searchIcon } from "./icons.mjs";

/**
 * @param {{value: string, label: string, placeholder: string, onInput: (text: string) => void, error?: string, id?: string}} props
 */
export function Filter({ value, label, placeholder, onInput, error = "", id = "filter" }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useKeys([["/", "Filter", () => input.current?.select() ?? input.current?.focus()]]);
  return html`<label class="field">${searchIcon}<input type="search" ref=${input} id=${id} placeholder=${placeholder} aria-label=${label}
      aria-invalid=${error ? "true" : undefined} maxlength="4096" autocomplete="off" spellcheck=${false} value=${value}
      onInput=${(/** @type {any} */ event) => onInput(event.target.value)} /><kbd class="hide" aria-hidden="true">/</kbd></label>
    ${error && html`<p class="error" role="alert">${error}</p>`}`;
}
