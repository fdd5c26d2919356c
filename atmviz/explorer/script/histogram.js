/* Offsets of the query's channels over those of all tokens */
const HIGH = 176, BASE = 138, TALL = 104, START = 38;
const scales = {}; // by axis: bins to each side, width of a bin
function panel(axis, row, inner) {
  const models = PAIR ? [seenModel(), 1 - seenModel()] : [0], l = S.layer, all = models.map(model => half(offsets(model), axis).map(rint)), glow = lit(l, offsets(models[0]));
  const reach = max(source().reach[nth(axis)], ...all.flatMap(bins => [...bins.map(abs)])), bins = range(2 * reach + 1), wide = inner / bins.length;
  scales[axis] = {reach, wide};
  const share = (values, k, of) => (values[(values.length - 1) / 2 + k - reach] ?? 0) / of;
  const gray = models.map(model => source().counts[model][nth(axis)]).map(counts => bins.map(k => share(counts, k, sum(counts))));
  const shares = all.map(values => bins.map(k => values.filter(value => value === k - reach).length / values.length));
  const tops = models.map((_, m) => max(...gray[m], ...shares[m])), least = min(...tops), most = max(...tops);
  const top = most > 2 * least ? 1.2 * least : most; // one model may have all at 0
  const tall = value => TALL * min(value / top, 1), group = el("g", {transform: `translate(${START} ${HIGH * row + BASE})`});
  const text = (words, x, y, anchor = "middle") => group.append(write(words, x, y, {"text-anchor": anchor}));
  const rect = (x, width, height, name, fill) => group.append(el("rect", {x, y: -height, width, height, class: name, ...(fill && {fill})}));
  const draw = (values, inset, name, fill) => values.forEach((value, k) => {
    if (value) rect((k + inset) * wide, max(wide * (1 - 2 * inset), 0.5), tall(value), name(k), fill);
    if (value > top) text(`↑ ${fixed(100 * value, 0)} %`, (k + 0.5) * wide, -TALL - 3);
  });
  draw(gray[0], 0, () => "all");
  const [low, high] = source().interval[models[0]][nth(axis)];
  if (low) group.append(el("path", {class: "axis", d: bins.map(k => path`M${(k + 0.5) * wide} ${-tall(share(low, k, 1))}V${-tall(share(high, k, 1))}`).join("")}));
  draw(shares[0], 0.2, k => all[0].some((value, c) => value === k - reach && glow(axis, c)) ? "own lit" : "own", ink()[AXES[axis]]);
  if (S.compare) draw(shares[1], 0.08, () => "b");
  if (S.brush?.axis === axis) {
    const [from, to] = [S.brush.low, S.brush.high + 1].map(bin => clamp(bin + reach, 0, bins.length) * wide);
    rect(from, to - from, TALL + 8, "brush");
  }
  group.append(el("path", {class: "axis", d: `M-4 ${-TALL}h4V0h-4h${inner + 4}`}));
  const every = max(1, ceil(reach / 4), ceil(32 / wide));
  for (let r = -reach + reach % every; r <= reach; r += every) text(fixed(r * factor(l, axis), 0), (r + reach + 0.5) * wide, 14);
  text(`${ENDS[axis][0]} ← ${AXES[axis]} offset (${S.unit}) → ${ENDS[axis][1]}`, (inner + 10 - START) / 2, 29);
  text(`${fixed(100 * top, 0)} %`, -6, 4 - TALL, "end");
  text("0", -6, 4, "end");
  text("share of channels; gray: of samples", -START, -TALL - 18, "start");
  return group;
}
function drawBars() {
  const wide = max($("bars").clientWidth, 240), panels = axes().map((axis, row) => panel(axis, row, wide - START - 10));
  $("bars").replaceChildren(el("svg", {viewBox: `0 0 ${wide} ${HIGH * panels.length}`, role: "img", "aria-label": "Histogram of the offsets"}, ...panels));
}
function binOf(event) {
  const {x, y} = spotIn($("bars").firstChild.firstChild, event), axis = S.axis[clamp(floor((y + BASE) / HIGH), 0, S.axis.length - 1)], {reach, wide} = scales[axis];
  return {axis, bin: clamp(floor(x / wide), 0, 2 * reach) - reach};
}
