/** Parts of forms. */
import { html } from "../html.mjs";

/** @param {Event} event */
export const textOf = (event) => /** @type {HTMLInputElement} */ (event.target).value;

/**
 * A control with its label, and a hint below it.
 * @param {{label: string, hint?: string, children?: unknown}} props
 */
export const Field = ({ label, hint = "", children }) => html`<label class="line"><span>${label}</span>${children}${hint && html`<span class="small">${hint}</span>`}</label>`;
