/** Small pictures, drawn with the colour of their text. */
import { html } from "../html.mjs";

/** @param {string} d the path */
const icon = (d) => html`<svg viewBox="0 0 16 16" aria-hidden="true" fill="none" stroke="currentColor"
  stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"><path d=${d} /></svg>`;

export const searchIcon = icon("M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9M10.5 10.5L14 14");
export const sunIcon = icon("M8 5a3 3 0 1 1 0 6a3 3 0 0 1 0-6M8 1v1M8 14v1M1 8h1M14 8h1M3 3l.7.7M12.3 12.3l.7.7M13 3l-.7.7M3.7 12.3L3 13");
export const moonIcon = icon("M13.5 9.5A6 6 0 0 1 6.5 2.5A6 6 0 1 0 13.5 9.5");
export const halfIcon = icon("M8 2a6 6 0 1 1 0 12a6 6 0 0 1 0-12M8 2v12M8 5h3.5M8 8h5M8 11h3.5");

export const brandIcon = html`<svg viewBox="0 0 20 20" aria-hidden="true" fill="currentColor">
  <rect x="1" y="3" width="18" height="4" rx="2" /><rect x="1" y="8" width="13" height="4" rx="2" opacity=".65" />
  <rect x="1" y="13" width="8" height="4" rx="2" opacity=".35" /></svg>`;
