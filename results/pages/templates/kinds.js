// The kinds of figure: each turns a view's numbers into a drawing and into tracks, one per arm, of points that can be
// read out. A stop of a track is {x, y, head, value}: where it is, what it is at, what is read there.
const clipped = (box) => {
  const id = `clip-${(clipped.count = (clipped.count || 0) + 1)}`;
  return [draw("clipPath", { id }, draw("rect", { x: box.left, y: box.top - 3, width: box.right - box.left + 3, height: box.bottom - box.top + 6 })), `url(#${id})`];
};
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = `11.5px ${getComputedStyle(document.body).fontFamily}`;
const wide = (text) => ruler.measureText(text).width;
const legible = (title, room) => {
  let shown = title;
  while (shown.length > 4 && wide(shown) > room) shown = `${shown.slice(0, -2).trimEnd()}…`;
  return shown;
};
const titled = (arms) => 2 + Math.max(0, ...arms.map((arm) => wide(looks[arm].title)));
const within = (values, share) => { const sorted = [...values].sort((a, b) => a - b); return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]; };

const lineLimits = (view, series, xs) => {
  const late = [];
  const far = Math.max(...series.map((one) => xs(one).at(-1)));
  for (const one of series) xs(one).forEach((x, i) => { if (x >= (view.settled || 0) * far) late.push([one.y[i] - (one.down ? one.down[i] : 0), one.y[i] + (one.up ? one.up[i] : 0), one.y[i]]); });
  if (view.log === "y") {
    const levels = late.map((value) => value[2]).filter((value) => value > 0).concat(view.floor || []);
    return levels.length ? [Math.min(...levels) / 1.3, Math.max(...levels) * 1.3] : [0.1, 10];
  }
  let [low, high] = [Math.min(...late.map((value) => value[0])), within(late.map((value) => value[1]), 0.995)];
  if (view.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const pad = 0.06 * (high - low) || 0.01;
  return [view.base === undefined ? low - pad : view.base, high + pad];
};

const kinds = {};
kinds.lines = (view, width, shown) => {
  const series = view.series.filter((one) => shown(one.arm));
  const xs = (one) => view.xs[one.x];
  const room = width > 520 ? Math.min(190, 22 + titled(series.map((one) => one.arm))) : 8;
  const height = Math.max(250, Math.min(400, width * 0.5), room > 8 ? 13.2 * series.length + 72 : 0);
  const box = { left: 52, right: width - room, top: 28, bottom: height - 42 };
  if (!series.length) return { height: 80, nodes: [words("Every strategy is switched off.", width / 2, 44, { "text-anchor": "middle", class: "label" })], tracks: [] };
  const [low, high] = lineLimits(view, series, xs);
  const ends = series.flatMap((one) => [xs(one)[0], xs(one).at(-1)]);
  const [left, right] = [Math.min(...ends), Math.max(...ends)];
  const axes = axesOf(box, { low: left, high: right > left ? right : left + 1, label: view.xLabel, log: view.log === "x", ticks: view.ticks }, { low, high, label: view.yLabel, log: view.log === "y" });
  const [clip, inside] = clipped(box);
  const data = draw("g", { "clip-path": inside });
  if (view.floor) axes.behind.prepend(draw("rect", { class: "band", x: box.left, y: axes.ys(view.floor), width: box.right - box.left, height: Math.max(0, box.bottom - axes.ys(view.floor)) }));
  if (view.zero) data.append(draw("path", { class: "zero", d: `M${box.left} ${axes.ys(0)}H${box.right}` }));
  const raise = (y) => axes.ys(view.log === "y" ? Math.max(y, low) : y);
  const tracks = series.map((one) => {
    const style = looks[one.arm];
    const [px, py] = [xs(one).slice(0, one.y.length).map(axes.xs), one.y.map(raise)];
    const group = draw("g", { "data-arm": one.arm });
    if (one.up) group.append(draw("path", { class: "interval", fill: paint(style), d: bandOf(px, one.y.map((y, i) => raise(y - one.down[i])), one.y.map((y, i) => raise(y + one.up[i]))) }));
    group.append(draw("path", { class: "line", d: (view.step ? stepsOf : pathOf)(px, py), stroke: paint(style), "stroke-dasharray": style.dash || null }));
    if (one.lost) group.append(markOf(style, px.at(-1), Math.min(Math.max(py.at(-1), box.top), box.bottom), 4, false, "x"));
    data.append(group);
    const stops = one.y.map((y, i) => ({
      x: px[i], y: Math.min(Math.max(py[i], box.top), box.bottom), head: `${compact(xs(one)[i])} ${view.xUnit}`,
      value: `${write(view, y)}${one.up ? ` (${write(view, y - one.down[i])} … ${write(view, y + one.up[i])})` : ""}${one.lost && i === one.y.length - 1 ? ", then it diverged" : ""}`,
    }));
    return { arm: one.arm, stops };
  });
  const nodes = [clip, axes.behind, data];
  if (room > 8) {
    const levels = apart(tracks.map((track) => track.stops.at(view.named ?? -1).y), 13, box.top + 2, box.bottom);
    tracks.forEach((track, i) => {
      const stop = track.stops.at(view.named ?? -1);
      nodes.push(draw("g", { "data-arm": track.arm }, draw("path", { class: "leader", stroke: paint(looks[track.arm]), d: `M${view.named === undefined ? stop.x : box.right} ${view.named === undefined ? stop.y : track.stops.at(-1).y}L${box.right + 10} ${levels[i]}` }), words(legible(looks[track.arm].title, room - 16), box.right + 14, levels[i] + 4, { class: "name" })));
    });
  }
  return { height, nodes, tracks };
};

// One row per arm with one mark or several, each with or without its interval.
kinds.rows = (view, width, shown) => {
  const rows = view.rows.filter((row) => shown(row.arm));
  const label = Math.min(width * 0.4, 14 + titled(rows.map((row) => row.arm)));
  const notes = width > 480 && rows.some((row) => row.note) ? 12 + Math.max(...rows.map((row) => wide(row.note || ""))) : 12;
  const [step, top] = [24, view.marks.length > 1 || view.sides ? 34 : 14];
  const box = { left: label, right: width - notes, top, bottom: top + step * rows.length + 6 };
  if (!rows.length) return { height: 80, nodes: [words("Every strategy is switched off.", width / 2, 44, { "text-anchor": "middle", class: "label" })], tracks: [] };
  const ends = rows.flatMap((row) => row.marks.flatMap((mark) => mark || [])).concat(view.band || [], view.hatch || []).filter((value) => value !== null);
  let [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (view.centre) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
  const pad = 0.06 * (high - low) || 0.01;
  [low, high] = [view.base === undefined ? low - pad : view.base, high + pad];
  const x = scaleOf(low, high, box.left, box.right);
  const nodes = [];
  const stripe = (range, name) => nodes.push(draw("rect", { class: name, x: x(range[0]), y: box.top, width: Math.max(0, x(range[1]) - x(range[0])), height: box.bottom - box.top }));
  if (view.band) stripe(view.band, "band");
  if (view.hatch) stripe(view.hatch, "hatch");
  for (const value of ticksOf(low, high, Math.max(2, Math.min(6, Math.floor((box.right - box.left) / 70))))) nodes.push(draw("path", { class: "rule", d: `M${x(value)} ${box.top}V${box.bottom}` }), words(compact(value), x(value), box.bottom + 16, { "text-anchor": "middle", class: "tick" }));
  nodes.push(draw("path", { class: "frame", d: `M${box.left} ${box.bottom}H${box.right}` }), words(view.xLabel, Math.max(box.left, Math.min((box.left + box.right) / 2, width - wide(view.xLabel) / 2 - 2)), box.bottom + 34, { "text-anchor": "middle", class: "label" }));
  if (view.zero !== undefined) nodes.push(draw("path", { class: "zero", d: `M${x(view.zero)} ${box.top}V${box.bottom}` }));
  if (view.sides) nodes.push(words(view.sides[0], x(view.zero) - 6, top - 8, { "text-anchor": "end", class: "tick" }), words(view.sides[1], x(view.zero) + 6, top - 8, { class: "tick" }));
  if (view.marks.length > 1) {
    let at = Math.min(box.left, Math.max(8, width - wide(view.marks.join("")) - 24 * view.marks.length));
    view.marks.forEach((said, i) => {
      nodes.push(markOf({ color: "--muted", marker: "o" }, at + 5, 12, sizes[i] || 3, false, view.shapes && view.shapes[i]), words(said, at + 14, 16, { class: "tick" }));
      at += 24 + wide(said);
    });
  }
  const tracks = rows.map((row, i) => {
    const [style, y] = [looks[row.arm], box.top + step * (i + 0.5) + 3];
    const group = draw("g", { "data-arm": row.arm }, words(legible(style.title, label - 14), box.left - 10, y + 4, { "text-anchor": "end", class: "name" }));
    if (row.note && notes > 12) group.append(words(row.note, box.right + 10, y + 4, { class: row.hollow ? "tick" : "name" }));
    const stops = [];
    row.marks.forEach((mark, k) => {
      if (!mark || mark[0] === null) return;
      const several = view.marks.length > 1;
      const at = y + (several && view.shapes ? (k - 1) * 4 : 0);
      if (mark.length > 1 && mark[1] !== null) group.append(draw("path", { class: "whisker", stroke: paint(style), d: `M${x(mark[1])} ${at}H${x(mark[2])}` }));
      group.append(markOf(style, x(mark[0]), at, several ? sizes[k] || 3 : 4, row.hollow, several ? (view.shapes ? view.shapes[k] : "o") : undefined));
      stops.push({ x: x(mark[0]), y: at, head: view.marks[k], value: `${write(view, mark[0])}${mark.length > 1 && mark[1] !== null ? ` (${write(view, mark[1])} … ${write(view, mark[2])})` : ""}${row.note ? `, ${row.note}` : ""}` });
    });
    if (!stops.length) stops.push({ x: x(Math.max(low, Math.min(high, 0))), y, head: view.marks[0], value: row.note || "no value" });
    nodes.push(group);
    return { arm: row.arm, stops };
  });
  return { height: box.bottom + 44, nodes, tracks };
};
const sizes = [5, 3.8, 2.8];

// Single trials and their means in two measures.
kinds.points = (view, width, shown) => {
  const points = view.points.filter((point) => shown(point.arm));
  const room = width > 520 ? Math.min(190, 22 + titled(points.map((point) => point.arm))) : 8;
  const height = Math.max(280, Math.min(440, width * 0.6), room > 8 ? 13.2 * points.length + 72 : 0);
  const box = { left: 52, right: width - room, top: 28, bottom: height - 42 };
  if (!points.length) return { height: 80, nodes: [words("Every strategy is switched off.", width / 2, 44, { "text-anchor": "middle", class: "label" })], tracks: [] };
  const positive = points.flatMap((point) => [point.x, ...point.xs]).concat(view.floor || []).filter((x) => x > 0);
  const edge = positive.length ? Math.min(...positive) / 1.3 : 0.1;
  const losses = points.flatMap((point) => [point.y, ...point.ys]);
  const pad = 0.06 * (Math.max(...losses) - Math.min(...losses)) || 0.01;
  const axes = axesOf(box, { low: edge, high: (positive.length ? Math.max(...positive) : 1) * 1.3, label: view.xLabel, log: true }, { low: Math.min(...losses) - pad, high: Math.max(...losses) + pad, label: view.yLabel });
  if (view.floor) axes.behind.prepend(draw("rect", { class: "band", x: box.left, y: box.top, width: Math.max(0, axes.xs(view.floor) - box.left), height: box.bottom - box.top }));
  const data = draw("g", {});
  const at = (x) => axes.xs(Math.max(x, edge));
  for (const family of view.joined) {
    const members = family.map((arm) => points.find((point) => point.arm === arm)).filter(Boolean);
    if (members.length > 1) data.append(draw("path", { class: "line", "data-arm": members[0].arm, stroke: paint(looks[members[0].arm]), d: pathOf(members.map((point) => at(point.x)), members.map((point) => axes.ys(point.y))) }));
  }
  const tracks = points.map((point) => {
    const group = draw("g", { "data-arm": point.arm });
    point.xs.forEach((x, i) => { const mark = markOf(looks[point.arm], at(x), axes.ys(point.ys[i]), 2, false); mark.setAttribute("class", "seed"); group.append(mark); });
    group.append(markOf(looks[point.arm], at(point.x), axes.ys(point.y), 5, false));
    data.append(group);
    const said = (x, y) => `MaxVio ${significant(x, 3)}, loss ${fixed(y)}`;
    return { arm: point.arm, stops: [{ x: at(point.x), y: axes.ys(point.y), head: "mean", value: said(point.x, point.y) }, ...point.xs.map((x, i) => ({ x: at(x), y: axes.ys(point.ys[i]), head: `seed ${point.seeds[i]}`, value: said(x, point.ys[i]) }))] };
  });
  const nodes = [axes.behind, data];
  if (room > 8) {
    const levels = apart(tracks.map((track) => track.stops[0].y), 13, box.top + 2, box.bottom);
    tracks.forEach((track, i) => nodes.push(draw("g", { "data-arm": track.arm }, draw("path", { class: "leader", stroke: paint(looks[track.arm]), d: `M${track.stops[0].x} ${track.stops[0].y}L${box.right + 10} ${levels[i]}` }), words(legible(looks[track.arm].title, room - 16), box.right + 14, levels[i] + 4, { class: "name" }))));
  }
  return { height, nodes, tracks };
};

// The load of every expert over training, one strip per arm: levels of log2(load / ideal), 64 of them, a character each.
const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
kinds.heat = (view, width, shown) => {
  const strips = view.strips.filter((strip) => shown(strip.arm));
  const label = Math.min(width * 0.38, 14 + titled(strips.map((strip) => strip.arm)));
  const [tall, top] = [40, 6];
  const right = width - 10;
  const bottom = top + tall * strips.length;
  const far = view.steps.at(-1);
  const x = scaleOf(0, far, label, right);
  const nodes = [];
  const share = (character) => 2 ** (((LEVELS.indexOf(character) / 63) * 2 - 1) * view.reach);
  const said = (character) => { const level = LEVELS.indexOf(character); return `${level === 63 ? "≥ " : level === 0 ? "≤ " : ""}${significant(share(character), 2)}×`; };
  const tracks = strips.map((strip, i) => {
    const [columns, lines] = [strip.levels.length / strip.lines, strip.lines];
    const canvas = el("canvas", { width: columns, height: lines });
    const ink = canvas.getContext("2d");
    const pixels = ink.createImageData(columns, lines);
    for (let k = 0; k < strip.levels.length; k++) {
      const level = (LEVELS.indexOf(strip.levels[k]) / 63) * 2 - 1;
      pixels.data.set([...(level < 0 ? [59, 125, 216] : [212, 98, 31]), Math.round(255 * Math.abs(level))], 4 * k);
    }
    ink.putImageData(pixels, 0, 0);
    const y = top + tall * i;
    nodes.push(draw("g", { "data-arm": strip.arm }, draw("image", { href: canvas.toDataURL(), x: label, y: y + 3, width: x(view.steps[columns - 1]) - label, height: tall - 6, preserveAspectRatio: "none" }), draw("rect", { class: "strip", x: label, y: y + 3, width: right - label, height: tall - 6 }), words(legible(looks[strip.arm].title, label - 14), label - 10, y + tall / 2 + 4, { "text-anchor": "end", class: "name" })));
    const stops = [];
    for (let k = 0; k < columns; k++) stops.push({ x: x(view.steps[k] - (view.steps[k] - (view.steps[k - 1] || 0)) / 2), y: y + tall / 2, head: `step ${compact(view.steps[k])}`, value: `busiest ${said(strip.levels[k])}, median ${said(strip.levels[Math.floor(lines / 2) * columns + k])}, idlest ${said(strip.levels[(lines - 1) * columns + k])} of the ideal load` });
    return { arm: strip.arm, stops };
  });
  for (const value of ticksOf(0, far, Math.max(2, Math.floor((right - label) / 90)))) nodes.push(words(compact(value), x(value), bottom + 15, { "text-anchor": "middle", class: "tick" }));
  nodes.push(words("step", (label + right) / 2, bottom + 32, { "text-anchor": "middle", class: "label" }));
  return { height: bottom + 42, nodes, tracks };
};

// One small panel per arm on shared scales: the range over experts and single ones across it.
kinds.panels = (view, width, shown) => {
  const panels = view.panels.filter((panel) => shown(panel.arm));
  const columns = Math.max(1, Math.min(4, Math.floor(width / 220), panels.length));
  const [each, tall, left] = [(width - 46) / columns, 128, 46];
  const reach = 1.06 * Math.max(1e-9, ...panels.flatMap((panel) => [...panel.low.map((v) => -v), ...panel.high]));
  const [far, nodes] = [view.steps.at(-1), []];
  const tracks = panels.map((panel, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const box = { left: left + column * each, right: left + (column + 1) * each - 14, top: 24 + row * tall, bottom: (row + 1) * tall - 8 };
    const [x, y] = [scaleOf(0, far, box.left, box.right), scaleOf(-reach, reach, box.bottom, box.top)];
    const [style, px] = [looks[panel.arm], view.steps.slice(0, panel.low.length).map((step) => scaleOf(0, far, box.left, box.right)(step))];
    const group = draw("g", { "data-arm": panel.arm });
    for (const value of ticksOf(-reach, reach, 3)) {
      group.append(draw("path", { class: "rule", d: `M${box.left} ${y(value)}H${box.right}` }));
      if (!column) group.append(words(compact(value), box.left - 6, y(value) + 4, { "text-anchor": "end", class: "tick" }));
    }
    group.append(draw("path", { class: "frame", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` }), words(legible(style.title, each - 20), box.left + 2, box.top - 6, { class: "name" }));
    group.append(draw("path", { class: "interval", fill: paint(style), d: bandOf(px, panel.low.map(y), panel.high.map(y)) }));
    panel.lines.forEach((line) => group.append(draw("path", { class: "thin", stroke: paint(style), d: pathOf(px, line.map(y)) })));
    if (i >= panels.length - columns) for (const value of ticksOf(0, far, Math.max(2, Math.floor(each / 90)))) group.append(words(compact(value), x(value), box.bottom + 15, { "text-anchor": "middle", class: "tick" }));
    nodes.push(group);
    return { arm: panel.arm, stops: panel.low.map((low, k) => ({ x: px[k], y: y(panel.high[k]), head: `step ${compact(view.steps[k])}`, value: `bias ${span(low, panel.high[k], (v) => significant(v, 3))}` })) };
  });
  const bottom = tall * Math.ceil(panels.length / columns);
  nodes.push(words("step", width / 2, bottom + 26, { "text-anchor": "middle", class: "label" }));
  return { height: bottom + 34, nodes, tracks };
};

const write = (view, value) => {
  if (view.unit === "%") return minus(`${value.toFixed(1)}%`);
  if (view.unit === "nats") return view.centre || view.zero !== undefined ? signed(value) : fixed(value);
  return significant(value, 3);
};
