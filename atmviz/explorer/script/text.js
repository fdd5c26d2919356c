/* Numbers as text */
const ENDS = {h: ["left", "right"], v: ["up", "down"]};
const factor = (l, axis) => site(l).factors[S.unit][nth(axis)];
const fixed = (value, digits = 2) => (+value.toFixed(digits) || 0).toFixed(digits).replace("-", "−");
const number = (value, l, axis) => `${fixed(value * factor(l, axis), S.unit === "tokens" ? 2 : 1)} ${S.unit}`;
const short = (text, limit = 40) => text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
const named = model => PAIR ? `${model === S.model ? "A" : "B"} ${D.models[model].name}` : "";
const heading = (value, l, axis) => `${number(abs(value), l, axis)} ${isDiff() ? "further " : ""}${ENDS[axis][+(value > 0)]}`;
function channels(l, column) {
  const {share, channels: all} = site(l), first = column * share % all;
  return [first, first + share - 1];
}
const channelText = ([first, last]) => first === last ? `${first}` : `${first} to ${last}`;
function told(models, tell) { // of each model, or of the difference: tell is given offsets by layer, and whose dots are drawn
  const all = isDiff() ? [["B − A: ", shown, S.model]] : models.map(model => [PAIR ? `${named(model)}: ` : "", l => offsets(model, l), model]);
  return all.map(([name, of, model]) => name + tell(of, model)).join("; ");
}
function columnText(l, column, axes, models = seenModels()) {
  const {name, source: from} = site(l), {role, roles} = D.orders[from], n = source(l).offsets;
  if (column >= n) return `layer ${name} has ${n} columns`;
  const mostly = S.order === "role" && role ? `, mostly ${[...axes].map(axis => D.parts[roles[nth(axis)][column]]).join(" and ")}` : "", which = channels(l, column);
  return `layer ${name}, column ${column}, channel${which[0] < which[1] ? "s" : ""} ${channelText(which)}${mostly}: `
    + told(models, of => [...axes].map(axis => heading(half(of(l), axis)[column], l, axis)).join(", "));
}
function blockText(models) {
  const {axis, layers: [from, to]} = S.block, values = of => range(to - from + 1).flatMap(k => ofBlock(from + k).map(c => half(of(from + k), axis)[c]));
  return `block of ${values(shown).length} cells, layers ${site(from).name} to ${site(to).name}: `
    + told(models, of => `mean ${fixed(sum(values(of)) / values(of).length)} tokens ${AXES[axis]}`);
}
function brushText(models) {
  const {axis, low, high} = S.brush;
  return `${fixed(low, 0)} to ${fixed(high, 0)} tokens ${AXES[axis]}: ${told(models, (of, model) =>
    `${half(offsets(model), axis).filter(inBrush).length} of ${source().offsets} columns`)}`;
}
function aboutText(models) { // of what is pointed at or selected
  return hot ? columnText(hot.layer, hot.column, hot.axis, models) : S.column !== null ? columnText(S.layer, S.column, S.axis, models)
    : S.brush ? brushText(models) : S.block ? blockText(models) : "";
}
const beyond = (l, o, q) => Object.entries(samples(l, o, q).outside).filter(([side, count]) => count && S.axis.includes(SIDES[side]));
const meanAbs = (o, axis) => sum(half(o, axis).map(abs)) / (o.length / 2);
function viewText(models) {
  const l = S.layer, {label, grid} = site(), q = query(), {length} = chosen(l);
  return `layer ${label}, ${length > 1 ? `mean over ${length} tokens` : `query row ${q[0]} column ${q[1]}`} of ${grid.join(" × ")}: ${told(models, (of, model) => {
    const means = axes().map(axis => `${number(meanAbs(of(l), axis), l, axis)} ${AXES[axis]}`), out = beyond(l, offsets(model), q);
    return `mean |${isDiff() ? "difference" : "offset"}| ${means.join(", ")}${isDiff() ? `; dots: ${named(model)}` : ""}`
      + (out.length ? `; channels outside the map: ${out.map(([side, count]) => `${count} ${side}`).join(", ")}` : "")
      + (S.weight === "count" ? "" : `; fusion weights ${fusion(model, l).map(weight => fixed(weight)).join(" and ")}`);
  })}`;
}
function readout(model = seenModel()) {
  const l = S.layer, {name, source: from, grid, share, kind} = site(), o = isDiff() ? shown() : offsets(model), q = query(), n = o.length / 2;
  const by = tell => ({horizontal: tell("h"), vertical: tell("v")});
  return {image: image().name, model: D.models[model].title, layer: name, source: from, query: q, grid, kind, channels: n * share, tokens: chosen(l).length,
    ...samples(l, offsets(model), q), mean_abs: by(axis => meanAbs(o, axis)), offsets: by(axis => [...half(o, axis)]), column: S.column < n ? S.column : null,
    text: viewText([model])};
}
