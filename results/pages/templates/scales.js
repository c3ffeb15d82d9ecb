// Scales, axes and marks of the figures.
const ticksOf = (low, high, count) => {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
};
const logTicks = (low, high) => {
  const factors = high / low > 200 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const factor of factors) if (factor * 10 ** power >= low && factor * 10 ** power <= high) found.push(Number((factor * 10 ** power).toPrecision(6)));
  }
  return found;
};
const scaleOf = (low, high, from, to, log) => {
  const place = log ? Math.log10 : (value) => value;
  const [a, b] = [place(low), place(high)];
  const at = (value) => from + ((place(log ? Math.max(value, low / 1e3) : value) - a) / (b - a || 1)) * (to - from);
  return Object.assign(at, { low, high, log });
};

const paint = (style) => `var(${style.color})`;
const markOf = (style, x, y, size, hollow, shape) => {
  const look = { fill: hollow ? "var(--paper)" : paint(style), stroke: paint(style), "stroke-width": 1.4 };
  const kind = shape || style.marker;
  if (kind === "s") return draw("rect", { x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8, ...look });
  if (kind === "D") return draw("path", { d: `M${x} ${y - size * 1.25}l${size * 1.25} ${size * 1.25}l${-size * 1.25} ${size * 1.25}l${-size * 1.25} ${-size * 1.25}z`, ...look });
  if (kind === "^") return draw("path", { d: `M${x} ${y - size * 1.15}l${size * 1.15} ${size * 2}h${-size * 2.3}z`, ...look });
  if (kind === "x") return draw("path", { d: `M${x - size} ${y - size}l${2 * size} ${2 * size}m0 ${-2 * size}l${-2 * size} ${2 * size}`, ...look, fill: "none" });
  return draw("circle", { cx: x, cy: y, r: size, ...look });
};
const pathOf = (xs, ys) => xs.map((x, i) => `${i ? "L" : "M"}${x.toFixed(1)} ${ys[i].toFixed(1)}`).join("");
const stepsOf = (xs, ys) => xs.map((x, i) => (i ? `H${x.toFixed(1)}V${ys[i].toFixed(1)}` : `M${x.toFixed(1)} ${ys[i].toFixed(1)}`)).join("");
const bandOf = (xs, lows, highs) => `${pathOf(xs, highs)}L${pathOf([...xs].reverse(), [...lows].reverse()).slice(1)}z`;
const words = (text, x, y, attributes) => draw("text", { x, y, ...attributes }, text);

// A pair of axes with grid and ticks. `box` is the plot's rectangle; returns the scales and the group behind the data.
const axesOf = (box, x, y) => {
  const xs = scaleOf(x.low, x.high, box.left, box.right, x.log);
  const ys = scaleOf(y.low, y.high, box.bottom, box.top, y.log);
  const behind = draw("g", { class: "axes" });
  const wide = box.right - box.left;
  const marksX = x.ticks || (x.log ? logTicks(x.low, x.high) : ticksOf(x.low, x.high, Math.max(2, Math.min(8, Math.floor(wide / 80)))));
  const marksY = y.log ? logTicks(y.low, y.high) : ticksOf(y.low, y.high, Math.max(2, Math.floor((box.bottom - box.top) / 48)));
  for (const value of marksX) {
    const at = xs(value);
    behind.append(draw("path", { class: "rule", d: `M${at} ${box.top}V${box.bottom}` }), words(compact(value), at, box.bottom + 16, { "text-anchor": "middle", class: "tick" }));
  }
  for (const value of marksY) {
    const at = ys(value);
    behind.append(draw("path", { class: "rule", d: `M${box.left} ${at}H${box.right}` }), words(compact(value), box.left - 6, at + 4, { "text-anchor": "end", class: "tick" }));
  }
  behind.append(draw("path", { class: "frame", d: `M${box.left} ${box.top}V${box.bottom}H${box.right}` }));
  behind.append(words(x.label, (box.left + box.right) / 2, box.bottom + 34, { "text-anchor": "middle", class: "label" }));
  behind.append(words(y.label, box.left, box.top - 10, { "text-anchor": "start", class: "label", "data-axis": "y" }));
  return { xs, ys, behind };
};

// Moves labels apart, as little as possible, so that neighbours are `gap` apart between low and high.
const apart = (wanted, gap, low, high) => {
  gap = Math.min(gap, (high - low) / Math.max(wanted.length - 1, 1));
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const blocks = [];
  order.forEach((index, place) => {
    blocks.push({ sum: wanted[index] - place * gap, size: 1 });
    while (blocks.length > 1 && blocks.at(-2).sum / blocks.at(-2).size > blocks.at(-1).sum / blocks.at(-1).size) {
      const last = blocks.pop();
      blocks.at(-1).sum += last.sum;
      blocks.at(-1).size += last.size;
    }
  });
  const placed = [];
  const top = high - gap * (wanted.length - 1);
  let place = 0;
  for (const block of blocks) for (let i = 0; i < block.size; i++, place++) placed[order[place]] = Math.min(Math.max(block.sum / block.size, low), top) + place * gap;
  return placed;
};
