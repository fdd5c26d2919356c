/* Offsets of the query's channels over those of all tokens */
const HIGH = 170;
const counts = (axis, model = S.model) => source().counts[model][1 - along(axis)];
function reachOf(axis, all) { // bins to each side: nearly all samples of the recording, and all of the query
  const data = counts(axis), middle = (data.length - 1) / 2, total = sum(data);
  let reach = 0, inside = data[middle];
  while (inside < 0.995 * total && reach < middle) {
    reach++;
    inside += data[middle + reach] + data[middle - reach];
  }
  return Math.max(3, reach, ...all.flatMap(o => [...half(o, axis)].map(value => Math.abs(rint(value)))));
}
function drawBars() {
  const models = S.compare ? [S.model, 1 - S.model] : [S.model], all = models.map(model => offsets(model)), glow = lit(S.layer, all[0]);
  const full = Math.max($("bars").clientWidth, 240), inner = full - 30;
  const svg = el("svg", {viewBox: `0 0 ${full} ${HIGH * S.axis.length}`, role: "img", "aria-label": "Histogram of the offsets"}), reaches = {};
  const text = (words, x, y, anchor = "middle") => {
    const element = el("text", {x, y, "text-anchor": anchor});
    element.textContent = words;
    svg.append(element);
  };
  axes().forEach((axis, row) => {
    const reach = reaches[axis] = reachOf(axis, all), bins = range(2 * reach + 1), wide = inner / bins.length, base = HIGH * row + 132;
    const data = counts(axis), middle = (data.length - 1) / 2, total = sum(data);
    const shares = all.map(o => bins.map(k => half(o, axis).filter(value => rint(value) === k - reach).length / (o.length / 2)));
    const gray = bins.map(k => (data[middle + k - reach] ?? 0) / total), top = Math.max(...gray, ...shares.flat());
    const marked = new Set([...glow[axis]].map(c => rint(half(all[0], axis)[c]) + reach));
    const bar = (value, k, name, inset) => value && svg.append(el("rect", {class: name, x: 18 + (k + inset) * wide, y: base - 104 * value / top,
      width: Math.max(wide * (1 - 2 * inset), 0.5), height: 104 * value / top}));
    gray.forEach((value, k) => bar(value, k, "all", 0));
    const [low, high] = source().interval[S.model][1 - along(axis)];
    if (low) svg.append(el("path", {class: "axis", d: bins.filter(k => high[middle + k - reach]).map(k =>
      `M${at(18 + (k + 0.5) * wide)} ${[low, high].map(ends => at(base - 104 * ends[middle + k - reach] / top)).join("V")}`).join("")}));
    shares[0].forEach((value, k) => bar(value, k, `${AXES[axis]}${marked.has(k) ? " lit" : ""}`, 0.2));
    shares[1]?.forEach((value, k) => bar(value, k, "b", 0.08));
    if (S.brush?.axis === axis && S.brush.high >= -reach && S.brush.low <= reach) {
      const from = Math.max(S.brush.low, -reach), to = Math.min(S.brush.high, reach);
      svg.append(el("rect", {class: "brush", x: 18 + (from + reach) * wide, y: base - 112, width: (to - from + 1) * wide, height: 112}));
    }
    svg.append(el("path", {class: "axis", d: `M18 ${base}H${full - 12}`}));
    const every = Math.max(1, Math.ceil(reach / 4));
    for (let r = -reach + reach % every; r <= reach; r += every) text((r * factor(S.layer, axis)).toFixed(0), 18 + (r + reach + 0.5) * wide, base + 14);
    text(`${ENDS[axis][0]} ← ${AXES[axis]} offset (${S.unit}) → ${ENDS[axis][1]}`, 18 + inner / 2, base + 30);
    text(`${(100 * top).toFixed(0)} % of channels`, 18, base - 110, "start");
  });
  svg.binAt = event => {
    const bounds = svg.getBoundingClientRect(), row = Math.floor((event.clientY - bounds.top) / bounds.height * S.axis.length);
    const axis = S.axis[clamp(row, 0, S.axis.length - 1)], reach = reaches[axis], x = (event.clientX - bounds.left) / bounds.width * full;
    return {axis, bin: clamp(Math.floor((x - 18) / inner * (2 * reach + 1)), 0, 2 * reach) - reach};
  };
  $("bars").replaceChildren(svg);
}
