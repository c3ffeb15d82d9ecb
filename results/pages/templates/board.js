// The board: one task at a time, headings that sort, rows that are found, and the details of each in a dialog.
const tables = all("table.board");
const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
const order = (table, column, direction) => {
  const value = (row) => row.cells[column].dataset.v;
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const [a, b] = [value(one), value(two)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays last in either direction
    return direction * compare(a, b);
  });
  table.tBodies[0].append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, i) => (i === column ? head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort")));
};
tables.forEach((table) => [...table.tHead.rows[0].cells].forEach((head, column) => {
  if (head.dataset.fixed !== undefined) return;
  const button = el("button", { type: "button" }, head.textContent);
  head.replaceChildren(button);
  button.addEventListener("click", () => order(table, column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
}));

const sections = all("section[data-task]");
const wanted = (id) => ($(id) ? $(id).value : "");
const chosen = () => { const input = document.querySelector('#controls input[name="task"]:checked'); return input ? input.value : ""; };
const filter = () => {
  const sought = wanted("find").toLowerCase().split(/\s+/).filter(Boolean);
  let [found, of] = [0, 0];
  sections.forEach((section) => { section.hidden = chosen() !== "" && section.dataset.task !== chosen(); });
  for (const row of tables.flatMap((table) => [...table.tBodies[0].rows])) {
    const fits = sought.every((word) => row.dataset.text.includes(word)) && (!wanted("verdict") || row.dataset.verdict === wanted("verdict"));
    row.hidden = !fits;
    if (row.closest("section").hidden) continue;
    of += 1;
    found += fits;
  }
  if ($("count")) $("count").textContent = found === of ? `${of} rows` : `${found} of ${of} rows`;
};
const pick = (task) => {
  const input = all('#controls input[name="task"]').find((one) => one.value === task);
  if (input && !input.checked && chosen() !== "") { input.checked = true; filter(); }
};
if ($("controls")) {
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("input", filter);
  all('#controls input[name="task"]').forEach((input) => input.addEventListener("change", () => {
    if (input.value) history.replaceState(null, "", `#${all("section[data-task]").find((section) => section.dataset.task === input.value).id}`);
  }));
  show($("controls"));
  filter();
  addEventListener("beforeprint", () => sections.forEach(show));
  addEventListener("afterprint", filter);
}

// Details: every row can be linked to; its address opens what is known of it.
const made = read("rows-data");
const dialog = $("details");
const fact = (label, ...value) => el("div", {}, el("dt", {}, label), el("dd", {}, ...value));
const verdictOf = (word) => { const shown = document.querySelector(`.words .verdict.${CSS.escape(word)}`); return shown ? shown.cloneNode(true) : word; };
const command = (text) => el("p", { class: "command" }, el("code", {}, text), el("button", { type: "button", class: "quiet", "data-copy": text }, "Copy"));
const pretty = (content) => el("pre", { tabindex: 0 }, JSON.stringify(content, null, 2));
const longer = (entry) => {
  if (!entry) return "–";
  if (entry.mean === null || entry.mean === undefined) return entry.extrapolated ? "never reached by the baseline" : "–";
  const write = (value) => (value < 1 ? `${signed(100 * value, 1)} %` : `${fixed(1 + value, 1)} ×`);  // from twice as long on
  return `${write(entry.mean)}${entry.ci_low === null || entry.ci_low === undefined ? "" : ` (${span(entry.ci_low, entry.ci_high, write)})`}${entry.extrapolated ? ", extrapolated" : ""}`;
};
const interval = (entry, write = signed) => `${write(entry.mean)}${entry.ci_low === null ? "" : ` (${span(entry.ci_low, entry.ci_high, write)})`}`;
const paperOf = (paper) => {
  const identifier = String(paper.identifier || "").trim();
  const arxiv = /^arxiv:\s*(\d{4}\.\d{4,5}(?:v\d+)?)$/i.exec(identifier);
  const doi = /^doi:\s*(10\.\d{4,9}\/[-._;()/:a-z0-9]+)$/i.exec(identifier);
  const href = arxiv ? `https://arxiv.org/abs/${arxiv[1]}` : doi ? `https://doi.org/${doi[1]}` : null;
  return [paper.citation, paper.year ? `, ${paper.year}` : "", identifier ? ", " : "", href ? el("a", { href, rel: "noreferrer" }, identifier) : identifier, "."];
};

const figuresOf = (row) => {
  const d = row.delta_loss;
  const p = (value) => (value === null || value === undefined ? "–" : value < 1e-4 ? "< 0.0001" : String(Number(value.toFixed(4))));
  const facts = [fact("Loss (nats/token)", interval(row.val_loss, fixed)), fact("Perplexity", fixed(row.perplexity, 2)), fact("Bits per byte", fixed(row.bits_per_byte))];
  if (d.verdict !== "baseline") {
    facts.push(fact("Δ loss, t interval", interval(d)), fact("Bootstrap interval", d.bootstrap_low === null ? "–" : span(d.bootstrap_low, d.bootstrap_high)), fact("p, t test (Holm)", `${p(d.p_t)} (${p(d.p_adjusted)})`), fact("p, sign flip (Holm)", `${p(d.p_sign_flip)} (${p(d.p_sign_flip_adjusted)})`), fact("Hedges’ g", signed(d.hedges_g, 2)));
    if (row.tokens_saved) facts.push(fact("Tokens saved", longer(row.tokens_saved)));
    for (const [devices, entry] of Object.entries(row.time_saved || {})) facts.push(fact(`Time saved on ${devices} device${devices === "1" ? "" : "s"}`, longer(entry)));
    for (const [part, entry] of Object.entries(row.parts || {})) facts.push(fact(`Δ loss on ${part}`, interval(entry)));
    facts.push(fact("Seeds to decide", d.seeds_to_decide ?? "–"));
  }
  facts.push(fact("MaxVio, worst layer", `${fixed(row.max_vio_global, 3)}, ${fixed(row.max_vio_global_worst, 3)}`), fact("Peak MaxVio", fixed(row.peak_max_vio, 2)));
  if (row.noise_floor) facts.push(fact("Noise floor", `${fixed(row.noise_floor.global, 3)}, batch ${fixed(row.noise_floor.batch, 3)}`));
  facts.push(fact("Balance efficiency", percent(row.balance_efficiency)), fact("Tokens/s", thousands(row.tokens_per_second)));
  if (row.bias) facts.push(fact("Largest bias", fixed(row.bias.max_abs)), fact("Bias sign flips", percent(row.bias.flip_rate)));
  return el("dl", { class: "facts small" }, facts);
};
const seedsOf = (row) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Seeds of ${row.title}` }, el("table", { class: "seeds" },
  el("thead", {}, el("tr", {}, ["Seed", "Loss", "Δ loss"].map((text) => el("th", { scope: "col", class: "num" }, text)), ["Status", "Trial"].map((text) => el("th", { scope: "col" }, text)))),
  el("tbody", {}, row.seeds.map((seed) => el("tr", {}, el("td", { class: "num" }, seed.seed), el("td", { class: "num" }, fixed(seed.val_loss, 5)), el("td", { class: "num" }, signed(seed.delta, 5)),
    el("td", { class: seed.status === "finished" ? null : "lostcell" }, `${seed.status}${seed.failure ? `: ${seed.failure}` : ""}`), el("td", {}, el("code", {}, seed.trial_key)))))));
const originOf = (row, head) => {
  if (!head) return [el("details", {}, el("summary", {}, "Parameters"), pretty({ config: row.config, terms: row.terms })), el("p", { class: "sub" }, "The trials are not beside this board, so their provenance cannot be shown.")];
  const whole = (part) => Object.fromEntries(Object.entries(head[part] || {}).map(([key, place]) => [key, made.parts[place]]));
  const origin = whole("provenance");
  return [el("dl", { class: "facts small" }, fact("Hardware", (origin.hardware || {}).label || "–"), fact("Python", origin.python || "–"), Object.entries(origin.packages || {}).map(([key, version]) => fact(key, version)),
    el("div", { class: "long" }, el("dt", {}, "Code"), el("dd", {}, el("code", {}, origin.git_revision || "–"), origin.git_dirty ? el("span", { class: "tag bad" }, "with uncommitted changes") : null)),
    el("div", { class: "long" }, el("dt", {}, "Corpus"), el("dd", {}, el("code", {}, origin.corpus_digest || "–")))),
  el("details", {}, el("summary", {}, `Resolved configuration, seed ${head.seed}`), pretty(whole("config"))),
  el("details", {}, el("summary", {}, `All measures, seed ${head.seed}`), pretty({ measures: head.measures, timing: head.timing }))];
};
const fill = (place) => {
  const [row, slug] = [board.rows[place], made.slugs[place]];
  const line = $(slug);
  const elsewhere = board.rows.map((one, i) => [one, i]).filter(([one, i]) => one.arm === row.arm && i !== place);
  dialog.replaceChildren(
    el("header", {}, el("h2", { id: "details-title", tabindex: -1, autofocus: "" }, line.querySelector(".swatch").cloneNode(true), row.title), el("p", { class: "sub" }, `${row.task} · arm `, el("code", {}, row.arm), row.rank === null ? "" : ` · rank ${row.rank}`),
      el("p", { class: "buttons" }, el("button", { type: "button", class: "quiet", "data-copy": "link", "data-to": slug }, "Copy link"), el("button", { type: "button", class: "quiet", "data-close": "" }, "Close"))),
    el("p", { class: "saying" }, verdictOf(row.delta_loss.verdict), ` ${row.delta_loss.words.charAt(0).toUpperCase()}${row.delta_loss.words.slice(1)}.`, row.note ? el("em", {}, ` ${row.note}`) : null),
    row.paper && row.paper.citation ? el("p", { class: "sub" }, paperOf(row.paper)) : "",
    el("h3", {}, "Run it again"), command(line.querySelector("[data-copy]").dataset.copy),
    ...(elsewhere.length ? [el("h3", {}, "On the other tasks"), el("ul", { class: "plain" }, elsewhere.map(([one, i]) => el("li", {}, el("a", { href: `#${made.slugs[i]}` }, one.task), ` ${one.delta_loss.verdict === "baseline" ? "" : interval(one.delta_loss)} `, verdictOf(one.delta_loss.verdict))))] : []),
    el("h3", {}, "Figures of this row"), figuresOf(row), el("h3", {}, "Seeds"), seedsOf(row), el("h3", {}, "Configuration and provenance"), ...originOf(row, made.heads[place]));
};
const board = made ? read("data") : null;
let opener = null;
const open = () => {
  let to = "";
  try { to = decodeURIComponent(location.hash.slice(1)); } catch { /* not an address of ours */ }
  const place = made ? made.slugs.indexOf(to) : -1;
  const target = to && $(to);
  const section = target && target.closest("section[data-task]");
  if (section) pick(section.dataset.task);
  if (target instanceof HTMLDetailsElement) target.open = true;
  if (place < 0) { if (dialog && dialog.open) dialog.close(); if (section) target.scrollIntoView(); return; }
  fill(place);
  dialog.dataset.row = to;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  $("details-title").focus();
};
if (dialog) {
  dialog.addEventListener("close", () => {
    if (location.hash === `#${dialog.dataset.row}`) history.replaceState(null, "", location.pathname + location.search);
    if (opener && opener.isConnected) opener.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("[data-close]")) dialog.close(); });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#row-']");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    if (!dialog.open) opener = link;
    history.replaceState(null, "", link.hash);
    open();
  });
}
addEventListener("hashchange", open);
open();

all("[data-save]").forEach((button) => {
  show(button);
  button.addEventListener("click", () => {
    const link = el("a", { href: URL.createObjectURL(new Blob([$("data").textContent], { type: "application/json" })), download: button.dataset.save });
    link.click();
    URL.revokeObjectURL(link.href);
  });
});
