/* The state, and the offsets of every token. Positions are (y, x) in pixels of the network's input, tokens (i, j). */
const {abs, ceil, floor, max, min, round, sqrt} = Math;
const $ = id => document.getElementById(id), stage = $("stage"), cells = $("cells"), menu = $("export"), on = (target, type, act, rest) => target.addEventListener(type, act, rest);
const D = JSON.parse($("header").textContent), PAIR = D.models.length > 1, LAST = D.sites.length - 1;
const AXES = {h: "horizontal", v: "vertical"}, SIDES = {left: "h", right: "h", top: "v", bottom: "v"};
const nth = axis => +(axis === "v");
const choices = name => [...$(name).options].filter(option => !option.disabled).map(option => option.value);
const both = act => [0, 1].map(act), clamp = (value, low, high) => min(max(value, low), high);
const range = n => [...Array(n).keys()], sum = values => values.reduce((total, value) => total + value, 0);
const maps = {}, NAMES = D.sites.map(s => s.name);
const start = () => structuredClone(D.start);
let S = start(), hot = null, flip = 0; // hot: the cell of the matrix that is pointed at; flip: blinking shows B
const isDiff = () => S.compare === "diff", seenModel = () => flip ? 1 - S.model : S.model, pair = () => PAIR ? [S.model, 1 - S.model] : [0];
const compared = () => S.compare && !isDiff() ? pair() : [S.model]; // whose numbers are told
const seenModels = () => S.compare === "blink" ? [seenModel()] : compared(); // whose dots are drawn
async function load(image) {
  for (const m in D.models) {
    const key = `m${m}i${image}`;
    maps[key] = await (maps[key] ??= unpack($(key).textContent));
  }
}
async function unpack(text) { // see data.pack
  const packed = new Blob([Uint8Array.from(atob(text), c => c.charCodeAt(0))]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(packed).arrayBuffer()), out = {};
  let from = 0;
  for (const [name, {offsets, stored: [rows, columns]}] of Object.entries(D.sources)) {
    const n = 2 * offsets * rows * columns, values = out[name] = new Int16Array(n);
    for (let k = 0; k < n; k++) {
      values[k] = bytes[from + k] | bytes[from + n + k] << 8;
      if (k % columns) values[k] += values[k - 1];
    }
    from += 2 * n;
  }
  return out;
}
const axes = () => [...S.axis], here = () => [S.y, S.x], image = () => D.images[S.image];
const site = (l = S.layer) => D.sites[l], source = (l = S.layer) => D.sources[site(l).source];
const held = (model, l) => maps[`m${model}i${S.image}`][site(l).source];
const center = (index, stride) => stride * (index + 0.5) - 0.5, middle = (l, ...token) => both(k => center(token[k], site(l).stride[k]));
const half = (o, axis) => o.subarray(nth(axis) * o.length / 2, (1 + nth(axis)) * o.length / 2);
function rint(value) { // halves to the even number, as in numpy
  const up = round(value);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}
function query(l = S.layer, point = here()) {
  const {stride, grid} = site(l), {step} = source(l);
  return both(k => {
    const index = clamp(floor((point[k] + 0.5) / stride[k]), 0, grid[k] - 1);
    return index - index % step;
  });
}
function chosen(l) { // tokens of the region, or the query
  const {stride, grid} = site(l), inside = (index, k) => index % source(l).step === 0 && clamp(center(index, stride[k]), S.region[k], S.region[k + 2]) === center(index, stride[k]);
  const [rows, columns] = both(k => S.region ? range(grid[k]).filter(index => inside(index, k)) : []), found = rows.flatMap(i => columns.map(j => [i, j]));
  return found.length ? found : [query(l)];
}
function offsets(model, l = S.layer, tokens = chosen(l)) { // [2 O] in tokens, mean over tokens
  const {offsets: n, stored: [rows, columns], step} = source(l), map = held(model, l), out = new Float64Array(2 * n);
  for (const [i, j] of tokens) {
    const k = i / step * columns + j / step;
    for (let c = 0; c < 2 * n; c++) out[c] += map[c * rows * columns + k];
  }
  return out.map(value => value / D.unit / tokens.length);
}
const targets = (o, [i, j]) => range(o.length / 2).map(c => [i + rint(o[c + o.length / 2]), j + rint(o[c])]); // the token nearest to each sample
function samples(l, o, q) { // as statistics.sampling.sampling_map
  const {grid, share, kind} = site(l), points = {}, outside = {left: 0, right: 0, top: 0, bottom: 0}, counts = grid.map(size => Array(size).fill(0));
  for (const spot of targets(o, q)) {
    spot.forEach((index, k) => {
      if (index in counts[k]) counts[k][index] += share; else outside[["top", "left", "bottom", "right"][k + 2 * (index > 0)]] += share;
    });
    if (spot.every((index, k) => index in counts[k])) points[spot] = (points[spot] ?? 0) + share;
  }
  return kind === "point" ? {points, outside} : {horizontal: counts[1], vertical: counts[0], outside};
}
function shown(l = S.layer) { // what matrix and table show
  const a = offsets(seenModel(), l);
  return isDiff() ? offsets(1 - S.model, l).map((value, k) => value - a[k]) : a;
}
const order = (l, axis) => (D.orders[site(l).source][S.order] ?? image().orders[site(l).source][S.order])[nth(axis)]; // columns of a layer from left to right
const ofBlock = l => order(l, S.block.axis).slice(S.block.columns[0], S.block.columns[1] + 1);
const inBrush = value => rint(value) >= S.brush.low && rint(value) <= S.brush.high;
function lit(l, o) { // whether a column of an axis is highlighted
  const block = S.block && l >= S.block.layers[0] && l <= S.block.layers[1] ? ofBlock(l) : [], isHot = hot && site(hot.layer).source === site(l).source;
  return (axis, c) => (c === S.column || isHot && hot.axis === axis && hot.column === c || S.block?.axis === axis && block.includes(c)
    || S.brush?.axis === axis && l === S.layer && inBrush(half(o, axis)[c])) && S.axis.includes(axis);
}
