/** What the parts and screens are made with: components of Preact, templates of htm, and signals. */
import { Component, h, render } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { batch, computed, effect, signal, useComputed, useSignal } from "@preact/signals";
import htm from "htm";

export const html = htm.bind(h);
export { batch, Component, computed, effect, render, signal };
export { useComputed, useEffect, useLayoutEffect, useMemo, useRef, useSignal, useState };
