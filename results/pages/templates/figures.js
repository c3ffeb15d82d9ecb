// Figures: drawn from the page's data at the width there is, with a cursor for pointer and keyboard, switches by arm.
const store = read("figures-data") || { arms: [], figures: {} };
const looks = store.arms;
const off = new Set();
const visible = (arm) => !off.has(arm);

const tableOf = (tracks) => {
  const longest = tracks.reduce((most, track) => (track.stops.length > most.length ? track.stops : most), []);
  const count = Math.min(6, longest.length);
  const picks = Array.from({ length: count }, (_, i) => (count === 1 ? 0 : Math.round((i * (longest.length - 1)) / (count - 1))));
  return el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Strategy"), picks.map((pick) => el("th", { scope: "col", class: "num" }, longest[pick].head)))),
    el("tbody", {}, tracks.map((track) => el("tr", {}, el("th", { scope: "row" }, looks[track.arm].title), picks.map((pick) => el("td", { class: "num" }, track.stops[pick] ? track.stops[pick].value : "–"))))));
};

class Drawn {
  constructor(figure) {
    Object.assign(this, { figure, about: store.figures[figure.dataset.figure], view: 0, at: null, tracks: [] });
    this.box = figure.querySelector(".drawing");
    this.svg = draw("svg", { class: "plot", role: "img" });
    this.cursor = el("div", { class: "cursor", role: "slider", tabindex: 0, "aria-label": `Values of ${this.about.title}`, "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "arrow keys read the values" });
    this.note = el("div", { class: "readout", "aria-hidden": "true" });
    this.note.hidden = true;
    this.box.replaceChildren(this.svg, this.cursor, this.note);
    if (this.about.views.length > 1) this.box.before(this.choice());
    this.values = el("details", { class: "values" }, el("summary", {}, "Values"));
    this.values.addEventListener("toggle", () => this.list());
    figure.append(this.values);
    this.cursor.addEventListener("pointermove", (event) => this.point(event));
    this.cursor.addEventListener("pointerdown", (event) => this.point(event));
    this.cursor.addEventListener("pointerleave", () => this.rest());
    this.cursor.addEventListener("blur", () => this.rest());
    this.cursor.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => { if (this.box.clientWidth && this.box.clientWidth !== this.width) this.draw(); }).observe(this.box);
  }

  choice() {
    const group = `view-${this.figure.dataset.figure}`;
    const field = el("fieldset", { class: "segments" }, el("legend", { class: "away" }, `What ${this.about.title} shows`), this.about.views.map((view, i) => {
      const input = el("input", { type: "radio", name: group, id: `${group}-${i}`, value: i });
      input.checked = i === 0;
      input.addEventListener("change", () => { this.view = i; this.at = null; this.draw(); });
      return [input, el("label", { for: `${group}-${i}` }, view.name)];
    }));
    return field;
  }

  draw() {
    this.width = this.box.clientWidth;
    if (!this.width) return;
    const view = this.about.views[this.view];
    const { height, nodes, tracks } = kinds[view.kind](view, this.width, visible);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-label", `${this.about.title}${view.name ? `, ${view.name}` : ""}. ${view.alt}`);
    this.hand = draw("circle", { class: "hand", r: 6 });
    this.svg.replaceChildren(...nodes, this.hand);
    this.tracks = tracks;
    this.cursor.setAttribute("aria-valuemax", Math.max(0, tracks.reduce((sum, track) => sum + track.stops.length, 0) - 1));
    if (this.figure.querySelector("[data-caption]") && view.caption) this.figure.querySelector("[data-caption]").textContent = view.caption;
    this.rest();
    this.list();
  }

  list() {
    while (this.values.children.length > 1) this.values.lastChild.remove();
    if (this.values.open) this.values.append(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Values of ${this.about.title}` }, tableOf(this.tracks)));
  }

  point(event) {
    const place = this.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - place.left, event.clientY - place.top];
    let best = Infinity;
    let found = null;
    this.tracks.forEach((track, t) => track.stops.forEach((stop, s) => {
      const far = (stop.x - x) ** 2 + (stop.y - y) ** 2;
      if (far < best) [best, found] = [far, [t, s]];
    }));
    if (found) this.say(...found);
  }

  key(event) {
    if (!this.tracks.length || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape") return this.rest();
    const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] };
    if (!(event.key in keys)) return;
    event.preventDefault();
    if (!this.at) return this.say(0, 0);
    let [t, s] = this.at;
    const [down, along] = keys[event.key];
    if (along) s = Math.max(0, Math.min(this.tracks[t].stops.length - 1, s + along));
    if (down) {
      const here = this.tracks[t].stops[s];
      const near = this.tracks.map((track, index) => {
        const place = track.stops.reduce((best, stop, i) => (Math.abs(stop.x - here.x) < Math.abs(track.stops[best].x - here.x) ? i : best), 0);
        return index === t ? [index, s, here.y] : [index, place, track.stops[place].y];
      }).sort((a, b) => a[2] - b[2] || a[0] - b[0]);
      const next = near[near.findIndex((entry) => entry[0] === t) + down];
      if (next) [t, s] = next;
    }
    this.say(t, s);
  }

  say(t, s) {
    this.at = [t, s];
    const track = this.tracks[t];
    const stop = track.stops[s];
    const before = this.tracks.slice(0, t).reduce((sum, one) => sum + one.stops.length, 0);
    this.cursor.setAttribute("aria-valuenow", before + s);
    this.cursor.setAttribute("aria-valuetext", `${looks[track.arm].title}, ${stop.head}: ${stop.value}`);
    this.svg.classList.add("focus");
    all("[data-arm]", this.svg).forEach((part) => part.classList.toggle("on", Number(part.dataset.arm) === track.arm));
    this.hand.setAttribute("cx", stop.x);
    this.hand.setAttribute("cy", stop.y);
    this.hand.style.stroke = paint(looks[track.arm]);
    this.hand.classList.add("on");
    this.note.replaceChildren(el("b", {}, looks[track.arm].title), el("span", {}, stop.head), el("span", {}, stop.value));
    this.note.hidden = false;
    const [wide, tall] = [this.note.offsetWidth, this.note.offsetHeight];
    this.note.style.left = `${Math.max(0, Math.min(this.width - wide, stop.x + (stop.x > this.width / 2 ? -wide - 14 : 14)))}px`;
    this.note.style.top = `${stop.y - tall - 12 < 0 ? stop.y + 14 : stop.y - tall - 12}px`;
  }

  rest() {
    this.note.hidden = true;
    this.svg.classList.remove("focus");
    if (this.hand) this.hand.classList.remove("on");
  }
}

const drawn = all("figure[data-figure]").filter((figure) => store.figures[figure.dataset.figure]).map((figure) => new Drawn(figure));

// Switches: every key of the page shows the same arms; a look at a chip lets the others step back.
const chips = [];
const switched = () => {
  chips.forEach(([arm, chip]) => chip.setAttribute("aria-pressed", visible(arm)));
  drawn.forEach((one) => { one.at = null; one.draw(); });
};
const swatch = (style) => draw("svg", { class: "swatch", viewBox: "0 0 18 10", "aria-hidden": "true" }, draw("path", { d: "M0 5h18", stroke: paint(style), "stroke-width": 2, "stroke-dasharray": style.dash || null }), markOf(style, 9, 5, 2.8, false));
all("[data-key]").forEach((key) => {
  const used = new Set();
  const section = key.closest("section");
  all("figure[data-figure]", section).forEach((figure) => (store.figures[figure.dataset.figure]?.views || []).forEach((view) => [view.series, view.rows, view.points, view.strips, view.panels].flat().filter(Boolean).forEach((entry) => used.add(entry.arm))));
  looks.forEach((style, arm) => {
    if (!used.has(arm)) return;
    const chip = el("button", { type: "button", class: "chip", "aria-pressed": "true" }, swatch(style), style.title);
    chip.addEventListener("click", () => { off.has(arm) ? off.delete(arm) : off.add(arm); switched(); });
    const look = (on) => all(".plot", section).forEach((plot) => {
      plot.classList.toggle("focus", on);
      all("[data-arm]", plot).forEach((part) => part.classList.toggle("on", Number(part.dataset.arm) === arm));
    });
    chip.addEventListener("pointerenter", () => visible(arm) && look(true));
    chip.addEventListener("pointerleave", () => look(false));
    chips.push([arm, chip]);
    key.append(chip);
  });
  const every = (label, change) => { const button = el("button", { type: "button", class: "quiet" }, label); button.addEventListener("click", () => { change(); switched(); }); return button; };
  key.prepend(every("All", () => off.clear()), every("None", () => looks.forEach((_, arm) => off.add(arm))));
  show(key);
});
