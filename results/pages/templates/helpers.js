// What the other parts share: finding and making elements, numbers as people write them, the theme.
const $ = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const show = (element) => element && element.removeAttribute("hidden");
const read = (id) => { const block = $(id); return block ? JSON.parse(block.textContent) : null; };

const make = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
};
const el = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const draw = (tag, attributes, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const minus = (text) => text.replace("-", "−");
const fixed = (value, digits = 4) => (value === null || value === undefined ? "–" : minus(value.toFixed(digits)));
const signed = (value, digits = 4) => {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : value > 0 ? `+${text}` : minus(text);
};
const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : minus(`${(100 * value).toFixed(digits)}%`));
const thousands = (value) => (value === null || value === undefined ? "–" : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ","));
const span = (low, high, write = signed) => `${write(low)} … ${write(high)}`;
const compact = (value) => {
  for (const [size, suffix] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) if (Math.abs(value) >= size) return minus(`${Number((value / size).toPrecision(6))}${suffix}`);
  return minus(String(Number(value.toPrecision(6))));
};
const significant = (value, digits = 4) => (value === null || value === undefined ? "–" : minus(String(Number(value.toPrecision(digits)))));

// Theme: the system's, unless #dark, #light, the button, or an earlier visit says otherwise. Storage may be denied.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const remembered = () => { try { return localStorage.getItem("equipoise-theme"); } catch { return null; } };
const remember = (theme) => { try { localStorage.setItem("equipoise-theme", theme); } catch { /* for this visit only */ } };
const other = () => ((root.dataset.theme || (system.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
const name = () => { $("theme").textContent = other() === "dark" ? "Dark theme" : "Light theme"; };
const wear = (theme) => { if (theme === "dark" || theme === "light") root.dataset.theme = theme; name(); };
wear(remembered());
wear(location.hash.slice(1));
system.addEventListener("change", name);
addEventListener("hashchange", () => wear(location.hash.slice(1)));
$("theme").addEventListener("click", () => { remember(other()); wear(other()); });
show($("theme"));

// Copying: the clipboard where the browser has one, a selection and the old command elsewhere.
const copied = async (text) => {
  if (navigator.clipboard) {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* denied: the old way */ }
  }
  const field = el("textarea", { class: "away", "aria-hidden": "true" });
  field.value = text;
  (document.querySelector("dialog[open]") || document.body).append(field);
  const before = document.activeElement;
  field.select();
  let done = false;
  try { done = document.execCommand("copy"); } catch { /* nothing more to try */ }
  field.remove();
  if (before) before.focus();
  return done;
};
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy === "link" ? new URL(`#${button.dataset.to}`, location.href).href : button.dataset.copy;
  const before = button.dataset.label || button.textContent;
  button.dataset.label = before;
  const done = await copied(text);
  button.textContent = done ? "Copied" : "Not copied";
  if ($("said")) $("said").textContent = done ? `Copied: ${text}` : "The browser does not allow copying.";
  setTimeout(() => { button.textContent = before; }, 1500);
});
all("[data-copy]").forEach(show);
addEventListener("beforeprint", () => all("details:not(.values)").forEach((details) => { details.open = true; }));
