/* The state, and the offsets of every token. Positions are (y, x) in pixels of the network's input, tokens (i, j). */
const $ = id => document.getElementById(id);
const D = JSON.parse($("header").textContent), PAIR = D.models.length > 1, LETTERS = "ABCD";
const AXES = {h: "horizontal", v: "vertical"}, SIDES = {left: "h", right: "h", top: "v", bottom: "v"};
const choices = name => [...$(name).options].map(option => option.value), isDiff = () => S.compare === "diff";
const on = (target, type, act, rest) => target.addEventListener(type, act, rest), LAST = D.sites.length - 1;
const maps = {}, orders = {};
let S = start(), hot = null; // hot: the cell of the matrix that is pointed at

function start() {
  const third = D.sites.map((s, l) => s.name.startsWith("3_") ? l : -1);
  const last = Math.max(...third), [h, w] = D.size;
  return {image: 0, model: 0, layer: last < 0 ? LAST : last, y: h / 2, x: w / 2, axis: "hv", column: null,
    unit: "tokens", order: "index", compare: "", split: 50, pins: [], region: null, block: null, brush: null, path: false};
}
async function load(image) {
  for (let m = 0; m < D.models.length; m++) {
    const key = `m${m}i${image}`;
    maps[key] ??= unpack($(key).textContent);
    maps[key] = await maps[key];
  }
}
async function unpack(text) { // see data.pack
  const packed = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), out = {};
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
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const range = n => [...Array(n).keys()], sum = values => values.reduce((total, value) => total + value, 0);
const center = (index, stride) => stride * (index + 0.5) - 0.5;
const half = (o, axis) => o.subarray(axis === "v" ? o.length / 2 : 0, axis === "v" ? o.length : o.length / 2);
function rint(value) { // halves to the even number, as in numpy
  const low = Math.floor(value), rest = value - low;
  return rest < 0.5 ? low : rest > 0.5 ? low + 1 : low % 2 ? low + 1 : low;
}
function query(l = S.layer, point = here()) {
  const {stride, grid} = site(l), {step} = source(l);
  return [0, 1].map(k => {
    const index = clamp(Math.floor((point[k] + 0.5) / stride[k]), 0, grid[k] - 1);
    return index - index % step;
  });
}
function regionTokens(l) {
  if (!S.region) return null;
  const [top, left, bottom, right] = S.region, {stride, grid} = site(l), {step} = source(l), found = [];
  for (let i = 0; i < grid[0]; i += step) for (let j = 0; j < grid[1]; j += step) {
    const y = center(i, stride[0]), x = center(j, stride[1]);
    if (y >= top && y <= bottom && x >= left && x <= right) found.push([i, j]);
  }
  return found.length ? found : null;
}
function offsets(model, l = S.layer, tokens = regionTokens(l) ?? [query(l)]) { // [2 O] in tokens, mean over tokens
  const {offsets: n, stored: [rows, columns], step} = source(l), map = held(model, l), out = new Float64Array(2 * n);
  for (const [i, j] of tokens) {
    const k = i / step * columns + j / step;
    for (let c = 0; c < 2 * n; c++) out[c] += map[c * rows * columns + k];
  }
  return out.map(value => value / D.unit / tokens.length);
}
function samples(l, o, q) { // as statistics.sampling.sampling_map
  const {grid, share, kind} = site(l), n = o.length / 2, points = {};
  const horizontal = Array(grid[1]).fill(0), vertical = Array(grid[0]).fill(0);
  const outside = {left: 0, right: 0, top: 0, bottom: 0};
  for (let c = 0; c < n; c++) {
    const j = q[1] + rint(o[c]), i = q[0] + rint(o[n + c]);
    if (j < 0) outside.left += share; else if (j >= grid[1]) outside.right += share; else horizontal[j] += share;
    if (i < 0) outside.top += share; else if (i >= grid[0]) outside.bottom += share; else vertical[i] += share;
    if (i in vertical && j in horizontal) points[[i, j]] = (points[[i, j]] ?? 0) + share;
  }
  return kind === "point" ? {points, outside} : {horizontal, vertical, outside};
}
function shown(l = S.layer) { // what matrix and table show
  if (!isDiff()) return offsets(S.model, l);
  const a = offsets(0, l);
  return offsets(1, l).map((value, k) => value - a[k]);
}
function order(l, axis) { // columns of a layer from left to right
  const n = source(l).offsets, key = [S.order, S.image, site(l).source, axis];
  if (S.order === "index") return orders[n] ??= range(n);
  return orders[key] ??= (() => {
    const map = half(held(0, l), axis), area = map.length / n;
    const rank = range(n).map(c => {
      const values = map.subarray(c * area, (c + 1) * area), mean = sum(values) / area;
      return S.order === "mean" ? mean : values.reduce((total, value) => total + (value - mean) ** 2, 0);
    });
    return range(n).sort((a, b) => rank[b] - rank[a] || a - b);
  })();
}
const ofBlock = l => order(l, S.block.axis).slice(S.block.columns[0], S.block.columns[1] + 1);
function lit(l, o) { // what is highlighted: columns by axis
  const n = o.length / 2, found = {h: new Set(), v: new Set()};
  const add = (axis, c) => c < n && S.axis.includes(axis) && found[axis].add(c);
  if (hot && site(hot.layer).source === site(l).source) add(hot.axis, hot.column);
  if (S.column !== null) for (const axis of "hv") add(axis, S.column);
  if (S.block && l >= S.block.layers[0] && l <= S.block.layers[1]) ofBlock(l).forEach(c => add(S.block.axis, c));
  if (S.brush && l === S.layer) half(o, S.brush.axis).forEach((value, c) =>
    rint(value) >= S.brush.low && rint(value) <= S.brush.high && add(S.brush.axis, c));
  return found;
}
