/* Links: each part is read by a pattern and a range; all else is ignored */
let written = "", hashed = 0;
function link() {
  const q = point => query(S.layer, point).join(), {block: b, brush} = S;
  const parts = {v: 1, i: S.image, l: site().name, q: q(here()), a: S.axis, u: S.unit, c: S.column, cmp: S.compare,
    w: S.compare === "split" ? S.split : null, m: S.model, o: S.order, p: S.pins.map(q).join(";"),
    r: S.region?.map(Math.round).join(), b: brush && [brush.axis, brush.low, brush.high].join(),
    s: b && [b.axis, ...b.layers, ...b.columns].join(), path: S.path ? 1 : null};
  const said = Object.entries(parts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#${said.map(([key, value]) => `${key}=${String(value).replace("%", "%25")}`).join("&")}`;
}
function read(hash) {
  const said = new URLSearchParams(String(hash).replace(/^#/, "")), next = start(), part = key => said.get(key) ?? "";
  const whole = (key, limit, otherwise) => /^\d{1,5}$/.test(part(key)) && +part(key) < limit ? +part(key) : otherwise;
  if (part("v") !== "1") return next;
  next.image = whole("i", D.images.length, 0);
  next.model = whole("m", D.models.length, 0);
  const l = D.sites.findIndex(s => s.name === part("l"));
  if (l >= 0) next.layer = l;
  const {stride, grid} = site(next.layer);
  const tokens = text => text.split(";").map(pair => pair.match(/^(\d{1,5}),(\d{1,5})$/)).filter(found => found && +found[1] < grid[0] && +found[2] < grid[1])
    .map(found => [0, 1].map(k => center(+found[k + 1], stride[k])));
  [next.y, next.x] = tokens(part("q"))[0] ?? [next.y, next.x];
  next.pins = tokens(part("p")).slice(0, 4);
  for (const [key, name] of [["a", "axis"], ["u", "unit"], ["o", "order"], ["cmp", "compare"]])
    if (choices(name).includes(part(key)) && (name !== "compare" || PAIR)) next[name] = part(key);
  next.column = whole("c", widest, null);
  next.split = whole("w", 101, 50);
  next.path = part("path") === "1";
  if (/^-?\d{1,5}(,-?\d{1,5}){3}$/.test(part("r"))) next.region = part("r").split(",").map(Number);
  const brush = part("b").match(/^([hv]),(-?\d{1,4}),(-?\d{1,4})$/), block = part("s").match(/^([hv])((?:,\d{1,4}){4})$/);
  if (brush) next.brush = {axis: brush[1], low: +brush[2], high: +brush[3]};
  const [from, to, first, last] = block ? block[2].slice(1).split(",").map(Number) : [];
  if (block && from <= to && to <= LAST && first <= last && last < widest)
    next.block = {axis: block[1], layers: [from, to], columns: [first, last]};
  return next;
}
async function go(hash) {
  await show(read(hash));
  return readout();
}
function remember() { // browsers limit how often an address may change
  clearTimeout(hashed);
  hashed = setTimeout(() => {
    written = link();
    try { history.replaceState(null, "", written); } catch { /* in the frame of a notebook there is no address */ }
  }, 300);
}
