// What every part of the page uses: elements, words, times. What people type becomes text nodes, and nothing else.

export const start = JSON.parse(document.getElementById("start").textContent);
const { lang } = document.documentElement;
/** The page's language, as her browser writes it: half past two is not the same in London and in New York. */
export const language = navigator.languages.find((each) => each.startsWith(lang)) ?? lang;
export const byId = (id) => document.getElementById(id);

const plural = new Intl.PluralRules(language);
const timeFormat = new Intl.DateTimeFormat(language, { timeStyle: "short" });
const dayFormat = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long" });
const yearFormat = new Intl.DateTimeFormat(language, { dateStyle: "long" });
const shortDayFormat = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
const fullFormat = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "short" });
const relativeFormat = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const DAY = 86_400_000; // ms

/** A sentence of the page; `{name}` in it is replaced. With `count`, the form for one or for many. */
export function say(name, values = {}) {
  const key = "count" in values && plural.select(values.count) === "one" ? `${name}_one` : name;
  return (start.words[key] ?? start.words[name]).replace(/\{(\w+)\}/g, (_, field) => values[field]);
}

/** A new element: `class` and attributes, `on…` listeners, and children that are nodes or text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A picture of the sprite in the page. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A name that somebody has chosen: its direction is its own business. */
export const name = (text, attributes = {}) => el("bdi", attributes, text);

/** A person or a room as a circle: her picture where it comes from here, or else her initials. */
export function avatar({ id, name: called, avatar: url }, extra = "") {
  const hue = `hue-${Math.abs(id) % 8}`;
  if (url && sameOrigin(url)) return el("img", { class: `avatar ${extra}`, src: url, alt: "", loading: "lazy" });
  const letters = [...called.trim().matchAll(/(?<=^|\s)\p{L}|(?<=^|\s)\p{N}/gu)].map(([letter]) => letter);
  const initials = letters.length > 1 ? letters[0] + letters.at(-1) : (letters[0] ?? "#");
  return el("span", { class: `avatar ${hue} ${extra}`, "aria-hidden": "true" }, initials.toUpperCase());
}

function sameOrigin(url) {
  try {
    return new URL(url, location.href).origin === location.origin;
  } catch {
    return false;
  }
}

const LINK = /\bhttps?:\/\/[^\s<>"]+/gi;

/** Text with its addresses as links; only http and https are ones. */
export function linked(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    // What ends a sentence is not a part of the address; a bracket is where one was opened.
    let address = match[0].replace(/[.,;:!?'…]+$/u, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
    let url;
    try {
      url = new URL(address);
    } catch {
      continue;
    }
    nodes.push(text.slice(end, match.index));
    nodes.push(el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", dir: "ltr" }, address));
    end = match.index + address.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();

/** Days from today to a moment: 0 today, -1 yesterday. */
const daysAway = (date) => Math.round((midnight(date) - midnight(new Date())) / DAY);

const capital = (text) => text.charAt(0).toLocaleUpperCase(language) + text.slice(1);

/** "Today", "Yesterday", or the day. */
export function dayName(iso) {
  const date = new Date(iso);
  const away = daysAway(date);
  if (away > -2 && away < 1) return capital(relativeFormat.format(away, "day"));
  return capital((date.getFullYear() === new Date().getFullYear() ? dayFormat : yearFormat).format(date));
}

export const sameDay = (one, other) => midnight(new Date(one)) === midnight(new Date(other));

/** The time of today, or the day of before. */
export function shortMoment(iso) {
  const date = new Date(iso);
  const away = daysAway(date);
  if (away === 0) return timeFormat.format(date);
  return away === -1 ? relativeFormat.format(-1, "day") : shortDayFormat.format(date);
}

export const clock = (iso) => el("time", { datetime: iso, title: fullFormat.format(new Date(iso)) }, timeFormat.format(new Date(iso)));

export function fileSize(bytes) {
  const units = ["byte", "kilobyte", "megabyte"];
  const power = bytes < 1000 ? 0 : bytes < 1_000_000 ? 1 : 2;
  const style = { style: "unit", unit: units[power], unitDisplay: "short", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(language, style).format(bytes / 1000 ** power);
}

export const duration = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** Tell a screen reader, which reads it when it has finished what it reads. */
export function announce(text) {
  const region = byId("announcer");
  region.append(el("p", {}, text));
  while (region.childElementCount > 5) region.firstElementChild.remove();
}
