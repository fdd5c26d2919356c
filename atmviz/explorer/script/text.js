/* Numbers as text */
const along = axis => +(axis === "h"), ENDS = {h: ["left", "right"], v: ["up", "down"]};
const factor = (l, axis) => S.unit === "px" ? site(l).stride[along(axis)] : S.unit === "%" ? 100 / site(l).grid[along(axis)] : 1;
const number = (value, l, axis) => `${(value * factor(l, axis)).toFixed(S.unit === "tokens" ? 2 : 1)} ${S.unit}`;
function heading(value, l, axis) {
  return `${number(Math.abs(value), l, axis)} ${isDiff() ? "further " : ""}${ENDS[axis][+(value > 0)]}`;
}
function channels(l, column) {
  const {share, channels: all} = site(l), first = column * share % all;
  return [first, first + share - 1];
}
function columnText(l, column, o = shown(l), axes = S.axis) {
  const n = o.length / 2, [first, last] = channels(l, column);
  if (column >= n) return `layer ${site(l).name} has ${n} columns`;
  const which = first === last ? `channel ${first}` : `channels ${first} to ${last}`;
  return `layer ${site(l).name}, column ${column}, ${which}: ${[...axes].map(axis => heading(half(o, axis)[column], l, axis)).join(", ")}`;
}
function blockText() {
  const {axis, layers: [from, to]} = S.block, values = [];
  for (let l = from; l <= to; l++) values.push(...ofBlock(l).map(c => half(shown(l), axis)[c]));
  return `block of ${values.length} cells, layers ${site(from).name} to ${site(to).name}: mean ${(sum(values) / values.length).toFixed(2)} tokens ${AXES[axis]}`;
}
const beyond = outside => Object.entries(outside).filter(([side, count]) => count && S.axis.includes(SIDES[side]));
function readout() {
  const l = S.layer, {name, source: from, grid, share, kind} = site(l), o = shown(l), q = query(l), n = o.length / 2;
  const sampled = samples(l, offsets(S.model, l), q), tokens = regionTokens(l)?.length ?? 1, mean = {}, values = {};
  for (const axis of "hv") {
    values[AXES[axis]] = [...half(o, axis)];
    mean[AXES[axis]] = sum(values[AXES[axis]].map(Math.abs)) / n;
  }
  const out = beyond(sampled.outside);
  const text = `layer ${name}${from === name ? "" : ` (offsets of ${from})`}, ${tokens > 1 ? `mean over ${tokens} tokens`
    : `query row ${q[0]} column ${q[1]}`} of ${grid.join(" × ")}: mean |${isDiff() ? "B − A" : "offset"}| `
    + axes().map(axis => `${number(mean[AXES[axis]], l, axis)} ${AXES[axis]}`).join(", ")
    + (out.length ? `; channels outside the map: ${out.map(([side, count]) => `${count} ${side}`).join(", ")}` : "");
  const column = S.column === null || S.column >= n ? null : S.column;
  return {image: image().name, model: D.models[S.model].title, layer: name, source: from, query: q, grid, kind,
    channels: n * share, tokens, ...sampled, mean_abs: mean, offsets: values, column, text};
}
