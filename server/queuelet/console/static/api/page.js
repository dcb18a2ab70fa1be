// Shows openapi.json with swagger-ui. All addresses are relative, so that the page works behind any prefix.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// What swagger-ui leaves out for people who use a keyboard or a screen reader.
const page = /** @type {HTMLElement} */ (document.getElementById("page"));
const mend = () => {
  for (const each of page.querySelectorAll("textarea:not([aria-label])")) each.setAttribute("aria-label", "Request body");
  for (const each of page.querySelectorAll("select:not([aria-label])")) {
    const parameter = each.closest("[data-param-name]")?.getAttribute("data-param-name");
    if (parameter) each.setAttribute("aria-label", parameter);
  }
  for (const each of page.querySelectorAll("pre.microlight:not([tabindex])")) each.setAttribute("tabindex", "0");
};
new MutationObserver(mend).observe(page, { childList: true, subtree: true });

// Each operation is a button, and a button must not contain a link. Its address is in the address bar when it opens.
const withoutLinks = () => ({ components: { DeepLink: (/** @type {{text: string}} */ { text }) => text } });

// swagger-ui's package has no types.
const { SwaggerUIBundle } = /** @type {any} */ (window);
SwaggerUIBundle({
  url: new URL("../openapi.json", document.baseURI).href,
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  // The token stays in this page: it is asked for again after a reload.
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: "none",
  plugins: [withoutLinks],
  onComplete: () => page.removeAttribute("aria-busy"),
});
